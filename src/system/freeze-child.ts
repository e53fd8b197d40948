/**
 * A program of its own: freezes a file system, copies the image below it, thaws. Started by freeze.ts before anything is
 * frozen; ends early, thawed, when its stdin ends, which happens also when its parent is killed. Signals that stop a daemon
 * do not stop it.
 * Arguments: mountpoint, image, copy, deadline in ms. Exit codes: 0 done, 1 failed (stderr says why), 3 deadline over.
 */

import { exec, run } from './exec.ts'
import { deadlineExit } from './freeze.ts'

const [mountpoint, image, copy, deadlineMs] = process.argv.slice(2) as [string, string, string, string]

for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => undefined)

const orphaned = new AbortController()
for (const event of ['end', 'error'] as const) process.stdin.on(event, () => orphaned.abort())
process.stdin.resume()
const deadline = AbortSignal.timeout(Number(deadlineMs))

// Whoever would read these may be gone, and a failed write must not end this program before it has thawed.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined)

let failure: unknown
try {
  await exec('fsfreeze', ['--freeze', mountpoint], { timeoutMs: Number(deadlineMs) })
  const signal = AbortSignal.any([orphaned.signal, deadline])
  await exec('cp', ['--reflink=auto', '--sparse=auto', '--', image, copy], { signal, timeoutMs: 0 })
} catch (error) {
  failure = error
} finally {
  await run('fsfreeze', ['--unfreeze', mountpoint])
}
if (failure) {
  process.exitCode = deadline.aborted ? deadlineExit : 1
  process.stderr.write(`${(failure as Error).message}\n`)
}
process.stdin.destroy()
