/**
 * This node's signs of life on a share, and what comes of their absence: when none could be given for too long, other
 * nodes may take what this one has, and it has to stop writing before. Looks as often whether its rights are still its
 * own.
 */

import type { Log } from '../../src/driver.ts'
import type { Mounted } from './mounted.ts'
import type { LeaseTimes, OwnNode } from './nodes.ts'

export interface PulseOptions {
  readonly label: string
  readonly own: Pick<OwnNode, 'silentMs'>
  readonly mounted: Pick<Mounted, 'guard'>
  readonly times: LeaseTimes
  readonly log: Log
  /** Gives a sign of life. */
  sign(): Promise<void>
  /** Told at each beat of a silence that is too long. */
  silent(): void
  /** Told of each volume whose right another node has. */
  lost(volumeId: string, detail: string): void
}

export class Pulse {
  readonly #options: PulseOptions
  #timer: NodeJS.Timeout | undefined
  #signing: Promise<void> | undefined
  /** Without asking the server, and with: the one must not wait for the other. */
  readonly #guarding = { silent: false, asking: false }

  constructor(options: PulseOptions) {
    this.#options = options
  }

  start(): void {
    this.#timer = setInterval(() => this.#beat(), this.#options.times.beatMs)
    this.#beat()
  }

  /** Resolves when the last sign of life has arrived, or failed. */
  async stop(): Promise<void> {
    clearInterval(this.#timer)
    await this.#signing
  }

  #beat(): void {
    if (this.#isSilent()) this.#options.silent()
    void this.#guard()
    // Whether the server answers is told by who looks at it.
    this.#signing ??= this.#options
      .sign()
      .catch(() => undefined)
      .finally(() => {
        this.#signing = undefined
      })
  }

  #isSilent(): boolean {
    return this.#options.own.silentMs > this.#options.times.fenceMs
  }

  async #guard(): Promise<void> {
    const way = this.#isSilent() ? 'silent' : 'asking'
    if (this.#guarding[way]) return
    this.#guarding[way] = true
    const { label, mounted, log, lost } = this.#options
    try {
      for (const { id, name, detail, isLost } of await mounted.guard(() => this.#isSilent())) {
        if (isLost) lost(id, detail)
        log[isLost ? 'error' : 'warn']({ share: label, volume: name, detail }, 'the right to a volume')
      }
    } catch {
      // The server does not answer: the next beat tries again.
    } finally {
      this.#guarding[way] = false
    }
  }
}
