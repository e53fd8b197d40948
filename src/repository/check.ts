/**
 * verify and repair (FORMAT.md 9). Verify trusts nothing but the key: indexes against packs, manifests against indexes, and with `readData` every
 * byte of every pack. Repair makes the indexes agree with the packs again. Leads of jobs; run in a worker.
 */

import { isAppError } from '../errors.ts'
import type { Bytes } from '../model.ts'
import type { ListedObject } from './bridge.ts'
import type { CheckedPack } from './check-pack.ts'
import { ChunkTable } from './chunk-table.ts'
import { encodeCondemned } from './condemned.ts'
import { type IndexedPack, readIndex } from './index-object.ts'
import { IndexWriter } from './index-writer.ts'
import { fetched, listIndexes } from './known-chunks.ts'
import { folders, idOf, newId, objectName } from './layout.ts'
import { Lease } from './lease.ts'
import { type Backup, parseManifest } from './manifest.ts'
import { readPackDirectory } from './pack.ts'
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
  readonly #stored: ReadonlyMap<string, ListedObject>
  /** Ids of chunks that do not open, latin1. */
  readonly #lost = new Set<string>()
  #bytesRead = 0

  constructor(context: TaskContext, args: VerifyArgs) {
    this.#context = context
    this.#args = args
    this.#stored = listPacks(context)
  }

  run(): VerifyResult {
    const packs = this.#readIndexes()
    const table = this.#tableOf(packs)
    if (this.#args.readData) this.#readPacks(packs)
    const backups = this.#readManifests()
    const all = this.#reachAll(table, backups)
    // Backups share what they reach: only when something is missing is it worth finding out for each.
    const damaged = all.missing.length === 0 ? [] : backups.flatMap((backup) => this.#damage(table, backup))
    this.#mark(backups, damaged)
    const counted = { backups: backups.length, packs: packs.length, chunks: table.size, bytesRead: this.#bytesRead }
    return { ...counted, problems: this.#problems, damaged }
  }

  #readIndexes(): IndexedPack[] {
    const { bridge, seal } = this.#context
    const packs = new Map<string, IndexedPack>()
    for (const { name, object } of fetched(bridge, listIndexes(bridge))) {
      this.#note(name, () => {
        for (const pack of readIndex(seal.openObject('I', name, object), name)) packs.set(pack.id, pack)
      })
    }
    return [...packs.values()]
  }

  /** Without the packs that are not there. */
  #tableOf(packs: readonly IndexedPack[]): ChunkTable {
    const entries = packs.reduce((sum, { directory }) => sum + directory.length / 44, 0)
    const table = ChunkTable.create(entries, packs.length)
    for (const pack of packs) {
      const name = objectName('packs', pack.id)
      const size = this.#stored.get(pack.id)?.size ?? this.#context.bridge.call('stat', { key: name })
      if (size === pack.size) this.#note(name, () => table.addPack(pack))
      else
        this.#problems.push({
          object: name,
          fact: size === null ? 'is missing' : `has ${size} bytes instead of ${pack.size}`,
        })
    }
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
        bridge.post('progress', { done: this.#bytesRead, total, unit: 'bytes' }, () => undefined)
      })
    }
    bridge.pumpUntil(() => outstanding === 0)
  }

  #noteChecked(id: string, { fact, lost }: CheckedPack): void {
    if (fact) this.#problems.push({ object: objectName('packs', id), fact })
    for (const chunk of lost) this.#lost.add(Buffer.from(chunk).toString('latin1'))
  }

  #readManifests(): Backup[] {
    const { bridge, seal } = this.#context
    const backups: Backup[] = []
    const listed = [...bridge.list(folders.manifests)].filter(({ key }) => {
      const id = idOf('manifests', key)
      return id !== undefined && (this.#args.backup === null || this.#args.backup === id)
    })
    for (const { name, object } of fetched(bridge, listed)) {
      const id = idOf('manifests', name) ?? ''
      this.#note(name, () => backups.push(parseManifest(id, seal.openObject('M', name, object))))
    }
    return backups
  }

  /** What is read for a backup is not read again for the next: the later ones go faster. */
  #reachAll(table: ChunkTable, backups: readonly Backup[]): Reachable {
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

function listPacks({ bridge }: TaskContext): Map<string, ListedObject> {
  const packs = new Map<string, ListedObject>()
  for (const object of bridge.list(folders.packs)) {
    const id = idOf('packs', object.key)
    if (id) packs.set(id, object)
  }
  return packs
}

export interface RepairResult {
  /** Packs indexed, and those left out because they are damaged beyond use. */
  readonly packs: number
  readonly leftOut: readonly Problem[]
  /** Chunks that were lost for good; a later backup of the same data stores them again. */
  readonly lostChunks: number
}

/**
 * Writes all indexes anew from the packs. With `readData` each pack is read whole, and what is sound in a damaged one is copied to a new pack. Interrupted, it
 * leaves old and new indexes side by side, which does no harm.
 * @throws ABORTED while a prune is at work
 */
export function repair(context: TaskContext, { readData }: { readonly readData: boolean }): RepairResult {
  const lease = new Lease(context)
  try {
    return new Repair(context, lease, readData).run()
  } finally {
    lease.release()
  }
}

class Repair {
  readonly #context: TaskContext
  readonly #lease: Lease
  readonly #readData: boolean
  readonly #index: IndexWriter
  readonly #leftOut: Problem[] = []
  #packs = 0
  #lost = 0

  constructor(context: TaskContext, lease: Lease, readData: boolean) {
    this.#context = context
    this.#lease = lease
    this.#readData = readData
    this.#index = new IndexWriter(context.bridge, context.seal)
  }

  run(): RepairResult {
    const { bridge } = this.#context
    const old = listIndexes(bridge)
    const damaged: string[] = []
    for (const [id, { size }] of listPacks(this.#context)) {
      if (!this.#addPack(id, size)) damaged.push(id)
      this.#lease.renew()
    }
    this.#index.flush()
    if (old.length > 0) bridge.call('delete', { keys: old.map(({ key }) => key) })
    this.#condemn(damaged)
    return { packs: this.#packs, leftOut: this.#leftOut, lostChunks: this.#lost }
  }

  #addPack(id: string, size: number): boolean {
    const { bridge, seal } = this.#context
    const name = objectName('packs', id)
    try {
      const read = (start: number, end: number) => bridge.call('get', { key: name, start, end })
      const directory = readPackDirectory(seal, name, size, read)
      if (this.#readData && !this.#isSound(id, size, directory)) return false
      this.#index.add([{ id, size, directory }])
      this.#packs++
      return true
    } catch (error) {
      if (!isAppError(error, 'CORRUPT', 'NOT_FOUND')) throw error
      this.#leftOut.push({ object: name, fact: error.message })
      return false
    }
  }

  #isSound(id: string, size: number, directory: Buffer): boolean {
    const args = { id, size, directory: new Uint8Array(directory), salvage: true }
    const checked = this.#context.bridge.call('hand', { task: 'checkPack', args }) as CheckedPack
    if (!checked.fact) return true
    this.#leftOut.push({ object: objectName('packs', id), fact: checked.fact })
    this.#lost += checked.lost.length
    this.#index.add(checked.salvaged)
    return false
  }

  /** Damaged packs are of no use to anybody: the next prune deletes them. */
  #condemn(packs: readonly string[]): void {
    if (packs.length === 0) return
    const { bridge, seal } = this.#context
    const name = objectName('condemned', newId('condemned'))
    const bytes = new Uint8Array(seal.sealObject('C', name, encodeCondemned(packs)))
    bridge.call('put', { key: name, bytes }, [bytes.buffer])
  }
}
