/**
 * A place of their own for a dockerd and a Holdfast daemon: a scratch directory, and pid and mount namespaces in which they
 * see each other's mounts and sockets, and nothing else does. /run is empty there, so that a Docker engine of this machine
 * is neither seen nor met. Whatever happens to the test, sandbox-keeper.ts ends and removes all of it.
 */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { childOf, until } from './processes.ts'

/** A program that runs in a sandbox. */
export interface SandboxProcess {
  /** As this test sees it. */
  readonly pid: number
  readonly ended: Promise<void>
  /** Sends the signal and waits for the end. */
  end(signal: 'SIGTERM' | 'SIGKILL', timeoutMs?: number): Promise<void>
}

export interface Sandbox {
  /** Scratch, the same path in the sandbox and outside. Sockets belong in /run: their paths must be short. */
  readonly directory: string
  /** What is at `path` in the sandbox, as this test reaches it. */
  reach(path: string): string
  /** Runs a program; its output is added to the file `NAME.log` of the directory. */
  start(name: string, program: string, args: readonly string[]): Promise<SandboxProcess>
  readLog(name: string): string
  close(): Promise<void>
}

/** Needs root. */
export async function openSandbox(): Promise<Sandbox> {
  const directory = mkdtempSync(join(tmpdir(), 'holdfast-test-'))
  const keeper = spawn(process.execPath, [join(import.meta.dirname, 'sandbox-keeper.ts'), directory], {
    stdio: ['pipe', 'pipe', 'inherit'],
    detached: true, // Ctrl-C is for the tests: the keeper has yet to clean up after them.
  })
  const ended = once(keeper, 'exit')
  const first = await Promise.race([once(keeper.stdout, 'data'), ended]).then(([data]) => Number(String(data)))
  if (!Number.isInteger(first) || first <= 1) throw new Error('the sandbox did not start; these tests need root')
  return {
    directory,
    reach: (path) => `/proc/${first}/root${path}`,
    start: (name, program, args) => startIn(first, join(directory, `${name}.log`), program, args),
    readLog: (name) => readFileSync(join(directory, `${name}.log`), 'utf8'),
    async close() {
      keeper.stdin.end()
      await ended
    },
  }
}

async function startIn(first: number, log: string, program: string, args: readonly string[]): Promise<SandboxProcess> {
  const output = openSync(log, 'a')
  const entered = spawn('nsenter', ['-t', String(first), '-m', '-p', '--', program, ...args], {
    stdio: ['ignore', output, output],
  })
  closeSync(output)
  const ended = once(entered, 'exit').then(() => undefined)
  const pid = await Promise.race([
    childOf(entered.pid as number),
    ended.then(() => Promise.reject(new Error(`${program} ended at once:\n${readFileSync(log, 'utf8')}`))),
  ])
  return {
    pid,
    ended,
    async end(signal, timeoutMs = 30_000) {
      process.kill(pid, signal)
      entered.kill('SIGCONT') // nsenter stops itself when its program was stopped, and would not see the end.
      const late = AbortSignal.timeout(timeoutMs)
      const { promise, reject } = Promise.withResolvers<never>()
      late.addEventListener('abort', () =>
        reject(new Error(`${program} did not end within ${timeoutMs} ms of ${signal}`)),
      )
      await Promise.race([ended, promise])
    },
  }
}

/** Waits until something accepts connections at a unix socket. */
export async function untilListening(path: string, timeoutMs: number): Promise<void> {
  await until(`something that listens at ${path}`, timeoutMs, async () => {
    const socket = connect(path)
    try {
      await once(socket, 'connect')
      return true
    } finally {
      socket.destroy()
    }
  })
}
