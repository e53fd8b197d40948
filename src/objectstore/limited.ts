/**
 * An object store that takes no more of the line than it is given: bytes a second up and down, and transfers at a time.
 *
 * The rate holds for the average, not for the moment: an object goes at the speed of the line, and what it took too
 * much is waited for before the next one. Looking and deleting count as transfers that cost no bytes; listings pass
 * freely.
 */

import type { Bytes } from '../model.ts'
import type { ObjectStore } from './objectstore.ts'
import { createGate, type Gate, sleep } from './waiting.ts'

export interface Limits {
  /** Bytes a second; absent: no limit. */
  readonly upload?: Bytes | undefined
  /** Bytes a second; absent: no limit. */
  readonly download?: Bytes | undefined
  /** Transfers at a time. */
  readonly parallel: number
}

/** Wraps a store; closing the wrapper closes it. Several users of one wrapper share its limits. */
export function limited(store: ObjectStore, limits: Limits): ObjectStore {
  const gate = createGate(limits.parallel)
  const up = createBucket(limits.upload)
  const down = createBucket(limits.download)
  return {
    url: store.url,
    get facts() {
      return store.facts
    },
    put: (key, data, options) =>
      inside(gate, options?.signal, async () => {
        await up.take(data.length, options?.signal)
        await store.put(key, data, options)
      }),
    get: (key, range, options) =>
      inside(gate, options?.signal, async () => {
        await down.take(range ? range.end - range.start : 0, options?.signal)
        const bytes = await store.get(key, range, options)
        // How long a whole object is turns out behind the fact; the next transfer waits for it.
        if (!range) down.charge(bytes.length)
        return bytes
      }),
    stat: (key, options) => inside(gate, options?.signal, () => store.stat(key, options)),
    list: (prefix, options) => store.list(prefix, options),
    delete: (keys, options) => inside(gate, options?.signal, () => store.delete(keys, options)),
    close: () => store.close(),
  }
}

async function inside<T>(gate: Gate, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
  const leave = await gate.enter(signal)
  try {
    return await work()
  } finally {
    leave()
  }
}

/** A token bucket that may be overdrawn: what one takes too much, those behind wait for. */
interface Bucket {
  /** Waits until nothing is owed, then takes `bytes`. */
  take(bytes: Bytes, signal: AbortSignal | undefined): Promise<void>
  /** Takes without waiting. */
  charge(bytes: Bytes): void
}

function createBucket(rate: Bytes | undefined): Bucket {
  if (rate === undefined) return { take: async () => undefined, charge: () => undefined }
  /** When everything that was taken is paid for; on performance.now()'s clock. */
  let paidAt = 0
  const charge = (bytes: Bytes) => {
    paidAt = Math.max(paidAt, performance.now()) + (bytes / rate) * 1000
  }
  return {
    charge,
    async take(bytes, signal) {
      for (let wait = paidAt - performance.now(); wait > 0; wait = paidAt - performance.now()) await sleep(wait, signal)
      charge(bytes)
    },
  }
}
