/**
 * Removes what no backup needs, in two phases that never harm a writer beside it (FORMAT.md 8.2). The lead of a job; runs in a worker.
 *
 * One run does both: it sweeps what an earlier run condemned long enough ago, then condemns anew. Whatever it deletes it has first
 * made sure, by reading all manifests in this very run, that no backup needs or another pack holds.
 */

import { AppError, isAppError } from '../errors.ts'
import type { Bytes } from '../model.ts'
import type { ListedObject } from './bridge.ts'
import { entryLength, maxPack } from './chunk-entry.ts'
import { ChunkReader } from './chunk-reader.ts'
import type { ChunkPlace, ChunkTable } from './chunk-table.ts'
import { ChunkWriter } from './chunk-writer.ts'
import { compress } from './compression.ts'
import { condemn } from './condemned.ts'
import type { IndexedPack } from './index-object.ts'
import { IndexWriter } from './index-writer.ts'
import { indexedPacks, listIndexes, loadChunks, notThere, readCondemned, type StoredCondemned } from './known-chunks.ts'
import { objectName } from './layout.ts'
import { Lease } from './lease.ts'
import { listedManifests, listPacks } from './listed.ts'
import { type Backup, parseManifest } from './manifest.ts'
import { Reachable } from './reachable.ts'
import type { TaskContext } from './tasks.ts'

export interface PruneArgs {
  readonly graceMs: number
  /** Only say what would be done. */
  readonly dryRun: boolean
}

export interface PruneResult {
  readonly backups: number
  /** Packs deleted for good now, and their bytes. */
  readonly deleted: { readonly packs: number; readonly bytes: Bytes }
  /** Packs that a later prune will delete, once the grace period is over. */
  readonly condemned: { readonly packs: number; readonly bytes: Bytes }
  /** Bytes of chunks that were copied out of packs that are mostly waste, or that were condemned and are needed again. */
  readonly copied: Bytes
  /** Bytes of packs that remain. */
  readonly remaining: Bytes
}

/** Waste that is left alone, as a share of all: copying costs more. */
const toleratedWaste = 0.05
/** Packs below this are joined when there are so many. */
const smallPack = 4 * 2 ** 20
const manySmall = 16
/** More indexes than this are written anew as few. */
const manyIndexes = 32

const noDirectory = new Uint8Array(0)

/** @throws ABORTED while another prune is at work, FAILED_PRECONDITION when a backup lacks something */
export function prune(context: TaskContext, args: PruneArgs): PruneResult {
  const lease = new Lease(context)
  try {
    return new Prune(context, args, lease).run()
  } finally {
    lease.release()
  }
}

class Prune {
  readonly #context: TaskContext
  readonly #args: PruneArgs
  readonly #lease: Lease
  readonly #now: number
  readonly #backups: readonly Backup[]
  readonly #stored: ReadonlyMap<string, ListedObject>
  /** Packs of indexes that are not listed, or not in their size. */
  readonly #absent: IndexedPack[] = []
  readonly #condemned: readonly StoredCondemned[]
  readonly #condemnedPacks: ReadonlySet<string>
  readonly #table: ChunkTable
  readonly #reachable: Reachable
  readonly #reader: ChunkReader
  /** Used bytes by number of pack, with those of the directory. */
  readonly #used: Float64Array
  #copied = 0

  constructor(context: TaskContext, args: PruneArgs, lease: Lease) {
    this.#context = context
    this.#args = args
    this.#lease = lease
    this.#now = lease.storeTimeMs
    this.#backups = readBackups(context, lease)
    this.#condemned = readCondemned(context)
    this.#condemnedPacks = new Set(this.#condemned.flatMap(({ packs }) => packs))
    this.#stored = listPacks(context)
    this.#table = this.#load()
    this.#reachable = new Reachable(context, this.#table)
    this.#reader = new ChunkReader(context.bridge, context.seal, this.#table)
    this.#used = new Float64Array(this.#table.packs)
  }

  /** Packs that stay come first in the table: a chunk counts as being in a condemned pack only when it is nowhere else. */
  #load(): ChunkTable {
    const seen = new Set<string>()
    // A pack that was cut off counts as gone: its chunks may be whole in another, which is then the one to keep.
    const isFirst = ({ id, size }: IndexedPack) => {
      if (seen.has(id)) return false
      seen.add(id)
      const isWhole = this.#stored.get(id)?.size === size
      if (!isWhole) this.#absent.push({ id, size, directory: noDirectory })
      return isWhole
    }
    const table = loadChunks(this.#context, {
      room: 0,
      accept: (pack) => !this.#condemnedPacks.has(pack.id) && isFirst(pack),
    })
    if (this.#condemnedPacks.size === 0) return table
    for (const pack of indexedPacks(this.#context)) if (isFirst(pack)) table.addPack(pack)
    return table
  }

  run(): PruneResult {
    this.#markBackups()
    const ripe = this.#condemned.filter(({ modifiedAtMs }) => this.#now - modifiedAtMs >= this.#args.graceMs)
    const doomed = new Set(ripe.flatMap(({ packs }) => packs).filter((id) => this.#stored.has(id)))
    const toCondemn = this.#choose()
    const result = {
      backups: this.#backups.length,
      deleted: this.#sum(doomed),
      condemned: this.#sum(toCondemn.all),
      remaining: this.#sum([...this.#stored.keys()].filter((id) => !doomed.has(id) && !toCondemn.all.has(id))).bytes,
    }
    if (!this.#args.dryRun) {
      this.#copyOut(new Set([...doomed, ...toCondemn.copy]))
      this.#sweep(ripe, doomed)
      condemn(this.#context, [...toCondemn.all], 'waste')
    }
    return { ...result, copied: this.#copied }
  }

  #markBackups(): void {
    for (const [number, backup] of this.#backups.entries()) {
      this.#reachable.addBackup(backup)
      this.#lease.renew()
      const progress = { done: number + 1, total: this.#backups.length, unit: 'files' } as const
      this.#context.bridge.post('progress', progress, () => undefined)
      const [missing] = this.#reachable.missing
      if (missing) throw damaged(backup, missing.path)
    }
    for (const number of this.#usedEntries()) {
      const { pack, stored } = this.#table.place(number) as ChunkPlace
      this.#used[pack] = (this.#used[pack] ?? 0) + stored + entryLength
    }
  }

  /** Numbers of the entries that backups reach. */
  *#usedEntries(): Generator<number> {
    for (let i = 0; i < this.#table.size; i++) if (this.#reachable.isMarked(i)) yield i
  }

  #sum(ids: Iterable<string>): { packs: number; bytes: Bytes } {
    let [packs, bytes] = [0, 0]
    for (const id of ids) {
      packs++
      bytes += this.#stored.get(id)?.size ?? 0
    }
    return { packs, bytes }
  }

  /**
   * Packs to condemn, and those of them that have something to be copied out first. What is younger than the grace period is left alone: it may
   * be of a backup that is still being made.
   */
  #choose(): { all: Set<string>; copy: Set<string> } {
    const partly = new Map<string, { id: string; size: Bytes; waste: Bytes }>()
    for (let i = 0; i < this.#table.packs; i++) {
      const [id, used, size] = [this.#table.packId(i), this.#used[i] ?? 0, this.#table.packSize(i)]
      if (used > 0 && !this.#condemnedPacks.has(id)) partly.set(id, { id, size, waste: size - used })
    }
    // A clock that was set back makes nothing younger than new.
    const old = [...this.#stored].flatMap(([id, { modifiedAtMs }]) =>
      Math.max(0, this.#now - modifiedAtMs) >= this.#args.graceMs ? [id] : [],
    )
    const unused = old.filter((id) => !partly.has(id) && !this.#condemnedPacks.has(id))
    const copy = worthCopying(old.flatMap((id) => partly.get(id) ?? []))
    return { all: new Set([...unused, ...copy]), copy }
  }

  /** Stores what is used in these packs once more, in new packs, and indexes them. */
  #copyOut(packs: ReadonlySet<string>): void {
    const { bridge, seal } = this.#context
    const writer = new ChunkWriter(bridge, seal, this.#table)
    const index = new IndexWriter(bridge, seal)
    for (const { place, content } of this.#readPlaces(this.#usedPlaces(packs))) {
      const { method, bytes } = compress(content)
      writer.add({ id: Buffer.from(place.id), length: content.length, method, kind: place.kind }, bytes)
      this.#copied += bytes.length
      // Little by little: an index object has its limit.
      index.add(writer.takeStored())
      this.#lease.renew()
    }
    writer.flush()
    index.add(writer.takeStored())
    index.flush()
  }

  /** What is used in these packs, pack by pack. There may be millions: no object for each is kept. */
  *#usedPlaces(packs: ReadonlySet<string>): Generator<ChunkPlace> {
    const byPack = new Map<number, number[]>()
    for (let i = 0; i < this.#table.packs; i++) if (packs.has(this.#table.packId(i))) byPack.set(i, [])
    if (byPack.size === 0) return
    for (const number of this.#usedEntries()) byPack.get(this.#table.place(number)?.pack ?? -1)?.push(number)
    for (const numbers of byPack.values()) {
      const places = numbers.map((number) => this.#table.place(number) as ChunkPlace)
      yield* places.sort((a, b) => a.offset - b.offset)
    }
  }

  /** @throws FAILED_PRECONDITION for what is damaged: it stays, with the pack that it is in */
  *#readPlaces(places: Iterable<ChunkPlace>): ReturnType<ChunkReader['readPlaces']> {
    try {
      yield* this.#reader.readPlaces(places)
    } catch (error) {
      if (!isAppError(error, 'CORRUPT')) throw error
      throw new AppError(
        'FAILED_PRECONDITION',
        `backups need what is damaged (${error.message}); run verify with --read-data, and remove the damaged backups or heal them by new ones before a prune`,
        { cause: error },
      )
    }
  }

  #sweep(ripe: readonly StoredCondemned[], doomed: ReadonlySet<string>): void {
    const { bridge } = this.#context
    const gone = notThere(bridge, this.#absent).map(({ id }) => id)
    if (ripe.length > 0 || gone.length > 0 || listIndexes(bridge).length > manyIndexes) {
      this.#rewriteIndexes(new Set([...doomed, ...gone]))
    }
    this.#delete([...doomed].map((id) => objectName('packs', id)))
    this.#delete(ripe.map(({ id }) => objectName('condemned', id)))
  }

  /** New indexes of all that stays, then the old ones go. Readers between the two find everything twice. */
  #rewriteIndexes(doomed: ReadonlySet<string>): void {
    const old = listIndexes(this.#context.bridge)
    const index = new IndexWriter(this.#context.bridge, this.#context.seal)
    const seen = new Set<string>()
    for (const pack of indexedPacks(this.#context, old)) {
      if (doomed.has(pack.id) || seen.has(pack.id)) continue
      seen.add(pack.id)
      index.add([{ ...pack, directory: Buffer.from(pack.directory) }])
      this.#lease.renew()
    }
    index.flush()
    this.#delete(old.map(({ key }) => key))
  }

  #delete(keys: readonly string[]): void {
    for (let i = 0; i < keys.length; i += 500) {
      this.#context.bridge.call('delete', { keys: keys.slice(i, i + 500) })
      this.#lease.renew()
    }
  }
}

function readBackups(context: TaskContext, lease: Lease): Backup[] {
  const backups: Backup[] = []
  for (const { id, name, object } of listedManifests(context)) {
    backups.push(parseManifest(id, context.seal.openObject('M', name, object)))
    lease.renew()
  }
  return backups
}

/** The most wasteful packs, until the rest wastes little; and small ones when they are many. */
function worthCopying(packs: readonly { id: string; size: Bytes; waste: Bytes }[]): Set<string> {
  const total = packs.reduce((sum, { size }) => sum + size, 0)
  let waste = packs.reduce((sum, pack) => sum + pack.waste, 0)
  const chosen = new Set<string>()
  for (const pack of packs.toSorted((a, b) => b.waste / b.size - a.waste / a.size)) {
    if (waste <= total * toleratedWaste) break
    // Heads and directories are waste that copying does not save.
    if (pack.waste < pack.size / 10 && pack.size < maxPack) break
    chosen.add(pack.id)
    waste -= pack.waste
  }
  const small = packs.filter(({ id, size }) => size < smallPack && !chosen.has(id))
  if (small.length >= manySmall) for (const { id } of small) chosen.add(id)
  return chosen
}

function damaged(backup: Backup, path: Buffer): AppError {
  return new AppError(
    'FAILED_PRECONDITION',
    `backup ${backup.id} of ${backup.volume} lacks data (first: ${path}); run verify, and remove or heal damaged backups before a prune`,
    { details: { backup: backup.id } },
  )
}
