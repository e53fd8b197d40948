/**
 * Locks by name. `with` takes them in one order, so that two can never wait for each other: `volume:` keys first, so that who waits
 * for a volume does not hold its mounts up meanwhile, then `mount:` keys, and those of one kind by their names.
 *
 * `volume:NAME` is held by whatever changes a volume as a whole (create, remove, snapshot, revert, …), however long that takes;
 * `mount:NAME` by a mount or unmount, so that Docker never waits for a long copy.
 */

import { Mutex } from 'async-mutex'
import { AppError } from './errors.ts'

interface Entry {
  readonly mutex: Mutex
  /** Holders and waiters; the entry is forgotten at 0. */
  users: number
  /** What its holder does, for the error of those who wait in vain. */
  doing: string
}

type Release = () => void

export const volumeKey = (name: string): string => `volume:${name}`
export const mountKey = (name: string): string => `mount:${name}`
/** A volume in the trash goes by its id: its name is free for others. No volume's name begins with `~`. */
export const trashKey = (id: string): string => volumeKey(`~${id}`)

/** How long a call waits for another one on the same volume before it says so: far below Docker's 60 s. */
const lockWaitMs = 10_000

export class Locks {
  readonly #entries = new Map<string, Entry>()

  /**
   * Runs `work` while it holds all of `keys`.
   * @param doing what holding them means to others, such as `snapshot db@s1 is being created`
   * @throws ABORTED when a key is not free within `timeoutMs`; then `work` has not begun
   */
  async with<T>(keys: readonly string[], doing: string, work: () => Promise<T>, timeoutMs = lockWaitMs): Promise<T> {
    const held: Release[] = []
    try {
      for (const key of inOrder(keys)) held.push(await this.#acquire(key, doing, timeoutMs))
      return await work()
    } finally {
      for (const release of held.reverse()) release()
    }
  }

  async #acquire(key: string, doing: string, timeoutMs: number): Promise<Release> {
    const entry = this.#entries.get(key) ?? { mutex: new Mutex(), users: 0, doing }
    this.#entries.set(key, entry)
    entry.users++
    const leave = (): void => {
      if (--entry.users === 0) this.#entries.delete(key)
    }
    const release = await acquireWithin(entry.mutex, timeoutMs)
    if (!release) {
      leave()
      throw new AppError('ABORTED', `${entry.doing}; try again when that is done (holdfast operation ls shows it)`)
    }
    entry.doing = doing
    return () => {
      release()
      leave()
    }
  }
}

function inOrder(keys: readonly string[]): string[] {
  const rank = (key: string): number => (key.startsWith('volume:') ? 0 : 1)
  return [...new Set(keys)].sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1))
}

/** @returns undefined when the time is up; a turn that comes later is passed on at once */
async function acquireWithin(mutex: Mutex, timeoutMs: number): Promise<Release | undefined> {
  if (!mutex.isLocked()) return mutex.acquire()
  const turn = mutex.acquire()
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), timeoutMs)
  })
  const release = await Promise.race([turn, late])
  clearTimeout(timer)
  if (!release) void turn.then((passOn) => passOn())
  return release
}
