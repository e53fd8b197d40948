/** The CLI against the real admin API on a real socket, over services in memory. */

import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { run } from '../../../src/cli/main.ts'
import { buildAdminApp } from '../../../src/server/app.ts'
import { type FakeServices, fakeServices } from '../../support/fake-services.ts'

const main = path.resolve(import.meta.dirname, '../../../src/cli/main.ts')

export interface Outcome {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface Program {
  readonly pid: number
  readonly ended: Promise<Outcome>
  readonly stderr: () => string
}

export class Harness implements AsyncDisposable {
  readonly socket: string
  readonly services: FakeServices
  readonly #directory: string
  readonly #app: ReturnType<typeof buildAdminApp>

  private constructor(directory: string, services: FakeServices) {
    this.#directory = directory
    this.socket = path.join(directory, 'holdfast.sock')
    this.services = services
    this.#app = buildAdminApp(services)
  }

  static async start(): Promise<Harness> {
    const harness = new Harness(await mkdtemp(path.join(tmpdir(), 'holdfast-cli-')), fakeServices())
    await harness.#app.listen({ path: harness.socket })
    return harness
  }

  /** Runs a command line in this process. */
  async holdfast(...argv: string[]): Promise<Outcome> {
    const [stdout, stderr]: [string[], string[]] = [[], []]
    const streams = {
      stdout: (text: string) => void stdout.push(text),
      stderr: (text: string) => void stderr.push(text),
      terminal: () => false,
    }
    const code = await run(argv, { HOLDFAST_SOCKET: this.socket }, streams)
    return { code, stdout: stdout.join(''), stderr: stderr.join('') }
  }

  /** Starts the program itself. */
  spawn(...argv: string[]): Program {
    const env = { ...process.env, HOLDFAST_SOCKET: this.socket, NODE_NO_WARNINGS: '1' }
    const child = spawn(process.execPath, [main, ...argv], { env, stdio: ['ignore', 'pipe', 'pipe'] })
    const text = { stdout: '', stderr: '' }
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => (text.stdout += chunk))
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => (text.stderr += chunk))
    const ended = new Promise<Outcome>((resolve) => child.once('close', (code) => resolve({ code, ...text })))
    return { pid: child.pid as number, ended, stderr: () => text.stderr }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#app.close()
    await rm(this.#directory, { recursive: true, force: true })
  }
}
