/**
 * A program of its own: freezes a file system, copies the image below it, thaws. Started by freeze.ts before anything is
 * frozen; ends early, thawed, when its stdin ends, which happens also when its parent is killed. Signals that stop a daemon
 * do not stop it.
 * Arguments: mountpoint, image, copy, deadline in ms. Exit codes: 0 done, 1 failed (stderr says why), 3 deadline over.
 */

import { exec, run } from './exec.ts'

const deadlineExit = 3
const [mountpoint, image, copy, deadlineMs] = process.argv.slice(2) as [string, string, string, string]

for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => undefined)

const orphaned = new AbortController()
process.stdin.on('end', () => orphaned.abort()).resume()
const deadline = AbortSignal.timeout(Number(deadlineMs))

try {
  await exec('fsfreeze', ['--freeze', mountpoint], { timeoutMs: Number(deadlineMs) })
  const signal = AbortSignal.any([orphaned.signal, deadline])
  await exec('cp', ['--reflink=auto', '--sparse=auto', '--', image, copy], { signal, timeoutMs: 0 })
} catch (error) {
  process.exitCode = deadline.aborted ? deadlineExit : 1
  process.stderr.write(`${(error as Error).message}\n`)
} finally {
  await run('fsfreeze', ['--unfreeze', mountpoint])
  process.stdin.destroy()
}
