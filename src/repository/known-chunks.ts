/** Reads all indexes into a table of chunks, and what prunes have condemned. Runs in workers. */

import { isAppError } from '../errors.ts'
import { release } from '../system/release.ts'
import type { Bridge, ListedObject } from './bridge.ts'
import { entryLength, idLength } from './chunk-entry.ts'
import { ChunkTable } from './chunk-table.ts'
import { type Condemned, parseCondemned } from './condemned.ts'
import { type IndexedPack, readIndex } from './index-object.ts'
import { folders, idOf, objectName } from './layout.ts'
import { PackListing } from './pack-listing.ts'
import type { TaskContext } from './tasks.ts'

/** Ids do not compress: an entry takes at least these many bytes of an index. */
const leastEntry = 33
const leastRoom = 100_000
const objectsAhead = 4
/** Indexes may be replaced while they are read: how often to look for the new ones. */
const rounds = 5

export interface LoadOptions {
  /** Chunks that may be added after loading. */
  readonly room: number
  /** Whether to take in a pack; default all. Asked in the order of the indexes; the directory is gone after that. */
  readonly accept?: (pack: IndexedPack) => boolean
}

/** Loads the table. Costs about 0.5 s and 110 MB per 2 million chunks. @throws CORRUPT for a damaged index */
export function loadChunks(context: TaskContext, { room, accept = () => true }: LoadOptions): ChunkTable {
  const indexes = listIndexes(context.bridge)
  const entries = Math.ceil(indexes.reduce((sum, { size }) => sum + size, 0) / leastEntry)
  // An index that replaces others while they are read has the same chunks, and a few new ones, in packs that may all be new.
  const table = ChunkTable.create(Math.ceil(entries * 1.1) + Math.max(room, leastRoom), 2 * entries + 1024)
  for (const pack of indexedPacks(context, indexes)) if (accept(pack)) table.addPack(pack)
  return table
}

/**
 * For a backup: without packs that are condemned or gone. `isShort` of the table tells whether chunks are left out by that which are nowhere
 * else.
 */
export function loadReliableChunks(context: TaskContext, room: number): ChunkTable {
  const { table, absent, damaged, waste, isUnnamed } = loadSound(context, room)
  const gone = absent.length === 0 ? [] : notThere(context.bridge, absent)
  for (const pack of absent) if (!gone.includes(pack)) table.addPack(pack)
  table.isShort = isUnnamed || [...gone, ...damaged, ...waste].some(({ directory }) => hasMore(directory, table))
  return table
}

/** For a reader: all chunks, and where a chunk is in several packs, one that is there and that no prune is about to delete. */
export function loadAllChunks(context: TaskContext): ChunkTable {
  const { table, absent, waste, damaged } = loadSound(context, 0)
  for (const pack of [...waste, ...damaged, ...absent]) table.addPack(pack)
  return table
}

interface SoundChunks {
  readonly table: ChunkTable
  /** Packs that are not in it: condemned as waste or as damaged, or not listed. */
  readonly waste: readonly IndexedPack[]
  readonly damaged: readonly IndexedPack[]
  readonly absent: readonly IndexedPack[]
  /** A damaged pack is named by no index any more: what was in it is not known. */
  readonly isUnnamed: boolean
}

function loadSound(context: TaskContext, room: number): SoundChunks {
  const listing = new PackListing(context.bridge)
  const condemned = condemnedPacks(context)
  const unnamed = new Set([...condemned].flatMap(([id, why]) => (why === 'damaged' ? [id] : [])))
  const left: Record<'waste' | 'damaged' | 'absent', IndexedPack[]> = { waste: [], damaged: [], absent: [] }
  const accept = (pack: IndexedPack): boolean => {
    unnamed.delete(pack.id)
    const why = condemned.get(pack.id) ?? (listing.shows(pack) ? undefined : 'absent')
    if (why) left[why].push({ ...pack, directory: Uint8Array.from(pack.directory) })
    return why === undefined
  }
  const table = loadChunks(context, { room, accept })
  return { table, ...left, isUnnamed: unnamed.size > 0 }
}

/** Why packs are condemned. */
function condemnedPacks(context: TaskContext): Map<string, 'waste' | 'damaged'> {
  const packs = new Map<string, 'waste' | 'damaged'>()
  for (const { packs: ids, damaged } of readCondemned(context)) {
    for (const id of ids) if (damaged || !packs.has(id)) packs.set(id, damaged ? 'damaged' : 'waste')
  }
  return packs
}

/** Packs that a verify or a repair found damaged, and that are still there or were not swept. */
export function damagedPacks(context: TaskContext): Set<string> {
  const packs = [...condemnedPacks(context)].filter(([, why]) => why === 'damaged')
  return new Set(packs.map(([id]) => id))
}

/** Those of `packs` that the store does not have, or not in their size. */
export function notThere(bridge: Bridge, packs: readonly IndexedPack[]): IndexedPack[] {
  const gone: IndexedPack[] = []
  let outstanding = packs.length
  for (const pack of packs) {
    bridge.post('stat', { key: objectName('packs', pack.id) }, (size) => {
      outstanding--
      if (size !== pack.size) gone.push(pack)
    })
  }
  bridge.pumpUntil(() => outstanding === 0)
  return gone
}

/** Whether a pack's directory names a chunk that the table does not have. */
function hasMore(directory: Uint8Array, table: ChunkTable): boolean {
  for (let at = 0; at < directory.length; at += entryLength) {
    if (!table.has(directory.subarray(at, at + idLength))) return true
  }
  return false
}

export function listIndexes(bridge: Bridge): ListedObject[] {
  return [...bridge.list(folders.indexes)].filter(({ key }) => idOf('indexes', key))
}

/** All index objects. When one is gone that was listed, a prune has replaced it: the new ones are read. */
export function* indexObjects(
  bridge: Bridge,
  first: readonly ListedObject[] = listIndexes(bridge),
): Generator<{ name: string; object: Uint8Array }> {
  const seen = new Set<string>()
  let listed = first
  for (let round = 0; round < rounds; round++) {
    const wanted = listed.filter(({ key }) => !seen.has(key))
    let found = 0
    for (const { name, object } of fetched(bridge, wanted)) {
      found++
      seen.add(name)
      yield { name, object }
    }
    if (found === wanted.length) return
    listed = listIndexes(bridge)
  }
}

/** The packs of all indexes; a pack may come several times. A directory is good until the next pack is asked for. @throws CORRUPT */
export function* indexedPacks(
  { bridge, seal }: TaskContext,
  first: readonly ListedObject[] = listIndexes(bridge),
): Generator<IndexedPack> {
  for (const { name, object } of indexObjects(bridge, first)) {
    const content = seal.openObject('I', name, object)
    release(object)
    yield* readIndex(content, name)
    release(content)
  }
}

/** A condemnation with its age. */
export interface StoredCondemned extends Condemned {
  readonly modifiedAtMs: number
  /** It does not open, and so is ignored: its packs are as others. */
  readonly corrupt: boolean
}

/** All condemnations that were not carried out yet. */
export function readCondemned({ bridge, seal }: TaskContext): StoredCondemned[] {
  const listed = [...bridge.list(folders.condemned)].filter(({ key }) => idOf('condemned', key))
  return [...fetched(bridge, listed)].map(({ name, object, modifiedAtMs }) => {
    const id = idOf('condemned', name) ?? ''
    try {
      return { ...parseCondemned(id, seal.openObject('C', name, object)), modifiedAtMs, corrupt: false }
    } catch (error) {
      if (!isAppError(error, 'CORRUPT')) throw error
      return { id, packs: [], damaged: false, modifiedAtMs, corrupt: true }
    }
  })
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
