/**
 * An object store in this process's memory: the contract in its shortest form, for tests. Nothing survives the process.
 */

import { AppError } from '../errors.ts'
import { checkKey, checkPrefix, checkRange, type ObjectStore, type StoredObject } from './objectstore.ts'

interface Entry {
  readonly data: Uint8Array
  readonly modifiedAt: Date
}

/** `name` only makes its URL, `memory:NAME`. */
export function openMemoryStore(name = 'test'): ObjectStore {
  const entries = new Map<string, Entry>()
  const described = (key: string, entry: Entry): StoredObject => ({
    key,
    size: entry.data.length,
    modifiedAt: entry.modifiedAt,
  })
  return {
    url: `memory:${name}`,
    facts: { kind: 'memory', ifAbsent: 'kept', maxObjectSize: 2 ** 31, details: {} },
    async put(key, data, { ifAbsent, signal } = {}) {
      checkKey(key)
      signal?.throwIfAborted()
      if (ifAbsent && entries.has(key)) throw new AppError('ALREADY_EXISTS', `memory:${name}: ${key} is there already`)
      entries.set(key, { data: Uint8Array.from(data), modifiedAt: new Date() })
    },
    async get(key, range, { signal } = {}) {
      checkKey(key)
      if (range) checkRange(range)
      signal?.throwIfAborted()
      const entry = entries.get(key)
      if (!entry) throw new AppError('NOT_FOUND', `memory:${name}: there is no ${key}`)
      if (range && range.end > entry.data.length) {
        throw new AppError('CORRUPT', `memory:${name}: ${key} ends at ${entry.data.length}, before ${range.end}`)
      }
      return Uint8Array.from(entry.data.subarray(range?.start, range?.end))
    },
    async stat(key, { signal } = {}) {
      checkKey(key)
      signal?.throwIfAborted()
      const entry = entries.get(key)
      return entry && described(key, entry)
    },
    async *list(prefix, { after, signal } = {}) {
      checkPrefix(prefix)
      for (const key of [...entries.keys()].sort()) {
        signal?.throwIfAborted()
        const entry = entries.get(key)
        if (entry && key.startsWith(prefix) && (after === undefined || key > after)) yield described(key, entry)
      }
    },
    async delete(keys, { signal } = {}) {
      keys.forEach(checkKey)
      signal?.throwIfAborted()
      for (const key of keys) entries.delete(key)
    },
    close: async () => undefined,
  }
}
