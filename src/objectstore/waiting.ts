/**
 * Waiting that always ends: calls with a time limit and a signal, sleeps that wake on abort, and gates that let few in
 * at a time.
 */

import type { AppError } from '../errors.ts'

export interface WaitLimit {
  readonly ms: number
  readonly signal?: AbortSignal | undefined
  /** What to throw when the time is up. */
  readonly late: () => AppError
}

/**
 * Runs `work` until it ends, its time is up or the signal aborts, whichever comes first. The signal that `work` is
 * given aborts in both cases; work that does not heed it is left to itself, and how it ends is no longer looked at.
 * @throws `late()`, the signal's reason, or what `work` threw
 */
export async function bounded<T>(limit: WaitLimit, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  limit.signal?.throwIfAborted()
  const { promise, reject } = Promise.withResolvers<never>()
  const controller = new AbortController()
  const leave = (reason: unknown) => {
    reject(reason)
    controller.abort(reason)
  }
  const onAbort = () => leave(limit.signal?.reason)
  const timer = setTimeout(() => leave(limit.late()), limit.ms)
  limit.signal?.addEventListener('abort', onAbort, { once: true })
  try {
    return await Promise.race([promise, work(controller.signal)])
  } finally {
    clearTimeout(timer)
    limit.signal?.removeEventListener('abort', onAbort)
  }
}

/** Sleeps. @throws the signal's reason as soon as it aborts */
export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted()
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const onAbort = () => reject(signal?.reason)
  const timer = setTimeout(resolve, ms)
  signal?.addEventListener('abort', onAbort, { once: true })
  try {
    await promise
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', onAbort)
  }
}

/** Lets a fixed number in at a time; the others wait in the order in which they came. */
export interface Gate {
  /** @returns the way out, to be taken once @throws the signal's reason when it aborts in the queue */
  enter(signal?: AbortSignal): Promise<() => void>
}

export function createGate(places: number): Gate {
  let free = places
  const queue: (() => void)[] = []
  const leave = () => {
    const next = queue.shift()
    if (next) next()
    else free++
  }
  return {
    async enter(signal) {
      signal?.throwIfAborted()
      if (free > 0) {
        free--
        return leave
      }
      await queued(queue, signal)
      return leave
    },
  }
}

async function queued(queue: (() => void)[], signal: AbortSignal | undefined): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  queue.push(resolve)
  const onAbort = () => {
    const index = queue.indexOf(resolve)
    if (index < 0) return // It has been let in already.
    queue.splice(index, 1)
    reject(signal?.reason)
  }
  signal?.addEventListener('abort', onAbort, { once: true })
  try {
    await promise
  } finally {
    signal?.removeEventListener('abort', onAbort)
  }
}
