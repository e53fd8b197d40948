/** A program that runs in a machine of the kernel lab: the host's side of what scripts/lab/agent runs. */

import { existsSync, readFileSync } from 'node:fs'
import { until } from './processes.ts'

export interface LabResult {
  /** 128 and more: it died of a signal. */
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export class LabProcess {
  private readonly title: string
  private readonly base: string
  private readonly machineLives: () => boolean

  /** @param base the agent's files, without what tells them apart */
  constructor(title: string, base: string, machineLives: () => boolean) {
    this.title = title
    this.base = base
    this.machineLives = machineLives
  }

  /** @throws when the machine dies */
  async untilStarted(): Promise<void> {
    await this.untilThereIs('pid', 30_000)
  }

  /** In the machine; it leads a process group of that number. */
  get pid(): number {
    return Number(this.read('pid'))
  }

  /** So far. */
  get stdout(): string {
    return this.read('stdout')
  }

  /** So far. */
  get stderr(): string {
    return this.read('stderr')
  }

  get ended(): boolean {
    return this.read('code').endsWith('\n')
  }

  /** Waits for its end. @throws when it takes longer (it goes on then), or when the machine dies */
  async wait(timeoutMs = 60_000): Promise<LabResult> {
    await this.untilThereIs('code', timeoutMs)
    return { code: Number(this.read('code')), stdout: this.stdout, stderr: this.stderr }
  }

  /** A number is there when its line is whole. */
  private async untilThereIs(what: 'pid' | 'code', timeoutMs: number): Promise<void> {
    const there = (): boolean => this.read(what).endsWith('\n')
    await until(`${this.title}: its ${what}`, timeoutMs, () => there() || !this.machineLives())
    if (!there()) throw new Error(`${this.title}: the machine died`)
  }

  private read(what: 'pid' | 'stdout' | 'stderr' | 'code'): string {
    const path = `${this.base}.${what}`
    return existsSync(path) ? readFileSync(path, 'utf8') : ''
  }
}
