/** Segments: the stretches of records that a tree's metadata is stored in, and the root that lists them (FORMAT.md 6.1, 6.2). */

import { AppError } from '../errors.ts'
import { idLength } from './chunk-entry.ts'
import { ByteReader, ByteWriter } from './cursor.ts'
import { checkedName, headLength, readRecord, type TreeRecord, types } from './tree-record.ts'

export interface SegmentInfo {
  readonly id: Buffer
  readonly records: number
  /** Path of its first record. */
  readonly path: Buffer
}

const leastLength = 64 * 1024
const mostLength = 2 ** 20
const longestPath = 65_535
const cutMask = 0x3ff
const rootMagic = Buffer.from('HFT\x01', 'latin1')

/** Whether a segment may end behind a record of this name: FNV-1a, 32 bits. */
function cutsAfter(name: Uint8Array): boolean {
  let sum = 0x811c9dc5
  for (let i = 0; i < name.length; i++) sum = Math.imul(sum ^ (name[i] ?? 0), 0x01000193)
  return (sum & cutMask) === 0
}

export function joinPath(directory: Buffer, name: Uint8Array): Buffer {
  if (directory.length === 0) return Buffer.from(name)
  return Buffer.concat([directory, Buffer.from('/'), name])
}

/** '', 'a', 'a/b' for 'a/b'; '' alone for ''. */
export function prefixes(path: Buffer): Buffer[] {
  const ends = [...path.keys()].filter((i) => path[i] === 0x2f)
  return [...new Set([0, ...ends, path.length])].map((end) => path.subarray(0, end))
}

/** Collects records into segments. */
export class SegmentBuilder {
  readonly #store: (segment: Buffer) => Buffer
  readonly #writer = new ByteWriter(leastLength * 2)
  readonly #segments: SegmentInfo[] = []
  #path: Buffer = Buffer.alloc(0)
  #records = 0
  #isFull = false

  /** @param store keeps a segment and gives its id */
  constructor(store: (segment: Buffer) => Buffer) {
    this.#store = store
  }

  /** @param directory path of the directory that the record lies in @param name its name; empty for an end record */
  add(directory: Buffer, name: Uint8Array, record: Uint8Array): void {
    if (directory.length + name.length >= longestPath) throw tooLong(directory)
    // No segment begins with an end record, so that their paths ascend.
    if (this.#isFull && name.length > 0) this.#close()
    if (this.#records === 0) {
      this.#writer.clear()
      this.#writer.u16(directory.length).put(directory)
      this.#path = joinPath(directory, name)
    }
    this.#writer.put(record)
    this.#records++
    const length = this.#writer.length
    if (length >= mostLength || (length >= leastLength && name.length > 0 && cutsAfter(name))) this.#isFull = true
  }

  #close(): void {
    if (this.#records === 0) return
    this.#segments.push({ id: this.#store(this.#writer.view()), records: this.#records, path: this.#path })
    this.#records = 0
    this.#isFull = false
  }

  /** Ends the tree. @returns the content of its root chunk */
  finish(): Buffer {
    this.#close()
    const writer = new ByteWriter()
    writer.put(rootMagic).u32(this.#segments.length)
    for (const { id, records, path } of this.#segments) {
      writer.put(id).u32(records).u16(path.length).put(path)
    }
    return Buffer.from(writer.view())
  }
}

/** @throws CORRUPT */
export function readTreeRoot(bytes: Uint8Array): SegmentInfo[] {
  const reader = new ByteReader(bytes, 'the root of a tree')
  if (!reader.take(4).equals(rootMagic)) reader.fail('it is none')
  const segments: SegmentInfo[] = []
  for (let count = reader.u32(); count > 0; count--) {
    const id = reader.take(idLength)
    const records = reader.u32()
    segments.push({ id, records, path: reader.take(reader.u16()) })
  }
  reader.end()
  return segments
}

function tooLong(directory: Buffer): AppError {
  return new AppError(
    'FAILED_PRECONDITION',
    `a path is longer than ${longestPath} bytes, which a backup cannot hold; move what lies below '${directory.toString('utf8', 0, 100)}…'`,
  )
}

/** One step of a tree: a record in its directory, or the end of a directory (`record` null). */
export interface TreeStep {
  /** Path of the directory that it lies in, or, at its end, of the directory itself. */
  readonly directory: Buffer
  readonly record: TreeRecord | null
  /** The record's own bytes. */
  readonly bytes: Buffer
}

/** Walks the records of segments in order, checking names, order and nesting as it goes. */
export class TreeWalk {
  readonly #ancestors: Buffer[] = []
  readonly #lastNames: (Buffer | undefined)[] = []
  #directory: Buffer = Buffer.alloc(0)
  #begun: boolean

  /** @param fromMiddle begin at any segment: what was before it is not known, nor checked */
  constructor(fromMiddle = false) {
    this.#begun = fromMiddle
  }

  /** @throws CORRUPT */
  *segment(bytes: Uint8Array): Generator<TreeStep> {
    const reader = this.#enter(bytes)
    while (reader.remaining > 0) yield this.#step(reader)
  }

  /** As `segment`, for a tree that has been walked before: undefined stands for a record that is not `wanted`, which is not looked at. Directories always are. */
  *chosen(bytes: Uint8Array, wanted: (type: number, recordFlags: number) => boolean): Generator<TreeStep | undefined> {
    const reader = this.#enter(bytes)
    while (reader.remaining > 0) yield this.#passes(reader, wanted) ? undefined : this.#step(reader)
  }

  #enter(bytes: Uint8Array): ByteReader {
    const reader = new ByteReader(bytes, 'a segment of a tree')
    const directory = reader.take(reader.u16())
    if (this.#begun && this.#ancestors.length === 0 && this.#lastNames.length === 0)
      this.#enterMiddle(reader, directory)
    if (!directory.equals(this.#directory)) reader.fail('it does not follow the one before')
    return reader
  }

  /** Whether the tree's root has ended. */
  get isComplete(): boolean {
    return this.#begun && this.#lastNames.length === 0
  }

  #enterMiddle(reader: ByteReader, directory: Buffer): void {
    const parts = directory.length === 0 ? [] : directory.toString('latin1').split('/')
    this.#lastNames.push(undefined)
    let path: Buffer = Buffer.alloc(0)
    for (const part of parts) {
      const name = checkedName(reader, Buffer.from(part, 'latin1'))
      if (name.length === 0 || name.length > 255) reader.fail('it lies in a directory of an impossible name')
      this.#ancestors.push(path)
      this.#lastNames.push(undefined)
      path = joinPath(path, name)
    }
    this.#directory = path
  }

  #passes(reader: ByteReader, wanted: (type: number, recordFlags: number) => boolean): boolean {
    const { position } = reader
    const [length, type, recordFlags] = [reader.u16(), reader.u8(), reader.u8()]
    reader.position = position
    if (type === types.directory || type === types.end || wanted(type, recordFlags)) return false
    reader.take(Math.max(length, headLength))
    return true
  }

  #step(reader: ByteReader): TreeStep {
    const start = reader.position
    const record = readRecord(reader)
    const bytes = reader.bytes.subarray(start, reader.position)
    const directory = this.#directory
    if (record === null) this.#leave(reader)
    else this.#take(reader, record)
    return { directory, record, bytes }
  }

  #take(reader: ByteReader, record: TreeRecord): void {
    if (!this.#begun) {
      if (record.name.length !== 0 || record.type !== 2) reader.fail('it does not begin with its root')
      this.#begun = true
      this.#lastNames.push(undefined)
      return
    }
    const depth = this.#lastNames.length - 1
    const last = this.#lastNames[depth]
    if (depth < 0) reader.fail('records behind the end')
    if (record.name.length === 0 || (last && Buffer.compare(last, record.name) >= 0)) reader.fail('names out of order')
    this.#lastNames[depth] = record.name
    if (record.type !== 2) return
    this.#ancestors.push(this.#directory)
    this.#lastNames.push(undefined)
    this.#directory = joinPath(this.#directory, record.name)
    if (this.#directory.length > 65_535) reader.fail('a path is too long')
  }

  #leave(reader: ByteReader): void {
    if (this.#lastNames.length === 0) reader.fail('an end without a directory')
    this.#lastNames.pop()
    this.#directory = this.#ancestors.pop() ?? Buffer.alloc(0)
  }
}
