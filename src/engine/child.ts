/**
 * A program of its own: does one job on a repository, for the daemon that started it (engine.ts), and tells the end.
 * Never acts without its daemon: it ends at once, with all that it has started, when that is gone. The signals that
 * stop a daemon do not stop it: the daemon says when.
 */

import { toAppError } from '../errors.ts'
import { type JobName, type JobWatch, jobs } from './jobs.ts'
import type { FromChild, StartMessage, ToChild } from './protocol.ts'
import { Site } from './site.ts'

const progressEveryMs = 100

const cancelled = new AbortController()
let taken: (() => void) | undefined

for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => undefined)
// This process leads its group.
process.on('disconnect', () => process.kill(-process.pid, 'SIGKILL'))
process.on('message', (message: ToChild) => {
  if (message.type === 'start') void act(message)
  else if (message.type === 'taken') taken?.()
  else cancelled.abort()
})

function say(message: FromChild): void {
  process.send?.(message)
}

async function act({ place, job, args, knownKey }: StartMessage): Promise<void> {
  const { signal } = cancelled
  const site = new Site(place, { signal, knownKey, onKey: (key) => say({ type: 'key', knownKey: key }) })
  try {
    const run = jobs[job as JobName] as (site: Site, args: unknown, watch: JobWatch) => Promise<unknown>
    say({ type: 'done', result: await run(site, args, { signal, progress: throttled(), take }) })
  } catch (error) {
    const { code, message, details } = toAppError(error)
    say({ type: 'failed', error: { code, message, details } })
  }
}

/** At most ten a second: what was left out is overtaken by the next, or by the end. */
function throttled(): JobWatch['progress'] {
  let saidAt = Number.NEGATIVE_INFINITY
  return (done, total, unit) => {
    if (performance.now() - saidAt < progressEveryMs) return
    saidAt = performance.now()
    say({ type: 'progress', done, total, unit })
  }
}

function take(items: readonly unknown[]): Promise<void> {
  return new Promise((resolve) => {
    taken = resolve
    say({ type: 'take', items })
  })
}
