/** Turns: so many at work at once, the others wait for theirs, in their order. */

import { Semaphore } from 'async-mutex'

export class Turns {
  readonly #atOnce: number
  readonly #semaphore: Semaphore

  constructor(atOnce: number) {
    this.#atOnce = atOnce
    this.#semaphore = new Semaphore(atOnce)
  }

  /** Whether nobody has a turn or waits for one. */
  get isIdle(): boolean {
    return this.#semaphore.getValue() === this.#atOnce
  }

  /** Runs `work` when it is its turn. @throws the signal's reason when that aborts before */
  async with<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    const release = await this.#acquire(signal)
    try {
      return await work()
    } finally {
      release()
    }
  }

  async #acquire(signal: AbortSignal | undefined): Promise<() => void> {
    signal?.throwIfAborted()
    const turn = this.#semaphore.acquire().then(([, release]) => release)
    if (!signal) return turn
    try {
      return await orAborted(turn, signal)
    } catch (error) {
      void turn.then((release) => release()) // It passes on a turn that comes too late.
      throw error
    }
  }
}

/** Turns for each key by itself: one that hangs holds up no other. */
export class KeyedTurns {
  readonly #atOnce: number
  readonly #turns = new Map<string, Turns>()

  constructor(atOnce = 1) {
    this.#atOnce = atOnce
  }

  /** As `Turns.with`, among those of `key`. */
  async with<T>(key: string, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    const turns = this.#turns.get(key) ?? new Turns(this.#atOnce)
    this.#turns.set(key, turns)
    try {
      return await turns.with(signal, work)
    } finally {
      if (turns.isIdle) this.#turns.delete(key)
    }
  }
}

/** What `promise` gives, or the signal's reason when that comes first; then nobody looks at the promise any more. */
export async function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const aborted = Promise.withResolvers<never>()
  const abort = (): void => aborted.reject(signal.reason)
  signal.addEventListener('abort', abort, { once: true })
  if (signal.aborted) abort()
  try {
    return await Promise.race([aborted.promise, promise])
  } finally {
    signal.removeEventListener('abort', abort)
  }
}
