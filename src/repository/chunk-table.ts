/**
 * The table of all chunks known: id -> where it is. In shared memory, so that every worker finds and claims chunks without
 * asking anybody, and without a JavaScript object per chunk: 48 bytes each plus the hash slots.
 *
 * Open addressing. A slot holds the number of an entry plus 1 and is set once, by compare-and-exchange, after the entry has been
 * written; ids are compared whole.
 */

import { AppError } from '../errors.ts'
import { type ChunkEntry, checkEntry, entryLength, firstOffset, idLength } from './chunk-entry.ts'
import type { IndexedPack } from './index-object.ts'

/** What a worker needs to use the table of another. */
export interface SharedTable {
  readonly slots: SharedArrayBuffer
  readonly entries: SharedArrayBuffer
  readonly packs: SharedArrayBuffer
  readonly counts: SharedArrayBuffer
}

/** Where a chunk is. */
export interface ChunkPlace extends ChunkEntry {
  /** Number of its pack; `packId` gives the name. */
  readonly pack: number
}

const words = 12
const packBytes = 40
/** Pack number of a chunk that this run is storing. */
const claimed = -1
const entryCount = 0
const packCount = 1

export class ChunkTable {
  readonly shared: SharedTable
  /** Whether chunks that indexes name were left out, since their packs are condemned or gone. Not shared. */
  isShort = false
  readonly #slots: Int32Array
  readonly #entries: Int32Array
  readonly #bytes: Buffer
  readonly #packs: Buffer
  readonly #counts: Int32Array
  readonly #mask: number
  readonly #capacity: number
  readonly #probe = new Int32Array(8)
  readonly #probeBytes = new Uint8Array(this.#probe.buffer)

  constructor(shared: SharedTable) {
    this.shared = shared
    this.#slots = new Int32Array(shared.slots)
    this.#entries = new Int32Array(shared.entries)
    this.#bytes = Buffer.from(shared.entries)
    this.#packs = Buffer.from(shared.packs)
    this.#counts = new Int32Array(shared.counts)
    this.#mask = this.#slots.length - 1
    this.#capacity = this.#entries.length / words
  }

  /** A table for at most `chunks` and `packs`. Memory is taken as it fills. */
  static create(chunks: number, packs: number): ChunkTable {
    const slots = 2 ** Math.ceil(Math.log2(Math.max(1024, chunks * 1.4)))
    return new ChunkTable({
      slots: new SharedArrayBuffer(slots * 4),
      entries: new SharedArrayBuffer(Math.max(1, chunks) * words * 4),
      packs: new SharedArrayBuffer(Math.max(1, packs) * packBytes),
      counts: new SharedArrayBuffer(8),
    })
  }

  /** Entries used; more than there are distinct chunks when two workers met on one. */
  get size(): number {
    return Math.min(Atomics.load(this.#counts, entryCount), this.#capacity)
  }

  get packs(): number {
    return Atomics.load(this.#counts, packCount)
  }

  /**
   * Adds the chunks of one pack; those that are known already stay where they are. @returns the pack's number
   * @throws CORRUPT for an impossible directory, INTERNAL when the table is full
   */
  addPack(pack: IndexedPack): number {
    const number = Atomics.add(this.#counts, packCount, 1)
    if ((number + 1) * packBytes > this.#packs.length) throw full()
    this.#packs.write(pack.id, number * packBytes, 'hex')
    this.#packs.writeUInt32LE(pack.size, number * packBytes + 32)
    this.#addEntries(number, pack)
    return number
  }

  /** Without an object per chunk: a repository may have millions. */
  #addEntries(number: number, { id, directory }: IndexedPack): void {
    const entries = Buffer.from(directory.buffer, directory.byteOffset, directory.byteLength)
    let offset = firstOffset
    for (let at = 0; at < entries.length; at += entryLength) {
      const stored = entries.readUInt32LE(at + 32)
      const length = entries.readUInt32LE(at + 36)
      const kinds = entries.readUInt32LE(at + 40)
      checkEntry(id, offset, stored, length, kinds)
      entries.copy(this.#probeBytes, 0, at, at + idLength)
      const meta = length | ((kinds & 3) << 25) | ((kinds >> 8) << 27)
      if (this.#insertProbe(number, offset, stored, meta) === 'full') throw full()
      offset += stored
    }
  }

  /** The pack's id in hex. */
  packId(number: number): string {
    return this.#packs.toString('hex', number * packBytes, number * packBytes + 32)
  }

  packSize(number: number): number {
    return this.#packs.readUInt32LE(number * packBytes + 32)
  }

  /** Whether the chunk is stored, or being stored by this run. */
  has(id: Uint8Array): boolean {
    return this.find(id) >= 0
  }

  /**
   * True for exactly one caller per unknown id: who must store it. Once the table is full every caller is told to: chunks
   * may be stored twice then, which costs room and nothing else.
   */
  claim(id: Uint8Array): boolean {
    this.#probeBytes.set(id)
    return this.#insertProbe(claimed, 0, 0, 0) !== 'known'
  }

  /** Where the chunk is, or undefined when it is unknown or not stored yet. */
  locate(id: Uint8Array): ChunkPlace | undefined {
    const entry = this.find(id)
    return entry < 0 ? undefined : this.place(entry)
  }

  /** The place of entry `number`. */
  place(number: number): ChunkPlace | undefined {
    const at = number * words
    const pack = this.#word(at + 8)
    if (pack === claimed) return undefined
    const meta = this.#word(at + 11)
    return {
      id: this.#bytes.subarray(at * 4, at * 4 + idLength),
      pack,
      offset: this.#word(at + 9),
      stored: this.#word(at + 10),
      length: meta & 0x1ffffff,
      method: (meta >> 25) & 3,
      kind: (meta >> 27) & 7,
    }
  }

  /** The entry's number, below `size`, or -1. */
  find(id: Uint8Array): number {
    this.#probeBytes.set(id)
    for (let slot = this.#first(); ; slot = (slot + 1) & this.#mask) {
      const entry = Atomics.load(this.#slots, slot) - 1
      if (entry < 0 || this.#isProbe(entry)) return entry
    }
  }

  #insertProbe(pack: number, offset: number, stored: number, meta: number): 'known' | 'new' | 'full' {
    let mine = -1
    for (let slot = this.#first(); ; slot = (slot + 1) & this.#mask) {
      let holder = Atomics.load(this.#slots, slot)
      if (holder === 0) {
        if (mine < 0) mine = this.#write(pack, offset, stored, meta)
        if (mine < 0) return 'full'
        holder = Atomics.compareExchange(this.#slots, slot, 0, mine + 1)
        if (holder === 0) return 'new'
      }
      if (this.#isProbe(holder - 1)) return 'known'
    }
  }

  #write(pack: number, offset: number, stored: number, meta: number): number {
    const number = Atomics.add(this.#counts, entryCount, 1)
    if (number >= this.#capacity) return -1
    const at = number * words
    this.#entries.set(this.#probe, at)
    this.#entries[at + 8] = pack
    this.#entries[at + 9] = offset
    this.#entries[at + 10] = stored
    this.#entries[at + 11] = meta
    return number
  }

  #first(): number {
    return (this.#probe[0] ?? 0) & this.#mask
  }

  #word(at: number): number {
    return this.#entries[at] ?? 0
  }

  #isProbe(entry: number): boolean {
    const at = entry * words
    for (let i = 0; i < 8; i++) if (this.#entries[at + i] !== this.#probe[i]) return false
    return true
  }
}

function full(): AppError {
  return new AppError('INTERNAL', 'the table of chunks is full: more were indexed than the sizes of the indexes allow')
}
