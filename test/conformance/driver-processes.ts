/** Programs that work in a volume while a driver is asked to do something about it. They end with what they are given to. */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'

/** Starts driver-writer.ts and waits until it is at work. */
export async function startWriter(directory: string): Promise<AsyncDisposable> {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'driver-writer.ts'), directory], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  await once(child.stdout, 'data')
  return {
    [Symbol.asyncDispose]: async () => {
      const ended = once(child, 'exit')
      child.stdin.end()
      await ended
    },
  }
}

/** A process whose working directory is `directory`. */
export async function holdDirectory(directory: string): Promise<AsyncDisposable> {
  const child = spawn('cat', [], { cwd: directory, stdio: ['pipe', 'ignore', 'ignore'] })
  await once(child, 'spawn')
  return {
    [Symbol.asyncDispose]: async () => {
      const ended = once(child, 'exit')
      child.stdin.end()
      await ended
    },
  }
}

/**
 * Does what a hostile container does while its volume is copied: swaps the directory `real` in `directory` for a symlink to
 * `outside` and back, as fast as it can.
 */
export async function startSwapper(directory: string, outside: string): Promise<AsyncDisposable> {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'driver-swapper.ts'), directory, outside], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  await once(child.stdout, 'data')
  return {
    [Symbol.asyncDispose]: async () => {
      const ended = once(child, 'exit')
      child.stdin.end()
      await ended
    },
  }
}
