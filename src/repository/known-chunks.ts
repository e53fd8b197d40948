/** Reads all indexes into a table of chunks, and what prunes have condemned. Runs in workers. */

import type { Bridge, ListedObject } from './bridge.ts'
import { ChunkTable } from './chunk-table.ts'
import { type Condemned, parseCondemned } from './condemned.ts'
import { type IndexedPack, readIndex } from './index-object.ts'
import { folders, idOf } from './layout.ts'
import type { TaskContext } from './tasks.ts'

/** Ids do not compress: an entry takes at least these many bytes of an index. */
const leastEntry = 33
const objectsAhead = 4
/** Indexes may be replaced while they are read: how often to look for the new ones. */
const rounds = 5

export interface LoadOptions {
  /** Chunks that may be added after loading. */
  readonly room: number
  /** Whether to take in a pack; default all. Asked in the order of the indexes. */
  readonly accept?: (pack: IndexedPack) => boolean
}

/** Loads the table. Costs about 0.5 s and 110 MB per 2 million chunks. @throws CORRUPT for a damaged index */
export function loadChunks(context: TaskContext, { room, accept = () => true }: LoadOptions): ChunkTable {
  const indexes = listIndexes(context.bridge)
  const bytes = indexes.reduce((sum, { size }) => sum + size, 0)
  // A replaced index holds what others held before: room for all of it once more.
  const chunks = 2 * Math.ceil(bytes / leastEntry) + room
  const table = ChunkTable.create(chunks, 2 * Math.ceil(bytes / leastEntry) + 1024)
  for (const pack of indexedPacks(context, indexes)) if (accept(pack)) table.addPack(pack)
  return table
}

/** For a backup: what it may rely on is not what a prune is about to delete. */
export function loadReliableChunks(context: TaskContext, room: number): ChunkTable {
  const condemned = condemnedPacks(context)
  return loadChunks(context, { room, accept: ({ id }) => !condemned.has(id) })
}

/** For a reader: all chunks, and where a chunk is in several packs, one that no prune is about to delete. */
export function loadAllChunks(context: TaskContext): ChunkTable {
  const condemned = condemnedPacks(context)
  if (condemned.size === 0) return loadChunks(context, { room: 0 })
  const table = loadChunks(context, { room: 0, accept: ({ id }) => !condemned.has(id) })
  for (const pack of indexedPacks(context)) if (condemned.delete(pack.id)) table.addPack(pack)
  return table
}

function condemnedPacks(context: TaskContext): Set<string> {
  return new Set(readCondemned(context).flatMap(({ packs }) => packs))
}

export function listIndexes(bridge: Bridge): ListedObject[] {
  return [...bridge.list(folders.indexes)].filter(({ key }) => idOf('indexes', key))
}

/**
 * The packs of all indexes; a pack may come several times. When an index is gone that was listed, a prune has replaced it: the new ones are read.
 * @throws CORRUPT
 */
export function* indexedPacks(
  { bridge, seal }: TaskContext,
  first: readonly ListedObject[] = listIndexes(bridge),
): Generator<IndexedPack> {
  const seen = new Set<string>()
  let listed = first
  for (let round = 0; round < rounds; round++) {
    const wanted = listed.filter(({ key }) => !seen.has(key))
    let found = 0
    for (const { name, object } of fetched(bridge, wanted)) {
      found++
      seen.add(name)
      yield* readIndex(seal.openObject('I', name, object), name)
    }
    if (found === wanted.length) return
    listed = listIndexes(bridge)
  }
}

/** A condemnation with its age. */
export interface StoredCondemned extends Condemned {
  readonly modifiedAtMs: number
}

/** All condemnations that were not carried out yet. */
export function readCondemned({ bridge, seal }: TaskContext): StoredCondemned[] {
  const listed = [...bridge.list(folders.condemned)].filter(({ key }) => idOf('condemned', key))
  return [...fetched(bridge, listed)].map(({ name, object, modifiedAtMs }) => ({
    ...parseCondemned(idOf('condemned', name) ?? '', seal.openObject('C', name, object)),
    modifiedAtMs,
  }))
}

interface Slot {
  readonly name: string
  readonly modifiedAtMs: number
  object: Uint8Array | null | undefined
}

/** Objects in the order of their listing, some fetched ahead; those deleted meanwhile are passed over. */
export function* fetched(
  bridge: Bridge,
  listed: readonly ListedObject[],
): Generator<{ name: string; object: Uint8Array; modifiedAtMs: number }> {
  const ahead: Slot[] = []
  for (const { key, modifiedAtMs } of listed) {
    const slot: Slot = { name: key, modifiedAtMs, object: undefined }
    bridge.post('getIfThere', { key }, (object) => {
      slot.object = object
    })
    ahead.push(slot)
    if (ahead.length > objectsAhead) yield* arrived(bridge, ahead.shift())
  }
  for (const slot of ahead) yield* arrived(bridge, slot)
}

function* arrived(
  bridge: Bridge,
  slot: Slot | undefined,
): Generator<{ name: string; object: Uint8Array; modifiedAtMs: number }> {
  if (!slot) return
  bridge.pumpUntil(() => slot.object !== undefined)
  if (slot.object) yield { name: slot.name, object: slot.object, modifiedAtMs: slot.modifiedAtMs }
}
