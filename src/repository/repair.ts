/**
 * repair (FORMAT.md 9): makes the indexes agree with the packs again. Packs with the chunks of trees, and those that a verify found damaged, are read whole; all
 * of them with `readData`. Says what is lost, and heals none of it: the next backup of the same data does. The lead of a job; runs in a worker.
 */

import { isAppError } from '../errors.ts'
import type { ListedObject } from './bridge.ts'
import { type Problem, verify } from './check.ts'
import type { CheckedPack } from './check-pack.ts'
import { entryLength, idLength, kinds } from './chunk-entry.ts'
import { condemn } from './condemned.ts'
import { type IndexedPack, readIndex } from './index-object.ts'
import { IndexWriter } from './index-writer.ts'
import { damagedPacks, fetched, listIndexes, loadChunks } from './known-chunks.ts'
import { objectName } from './layout.ts'
import { Lease } from './lease.ts'
import { listPacks } from './listed.ts'
import { directoryEntries, readPackDirectory } from './pack.ts'
import type { TaskContext } from './tasks.ts'

export interface RepairResult {
  /** Packs indexed, and those left out because they are damaged: what is sound in them has been copied. */
  readonly packs: number
  readonly leftOut: readonly Problem[]
  /** Chunks that were lost for good; a later backup of the same data stores them again. */
  readonly lostChunks: number
}

/**
 * Writes all indexes anew from the packs; what is sound in a damaged one is copied to a new pack. Interrupted, it leaves old and new indexes side by
 * side, which does no harm.
 * @throws ABORTED while a prune is at work
 */
export function repair(context: TaskContext, { readData }: { readonly readData: boolean }): RepairResult {
  const lease = new Lease(context)
  try {
    const result = new Repair(context, lease, readData).run()
    // Says which backups lack what is lost: they are no parents any more.
    if (result.lostChunks > 0) verify(context, { readData: false, backup: null })
    return result
  } finally {
    lease.release()
  }
}

class Repair {
  readonly #context: TaskContext
  readonly #lease: Lease
  readonly #readData: boolean
  readonly #index: IndexWriter
  readonly #known: ReadonlySet<string>
  readonly #leftOut: Problem[] = []
  /** Why packs have no directory that can be read, and their sizes. */
  readonly #headless = new Map<string, { readonly size: number; readonly fact: string }>()
  readonly #damaged: string[] = []
  /** Packs that old indexes name and that are not there. */
  readonly #gone: string[] = []
  /** Ids of chunks that a damaged or missing pack should have, latin1. */
  readonly #lost = new Set<string>()
  #packs = 0

  constructor(context: TaskContext, lease: Lease, readData: boolean) {
    this.#context = context
    this.#lease = lease
    this.#readData = readData
    this.#index = new IndexWriter(context.bridge, context.seal)
    this.#known = damagedPacks(context)
  }

  run(): RepairResult {
    const { bridge } = this.#context
    const old = listIndexes(bridge)
    const stored = listPacks(this.#context)
    for (const [id, { size }] of stored) {
      this.#addPack(id, size)
      this.#lease.renew()
    }
    this.#useOldIndexes(old, stored)
    this.#index.flush()
    // First, so that a writer that reads the new indexes knows that they are short.
    condemn(
      this.#context,
      [...this.#damaged, ...this.#gone].filter((id) => !this.#known.has(id)),
      'damage',
    )
    if (old.length > 0) bridge.call('delete', { keys: old.map(({ key }) => key) })
    return { packs: this.#packs, leftOut: this.#leftOut, lostChunks: this.#countLost() }
  }

  #addPack(id: string, size: number): void {
    const { bridge, seal } = this.#context
    const name = objectName('packs', id)
    try {
      const read = (start: number, end: number) => bridge.call('get', { key: name, start, end })
      const directory = readPackDirectory(seal, name, size, read)
      if (this.#mustRead(id, directory) && !this.#isSound({ id, size, directory })) return
      this.#index.add([{ id, size, directory }])
      this.#packs++
    } catch (error) {
      if (!isAppError(error, 'CORRUPT', 'NOT_FOUND')) throw error
      this.#headless.set(id, { size, fact: error.message })
    }
  }

  #mustRead(id: string, directory: Buffer): boolean {
    if (this.#readData || this.#known.has(id)) return true
    return [...directoryEntries(directory, id)].some(({ kind }) => kind !== kinds.data)
  }

  #isSound({ id, size, directory }: IndexedPack): boolean {
    const args = { id, size, directory: new Uint8Array(directory), salvage: true }
    const checked = this.#context.bridge.call('hand', { task: 'checkPack', args }) as CheckedPack
    if (!checked.fact) return true
    this.#leftOut.push({ object: objectName('packs', id), fact: checked.fact })
    this.#damaged.push(id)
    for (const chunk of checked.lost) this.#lost.add(Buffer.from(chunk).toString('latin1'))
    this.#index.add(checked.salvaged)
    return false
  }

  /** The old indexes know what should be in a pack whose directory is damaged, or that is gone. */
  #useOldIndexes(old: readonly ListedObject[], stored: ReadonlyMap<string, ListedObject>): void {
    const { bridge } = this.#context
    for (const { name, object } of fetched(bridge, old)) {
      for (const pack of this.#readOld(name, object)) {
        const headless = this.#headless.get(pack.id)
        if (headless) {
          this.#headless.delete(pack.id)
          this.#isSound({ ...pack, size: headless.size })
        } else if (!stored.has(pack.id) && bridge.call('stat', { key: objectName('packs', pack.id) }) === null) {
          this.#gone.push(pack.id)
          this.#noteLost(pack)
        }
      }
      this.#lease.renew()
    }
    for (const [id, { fact }] of this.#headless) {
      this.#leftOut.push({ object: objectName('packs', id), fact })
      this.#damaged.push(id)
    }
  }

  #readOld(name: string, object: Uint8Array): IndexedPack[] {
    try {
      return [...readIndex(this.#context.seal.openObject('I', name, object), name)]
    } catch (error) {
      if (isAppError(error, 'CORRUPT')) return []
      throw error
    }
  }

  #noteLost({ directory }: IndexedPack): void {
    const ids = Buffer.from(directory.buffer, directory.byteOffset, directory.byteLength)
    for (let at = 0; at < ids.length; at += entryLength) this.#lost.add(ids.toString('latin1', at, at + idLength))
  }

  /** Without those that another pack has as well. */
  #countLost(): number {
    if (this.#lost.size === 0) return 0
    const table = loadChunks(this.#context, { room: 0 })
    return [...this.#lost].filter((id) => !table.has(Buffer.from(id, 'latin1'))).length
  }
}
