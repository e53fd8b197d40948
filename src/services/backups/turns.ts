/** Turns at heavy work: so many at once, the others wait for theirs; for repositories, each by itself: one that hangs holds up no other. */

import { Semaphore } from 'async-mutex'

/** How many backups, restores, prunes and verifies of one repository run at once. */
const heavyAtOnce = 2

export class Turns {
  readonly #semaphore: Semaphore

  constructor(atOnce: number) {
    this.#semaphore = new Semaphore(atOnce)
  }

  /** Runs `work` when it is its turn. @throws the signal's reason when that aborts before */
  async with<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    const release = await this.#acquire(signal)
    try {
      return await work()
    } finally {
      release()
    }
  }

  async #acquire(signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted()
    const turn = this.#semaphore.acquire().then(([, release]) => release)
    try {
      return await orAborted(turn, signal)
    } catch (error) {
      void turn.then((release) => release()) // It passes on a turn that comes too late.
      throw error
    }
  }
}

export class RepositoryTurns {
  readonly #turns = new Map<string, Turns>()

  /** As `Turns.with`, among those of the repository at `url`. */
  with<T>(url: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    const turns = this.#turns.get(url) ?? new Turns(heavyAtOnce)
    this.#turns.set(url, turns)
    return turns.with(signal, work)
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
