/** One at a time for each volume: mounting, unmounting and measuring may be asked for while something else is done to it. */

import { Mutex } from 'async-mutex'

export class Turns {
  readonly #turns = new Map<string, Mutex>()

  /** Calls `use` when it is its turn. @throws the signal's reason while it waits */
  async with<T>(key: string, signal: AbortSignal | undefined, use: () => Promise<T>): Promise<T> {
    const turn = this.#turns.get(key) ?? new Mutex()
    this.#turns.set(key, turn)
    const acquired = turn.acquire()
    try {
      await abortable(acquired, signal)
    } catch (error) {
      acquired.then((release) => release())
      throw error
    }
    try {
      return await use()
    } finally {
      ;(await acquired)()
      if (!turn.isLocked()) this.#turns.delete(key)
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
