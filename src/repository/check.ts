/**
 * verify (FORMAT.md 9). Trusts nothing but the key: indexes against packs, manifests against indexes, and with `readData` every byte of every pack.
 * What it finds is written down, so that the next backup relies on none of it: damaged packs are condemned, damaged backups marked. The lead of a job;
 * runs in a worker.
 */

import { isAppError } from '../errors.ts'
import type { Bytes } from '../model.ts'
import { release } from '../system/release.ts'
import type { CheckedPack } from './check-pack.ts'
import { entryLength } from './chunk-entry.ts'
import { ChunkTable } from './chunk-table.ts'
import { condemn } from './condemned.ts'
import { type IndexedPack, readIndex } from './index-object.ts'
import { indexedPacks, indexObjects, notThere, readCondemned } from './known-chunks.ts'
import { folders, newId, objectName } from './layout.ts'
import { listedManifests, listPacks } from './listed.ts'
import { type Backup, parseManifest } from './manifest.ts'
import { Reachable } from './reachable.ts'
import type { TaskContext } from './tasks.ts'

export interface VerifyArgs {
  /** Read and check every byte of every pack. */
  readonly readData: boolean
  /** Only this backup; null for all. */
  readonly backup: string | null
}

/** Something wrong with the repository itself. */
export interface Problem {
  /** The object concerned. */
  readonly object: string
  readonly fact: string
}

/** A backup that cannot be restored whole. */
export interface DamagedBackup {
  readonly id: string
  readonly volume: string
  /** Paths concerned; at most 1000. */
  readonly paths: readonly string[]
}

export interface VerifyResult {
  readonly backups: number
  readonly packs: number
  readonly chunks: number
  readonly bytesRead: Bytes
  readonly problems: readonly Problem[]
  readonly damaged: readonly DamagedBackup[]
}

const mostPaths = 1000
const mostOutstanding = 4

/** Never throws for damage: that is the result. */
export function verify(context: TaskContext, args: VerifyArgs): VerifyResult {
  return new Verify(context, args).run()
}

class Verify {
  readonly #context: TaskContext
  readonly #args: VerifyArgs
  readonly #problems: Problem[] = []
  /** Packs that were found damaged, by their ids: now, or before and not swept yet. */
  readonly #damaged = new Map<string, Problem>()
  /** Packs that are condemned already: all, and those of them that are for damage. */
  readonly #condemned = new Set<string>()
  readonly #known = new Set<string>()
  /** Ids of chunks that do not open, latin1. */
  readonly #lost = new Set<string>()
  #bytesRead = 0

  constructor(context: TaskContext, args: VerifyArgs) {
    this.#context = context
    this.#args = args
  }

  run(): VerifyResult {
    const found = this.#readManifests()
    this.#readCondemned()
    const packs = this.#readIndexes()
    const gone = new Set(notThere(this.#context.bridge, this.#unlisted(packs)))
    const there = packs.filter((pack) => !gone.has(pack))
    // What was found damaged once is looked at again, so that every verify knows what is lost.
    this.#readPacks(this.#args.readData ? there : there.filter(({ id }) => this.#known.has(id)))
    this.#forgetSwept()
    const table = this.#tableOf(there)
    const [backups, all] = this.#reachAll(table, found)
    // Backups share what they reach: only when something is missing is it worth finding out for each.
    const damaged = all.missing.length === 0 ? [] : backups.flatMap((backup) => this.#damage(table, backup))
    this.#noteMissing(all)
    this.#report([...gone], all, table)
    this.#mark(backups, damaged)
    condemn(
      this.#context,
      [...this.#damaged.keys()].filter((id) => !this.#known.has(id)),
      'damage',
    )
    const counted = { backups: backups.length, packs: packs.length, chunks: table.size, bytesRead: this.#bytesRead }
    return { ...counted, problems: this.#problems, damaged }
  }

  #readCondemned(): void {
    for (const { id, packs, damaged, corrupt } of readCondemned(this.#context)) {
      if (corrupt) this.#problems.push({ object: objectName('condemned', id), fact: 'is corrupt; it is ignored' })
      for (const pack of packs) (damaged ? this.#known : this.#condemned).add(pack)
    }
  }

  #readIndexes(): IndexedPack[] {
    const { bridge, seal } = this.#context
    const packs = new Map<string, IndexedPack>()
    for (const { name, object } of indexObjects(bridge)) {
      this.#note(name, () => {
        for (const pack of readIndex(seal.openObject('I', name, object), name)) packs.set(pack.id, pack)
        release(object)
      })
    }
    return [...packs.values()]
  }

  #unlisted(packs: readonly IndexedPack[]): IndexedPack[] {
    const stored = listPacks(this.#context)
    return packs.filter(({ id, size }) => stored.get(id)?.size !== size)
  }

  /** Sound packs first, those that no prune is about to delete before all: what is also there is not lost. */
  #tableOf(packs: readonly IndexedPack[]): ChunkTable {
    const entries = packs.reduce((sum, { directory }) => sum + directory.length / entryLength, 0)
    const table = ChunkTable.create(entries, packs.length)
    const add = (some: readonly IndexedPack[]) => {
      for (const pack of some) this.#note(objectName('packs', pack.id), () => table.addPack(pack))
    }
    const { sound = [], damaged = [] } = Object.groupBy(packs, ({ id }) =>
      this.#damaged.has(id) ? 'damaged' : 'sound',
    )
    const isLast = ({ id }: IndexedPack) => this.#condemned.has(id) || this.#known.has(id)
    add(sound.filter((pack) => !isLast(pack)))
    add(sound.filter(isLast))
    for (const id of this.#lost) if (table.has(Buffer.from(id, 'latin1'))) this.#lost.delete(id)
    add(damaged)
    return table
  }

  #readPacks(packs: readonly IndexedPack[]): void {
    const { bridge } = this.#context
    const total = packs.reduce((sum, { size }) => sum + size, 0)
    let outstanding = 0
    for (const pack of packs) {
      bridge.pumpUntil(() => outstanding < mostOutstanding)
      outstanding++
      const task = { id: pack.id, size: pack.size, directory: new Uint8Array(pack.directory) }
      bridge.post('hand', { task: 'checkPack', args: task }, (answer) => {
        outstanding--
        this.#bytesRead += pack.size
        this.#noteChecked(pack.id, answer as CheckedPack)
        if (this.#args.readData) {
          bridge.post('progress', { done: this.#bytesRead, total, unit: 'bytes' }, () => undefined)
        }
      })
    }
    bridge.pumpUntil(() => outstanding === 0)
  }

  /** Packs that were read in vain since a prune has deleted them, and their names from the indexes before, are none that are damaged. */
  #forgetSwept(): void {
    if (this.#damaged.size === 0) return
    const named = new Set([...indexedPacks(this.#context)].map(({ id }) => id))
    for (const id of this.#damaged.keys()) if (!named.has(id)) this.#damaged.delete(id)
  }

  #noteChecked(id: string, { fact, lost }: CheckedPack): void {
    if (fact) this.#damaged.set(id, { object: objectName('packs', id), fact })
    for (const chunk of lost) this.#lost.add(Buffer.from(chunk).toString('latin1'))
  }

  /** Chunks of trees are read by every verify. */
  #noteMissing({ missing }: Reachable): void {
    for (const { pack, id } of missing) {
      if (pack === null || this.#damaged.has(pack)) continue
      this.#damaged.set(pack, { object: objectName('packs', pack), fact: `its chunk ${id} is corrupt` })
    }
  }

  /**
   * Packs that are damaged or gone are a problem while a backup needs something of them. Healed, they are none, and those that are there are deleted by a
   * later prune; but what has rotted is told once in any case.
   */
  #report(gone: readonly IndexedPack[], all: Reachable, table: ChunkTable): void {
    const isShort = all.missing.length > 0
    const needed = isShort || this.#damaged.size === 0 ? new Set<string>() : neededPacks(all, table)
    for (const [id, problem] of this.#damaged) {
      if (isShort || needed.has(id) || !this.#known.has(id)) this.#problems.push(problem)
    }
    if (!isShort) return
    for (const { id } of gone) this.#problems.push({ object: objectName('packs', id), fact: 'is missing or cut off' })
  }

  #readManifests(): Backup[] {
    const backups: Backup[] = []
    for (const { id, name, object } of listedManifests(this.#context, this.#args.backup)) {
      this.#note(name, () => backups.push(parseManifest(id, this.#context.seal.openObject('M', name, object))))
    }
    return backups
  }

  /** Of a backup that was removed meanwhile, and its packs with it, nothing is said. */
  #reachAll(table: ChunkTable, backups: readonly Backup[]): [readonly Backup[], Reachable] {
    const all = this.#reachEach(table, backups)
    if (all.missing.length === 0) return [backups, all]
    const listed = new Set([...this.#context.bridge.list(folders.manifests)].map(({ key }) => key))
    const left = backups.filter(({ id }) => listed.has(objectName('manifests', id)))
    return [left, left.length < backups.length ? this.#reachEach(table, left) : all]
  }

  /** What is read for a backup is not read again for the next: the later ones go faster. */
  #reachEach(table: ChunkTable, backups: readonly Backup[]): Reachable {
    const reachable = this.#reach(table, [])
    const total = backups.reduce((sum, { files }) => sum + files, 0)
    let done = 0
    for (const backup of backups) {
      reachable.addBackup(backup)
      done += backup.files
      // One kind of progress is enough, and that of the packs was longer.
      if (this.#args.readData) continue
      this.#context.bridge.post('progress', { done, total, unit: 'files' }, () => undefined)
    }
    return reachable
  }

  #reach(table: ChunkTable, backups: readonly Backup[]): Reachable {
    const reachable = new Reachable(this.#context, table, (id) => this.#lost.has(id.toString('latin1')))
    for (const backup of backups) reachable.addBackup(backup)
    return reachable
  }

  #damage(table: ChunkTable, backup: Backup): DamagedBackup[] {
    const { missing } = this.#reach(table, [backup])
    if (missing.length === 0) return []
    const paths = new Set(missing.slice(0, mostPaths).map(({ path }) => path.toString()))
    return [{ id: backup.id, volume: backup.volume, paths: [...paths] }]
  }

  /** A damaged backup is no parent any more; one that is whole again may be. */
  #mark(backups: readonly Backup[], damaged: readonly DamagedBackup[]): void {
    const { bridge, seal } = this.#context
    const marked = [...bridge.list(folders.damaged)].map(({ key }) => key)
    for (const { id } of backups) {
      const marks = marked.filter((key) => key.startsWith(`${folders.damaged}${id}/`))
      const isDamaged = damaged.some((one) => one.id === id)
      if (isDamaged && marks.length === 0) {
        const name = objectName('damaged', `${id}/${newId('manifests')}`)
        const bytes = new Uint8Array(seal.sealObject('D', name, Buffer.from('{"version":1}')))
        bridge.call('put', { key: name, bytes }, [bytes.buffer])
      } else if (!isDamaged && marks.length > 0) bridge.call('delete', { keys: marks })
    }
  }

  #note(object: string, work: () => void): void {
    try {
      work()
    } catch (error) {
      if (!isAppError(error, 'CORRUPT', 'NOT_SUPPORTED')) throw error
      this.#problems.push({ object, fact: error.message })
    }
  }
}

/** Packs in which something lies that is reached and that no better pack holds. */
function neededPacks(reachable: Reachable, table: ChunkTable): Set<string> {
  const packs = new Set<number>()
  for (let i = 0; i < table.size; i++) {
    const place = reachable.isMarked(i) ? table.place(i) : undefined
    if (place) packs.add(place.pack)
  }
  return new Set([...packs].map((number) => table.packId(number)))
}
