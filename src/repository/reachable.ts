/**
 * What backups reach: marks the chunks of the table that they need, and notes those that are missing. Each segment and list is read
 * once, however many backups share it. Runs in workers; takes one bit per chunk.
 */

import { isAppError } from '../errors.ts'
import { readBlockRoot } from './block-root.ts'
import { ChunkReader } from './chunk-reader.ts'
import type { ChunkTable } from './chunk-table.ts'
import { type Content, visitContent } from './content.ts'
import type { BackupKind } from './manifest.ts'
import { joinPath, readTreeRoot, TreeWalk } from './segment.ts'
import type { TaskContext } from './tasks.ts'
import type { TreeRecord } from './tree-record.ts'

/** Something that a backup needs and the repository lacks. */
export interface MissingChunk {
  readonly id: string
  /** The path concerned, or what else it is part of. */
  readonly path: Buffer
  readonly fact: string
  /** The pack that it was read from and found altered; null when it was not read. */
  readonly pack: string | null
}

export class Reachable {
  readonly missing: MissingChunk[] = []
  readonly #table: ChunkTable
  readonly #reader: ChunkReader
  readonly #marks: Uint8Array
  readonly #isLost: (id: Buffer) => boolean
  #path: Buffer = Buffer.alloc(0)

  /** @param isLost true for chunks that are in the table but known not to open */
  constructor({ bridge, seal }: TaskContext, table: ChunkTable, isLost: (id: Buffer) => boolean = () => false) {
    this.#isLost = isLost
    this.#table = table
    this.#reader = new ChunkReader(bridge, seal, table)
    this.#marks = new Uint8Array((table.size >> 3) + 1)
  }

  /** Whether entry `number` of the table has been reached. */
  isMarked(number: number): boolean {
    return ((this.#marks[number >> 3] ?? 0) & (1 << (number & 7))) !== 0
  }

  /** Adds all that a backup needs. */
  addBackup({ kind, root }: { readonly kind: BackupKind; readonly root: string }): void {
    this.#path = Buffer.from(kind === 'tree' ? '/' : 'the device')
    const id = Buffer.from(root, 'hex')
    this.#mark(id)
    this.#inspect(id, (bytes) => {
      if (kind === 'block') this.#addContent(readBlockRoot(bytes).content)
      else this.#addTree(bytes)
    })
  }

  #addTree(bytes: Uint8Array): void {
    for (const { id, path } of readTreeRoot(bytes)) {
      this.#path = path
      if (this.#mark(id)) this.#inspect(id, (segment) => this.#addSegment(segment))
    }
  }

  #addSegment(bytes: Uint8Array): void {
    for (const { directory, record } of new TreeWalk(this.#path.length > 0).segment(bytes)) {
      if (record) this.#addRecord(joinPath(directory, record.name), record)
    }
  }

  #addRecord(path: Buffer, record: TreeRecord): void {
    this.#path = path
    if (record.attributesId) this.#mark(record.attributesId)
    if (record.content) this.#addContent(record.content)
  }

  #addContent(content: Content): void {
    let list: Uint8Array = Buffer.alloc(0)
    visitContent(content, () => list, {
      enter: (id) => this.#mark(id) && this.#inspect(id, (bytes) => (list = bytes)),
      chunk: (id) => this.#mark(id),
    })
  }

  /** @returns whether it is there and was not marked before */
  #mark(id: Buffer): boolean {
    const number = this.#table.find(id)
    if (number < 0 || this.#isLost(id)) {
      this.#lacks(id, number < 0 ? 'missing' : 'corrupt')
      return false
    }
    if (this.isMarked(number)) return false
    this.#marks[number >> 3] = (this.#marks[number >> 3] ?? 0) | (1 << (number & 7))
    return true
  }

  /** Reads a chunk and has it looked into; damage is noted. @returns whether it was sound */
  #inspect(id: Buffer, look: (bytes: Uint8Array) => void): boolean {
    const before = this.missing.length
    const place = this.#table.locate(id)
    if (place === undefined) return false
    try {
      look(this.#reader.read(id))
      return true
    } catch (error) {
      if (!isAppError(error, 'CORRUPT')) throw error
      if (this.missing.length === before) {
        this.#lacks(id, 'corrupt, or in a pack that is missing', this.#table.packId(place.pack))
      }
      return false
    }
  }

  #lacks(id: Buffer, fact: string, pack: string | null = null): void {
    this.missing.push({ id: id.toString('hex'), path: this.#path, fact, pack })
  }
}
