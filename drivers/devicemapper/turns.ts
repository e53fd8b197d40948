/**
 * So many at a time for each key. One for each volume: mounting, unmounting and measuring may be asked for while something else is
 * done to it. A few for making and deleting volumes, so that a hundred at once neither stop the daemon nor each other.
 */

import { Semaphore } from 'async-mutex'

export class Turns {
  readonly #atOnce: number
  readonly #turns = new Map<string, Semaphore>()

  constructor(atOnce = 1) {
    this.#atOnce = atOnce
  }

  /** Calls `use` when it is its turn. @throws the signal's reason while it waits */
  async with<T>(key: string, signal: AbortSignal | undefined, use: () => Promise<T>): Promise<T> {
    const turn = this.#turns.get(key) ?? new Semaphore(this.#atOnce)
    this.#turns.set(key, turn)
    const acquired = turn.acquire()
    try {
      await abortable(acquired, signal)
    } catch (error) {
      acquired.then(([, release]) => release())
      throw error
    }
    try {
      return await use()
    } finally {
      const [, release] = await acquired
      release()
      if (turn.getValue() === this.#atOnce) this.#turns.delete(key)
    }
  }
}

function abortable(wait: Promise<unknown>, signal: AbortSignal | undefined): Promise<unknown> {
  if (!signal) return wait
  signal.throwIfAborted()
  const { promise, resolve, reject } = Promise.withResolvers()
  const abort = (): void => reject(signal.reason)
  signal.addEventListener('abort', abort, { once: true })
  wait.then(resolve, reject)
  return promise.finally(() => signal.removeEventListener('abort', abort))
}
