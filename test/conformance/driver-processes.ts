/** Programs that work in a volume while a driver is asked to do something about it. They end with what they are given to. */

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'

/** Starts driver-writer.ts and waits until it is at work. */
export async function startWriter(directory: string): Promise<AsyncDisposable> {
  return await startProgram('driver-writer.ts', directory)
}

/** A process whose working directory is `directory`. */
export async function holdDirectory(directory: string): Promise<AsyncDisposable> {
  const child = spawn('cat', [], { cwd: directory, stdio: ['pipe', 'ignore', 'ignore'] })
  await once(child, 'spawn')
  return endingWithItsInput(child)
}

/**
 * Does what a hostile container does while its volume is copied: swaps the directory `real` in `directory` for a symlink to
 * `outside` and back, as fast as it can.
 */
export async function startSwapper(directory: string, outside: string): Promise<AsyncDisposable> {
  return await startProgram('driver-swapper.ts', directory, outside)
}

/** A program of this directory, once it says that it is at work. */
async function startProgram(name: string, ...args: string[]): Promise<AsyncDisposable> {
  const child = spawn(process.execPath, [join(import.meta.dirname, name), ...args], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  await once(child.stdout, 'data')
  return endingWithItsInput(child)
}

function endingWithItsInput(child: ChildProcess): AsyncDisposable {
  return {
    [Symbol.asyncDispose]: async () => {
      const ended = once(child, 'exit')
      child.stdin?.end()
      await ended
    },
  }
}
