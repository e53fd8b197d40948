/**
 * Tries whether a store does what its contract says: for a user who adds one, and for what must not be assumed
 * (conditional puts).
 */

import { AppError, isAppError } from '../errors.ts'
import type { ObjectStore, WaitOptions } from './objectstore.ts'

export interface ProbeResult {
  /** Whether of several concurrent puts with `ifAbsent` exactly one succeeded. */
  readonly ifAbsent: 'kept' | 'ignored'
  /** Whether a listing showed an object at once. */
  readonly listing: 'at once' | 'late'
}

const racers = 4
const size = 4096

/**
 * Stores, reads, lists and deletes two small objects under `PREFIX/`. A crash in the middle leaves them there.
 * @throws CORRUPT when it gives other bytes than it was given or keeps what was deleted; PERMISSION_DENIED and whatever
 * else the store throws for what it does not allow
 */
export async function probeStore(store: ObjectStore, prefix: string, options: WaitOptions = {}): Promise<ProbeResult> {
  const name = `${prefix}/${crypto.randomUUID()}`
  const keys = [`${name}-a`, `${name}-b`] as const
  try {
    const listing = await tryObject(store, keys[0], options)
    const ifAbsent = await race(store, keys[1], options)
    await store.delete(keys, options)
    for (const key of keys) {
      if (await store.stat(key, options))
        throw new AppError('CORRUPT', `${store.url} still has what was deleted: ${key}`)
    }
    return { ifAbsent, listing }
  } catch (error) {
    await store.delete(keys, options).catch(() => undefined) // The first failure is the one to tell.
    throw error
  }
}

async function tryObject(store: ObjectStore, key: string, options: WaitOptions): Promise<ProbeResult['listing']> {
  const data = crypto.getRandomValues(new Uint8Array(size))
  await store.put(key, data, options)
  const whole = await store.get(key, undefined, options)
  const part = await store.get(key, { start: 1000, end: 3000 }, options)
  if (Buffer.compare(whole, data) !== 0 || Buffer.compare(part, data.subarray(1000, 3000)) !== 0) {
    throw new AppError('CORRUPT', `${store.url} gives other bytes than it was given; do not use it`)
  }
  if ((await store.stat(key, options))?.size !== size) {
    throw new AppError('CORRUPT', `${store.url} tells a wrong size; do not use it`)
  }
  for await (const found of store.list(key, options)) if (found.key === key) return 'at once'
  return 'late'
}

async function race(store: ObjectStore, key: string, options: WaitOptions): Promise<ProbeResult['ifAbsent']> {
  const data = Array.from({ length: racers }, () => crypto.getRandomValues(new Uint8Array(size)))
  const ends = await Promise.allSettled(data.map((it) => store.put(key, it, { ...options, ifAbsent: true })))
  const lost = ends.flatMap((it) => (it.status === 'rejected' ? [it.reason] : []))
  const failure = lost.find((it) => !isAppError(it, 'ALREADY_EXISTS', 'ABORTED'))
  if (failure) throw failure
  return lost.length === racers - 1 ? 'kept' : 'ignored'
}
