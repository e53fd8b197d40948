/**
 * The tree of the parent backup, walked in step with the directory tree that is being backed up: both are in the same order, so that finding a
 * path's former record costs nothing but reading on. Records are looked at where they lie; no object per record.
 */

import { idLength } from './chunk-entry.ts'
import { referenceLength } from './content.ts'
import { ByteReader } from './cursor.ts'
import { flags, headLength, readRecord, type TreeRecord, type TreeStat, types } from './tree-record.ts'

const hole = Buffer.alloc(idLength)
/** The kernel's clock for files ticks every few ms. */
const clockTickNs = 20_000_000n
/** Of file systems that keep whole seconds only. */
const wholeTickNs = 2_000_000_000n

export class ParentCursor {
  readonly #segments: Iterator<Uint8Array>
  /** What was changed from here on may have changed again, within the same tick, after the parent's moment. */
  readonly #unsureFrom: bigint
  #bytes: Buffer = Buffer.alloc(0)
  #at = 0
  #length = 0

  /**
   * Begins at the root. @param segments contents in order; already authenticated
   * @param createdAtMs the moment whose state the parent holds, at the latest
   */
  constructor(segments: Iterator<Uint8Array>, createdAtMs: number) {
    this.#segments = segments
    this.#unsureFrom = BigInt(createdAtMs) * 1_000_000n - clockTickNs
    this.#load()
  }

  /** False at the end of a directory. */
  get hasRecord(): boolean {
    return this.type !== types.end
  }

  get type(): number {
    return this.#length === 0 ? types.end : (this.#bytes[this.#at + 2] ?? 0)
  }

  /** Latin1. */
  get name(): string {
    const start = this.#at + headLength
    return this.#bytes.toString('latin1', start, start + (this.#bytes[this.#at + 6] ?? 0))
  }

  /** The record's own bytes, as long as the cursor stays. */
  view(): Buffer {
    return this.#bytes.subarray(this.#at, this.#at + this.#length)
  }

  /** The record, parsed. @throws CORRUPT */
  record(): TreeRecord | null {
    return readRecord(new ByteReader(Buffer.from(this.view()), 'a record of the parent backup'))
  }

  /** Goes to the record of `name` in the current directory, past all before it. @returns whether it is there */
  seek(name: string): boolean {
    while (this.hasRecord) {
      const own = this.name
      if (own >= name) return own === name
      this.skip()
    }
    return false
  }

  /** Whether the record says of a file what `stat` says, and was sure of it. */
  matches(stat: TreeStat): boolean {
    const at = this.#at
    const view = this.#bytes
    // ctime first: it changes with everything else, so that of a changed file nothing more is looked at.
    return (
      this.#isSureOf(stat.ctimeNs) &&
      this.#timeIs(stat.ctimeNs, at + 24, at + 36) &&
      this.#timeIs(stat.mtimeNs, at + 16, at + 32) &&
      view.readBigUInt64LE(at + 40) === stat.inode &&
      ((view[at + 3] ?? 0) & flags.changed) === 0 &&
      this.#ownsAre(stat)
    )
  }

  #isSureOf(timeNs: bigint): boolean {
    const sureBefore = this.#unsureFrom - (timeNs % 1_000_000_000n === 0n ? wholeTickNs : 0n)
    return timeNs < sureBefore
  }

  #ownsAre({ type, mode, uid, gid, size }: TreeStat): boolean {
    const at = this.#at
    const view = this.#bytes
    return (
      view[at + 2] === type &&
      view.readUInt16LE(at + 4) === mode &&
      view.readUInt32LE(at + 8) === uid &&
      view.readUInt32LE(at + 12) === gid &&
      (type !== types.file || view.readBigUInt64LE(at + 48) === size)
    )
  }

  /** Whether the record is of a file whose content is kept in lists. */
  get hasLists(): boolean {
    const level = this.#at + headLength + (this.#bytes[this.#at + 6] ?? 0)
    return this.type === types.file && (this.#bytes[level] ?? 0) > 0
  }

  /** Whether `has` knows all chunks and lists that the record names itself. */
  everyReference(has: (id: Buffer) => boolean): boolean {
    const view = this.#bytes
    const recordFlags = view[this.#at + 3] ?? 0
    const end = this.#at + this.#length
    const first = this.#at + headLength + (view[this.#at + 6] ?? 0) + 3
    const count = this.type === types.file ? view.readUInt16LE(first - 2) : 0
    for (let at = first; count > 0 && at < first + count * referenceLength; at += referenceLength) {
      const id = view.subarray(at, at + idLength)
      if (!has(id) && !id.equals(hole)) return false
    }
    return (recordFlags & flags.attributesChunk) === 0 || has(view.subarray(end - idLength, end))
  }

  #timeIs(ns: bigint, seconds: number, rest: number): boolean {
    return this.#bytes.readBigInt64LE(seconds) * 1_000_000_000n + BigInt(this.#bytes.readUInt32LE(rest)) === ns
  }

  /** Goes into the current record, a directory. */
  enter(): void {
    this.#advance()
  }

  /** Goes past what is left of the current directory, and its end. */
  leave(): void {
    while (this.hasRecord) this.skip()
    this.#advance()
  }

  /** Goes past the current record and all that is in it. */
  skip(): void {
    const isDirectory = this.type === types.directory
    this.#advance()
    if (isDirectory) this.leave()
  }

  #advance(): void {
    this.#at += this.#length
    this.#load()
  }

  #load(): void {
    while (this.#at >= this.#bytes.length) {
      const next = this.#segments.next()
      if (next.done) {
        this.#length = 0
        return
      }
      this.#bytes = Buffer.from(next.value.buffer, next.value.byteOffset, next.value.byteLength)
      this.#at = 2 + this.#bytes.readUInt16LE(0)
    }
    this.#length = this.#bytes.readUInt16LE(this.#at)
    // A record of no length would be read for ever: the full check is the reader's (readRecord).
    if (this.#length < 4) new ByteReader(this.#bytes, 'a segment of the parent backup').fail('a record without length')
  }
}
