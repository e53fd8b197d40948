/**
 * Contents: what a file or a device consists of, as references to chunks and holes, in lists of lists when there are many
 * (FORMAT.md 5.1). Knows neither packs nor files.
 */

import { AppError } from '../errors.ts'
import type { Bytes } from '../model.ts'
import { idLength, maxChunk } from './chunk-entry.ts'

export const referenceLength = 40
/** Most references in one list. */
export const listLength = 4096
/** Most references kept without a list. */
export const inlineReferences = 16
/** Five levels of 4096 are beyond any size. */
const maxLevel = 5
const hole = Buffer.alloc(idLength)

export interface Content {
  readonly level: number
  /** Whole references, 40 bytes each. */
  readonly references: Buffer
}

/** A stretch of content: a chunk, or a hole when `id` is null. */
export interface Stretch {
  readonly id: Buffer | null
  readonly offset: Bytes
  readonly length: Bytes
}

/** Stores a list and gives its id. */
export type StoreList = (list: Buffer) => Buffer

/** A list of one reference. */
export function oneReference(id: Uint8Array, length: Bytes): Buffer {
  const reference = Buffer.alloc(referenceLength)
  reference.set(id)
  writeLength(reference, 0, length)
  return reference
}

class Level {
  /** Grows: most contents have few references. */
  #bytes = Buffer.alloc(inlineReferences * referenceLength)
  count = 0
  covered = 0

  add(id: Uint8Array, length: number): void {
    const at = this.count++ * referenceLength
    if (at === this.#bytes.length) this.#bytes = Buffer.concat([this.#bytes], this.#bytes.length * 2)
    this.#bytes.set(id, at)
    writeLength(this.#bytes, at, length)
    this.covered += length
  }

  lengthenHole(length: number): boolean {
    const at = (this.count - 1) * referenceLength
    if (this.count === 0 || !isHole(this.#bytes, at)) return false
    writeLength(this.#bytes, at, readLength(this.#bytes, at) + length)
    this.covered += length
    return true
  }

  take(): Buffer {
    const list = Buffer.from(this.#bytes.subarray(0, this.count * referenceLength))
    this.count = 0
    this.covered = 0
    return list
  }
}

/** Collects a content from its beginning to its end. Takes 160 KiB per level, however long the content is. */
export class ContentBuilder {
  readonly #store: StoreList
  readonly #levels: Level[] = [new Level()]

  readonly #base: number

  /** @param base the level of what is added: 0 for chunks, 1 for lists of chunks that others have made */
  constructor(store: StoreList, base = 0) {
    this.#store = store
    this.#base = base
  }

  addChunk(id: Uint8Array, length: Bytes): void {
    this.#add(0, id, length)
  }

  /** Adds references of the base level that another builder has made. */
  addReferences(references: Buffer): void {
    for (let at = 0; at < references.length; at += referenceLength) {
      this.#add(0, references.subarray(at, at + idLength), readLength(references, at))
    }
  }

  /** Holes next to each other become one, up to 2^52 bytes. */
  addHole(length: Bytes): void {
    if (length > 0 && !this.#level(0).lengthenHole(length)) this.#add(0, hole, length)
  }

  /** @param least level of the result; the builder is empty again after */
  finish(least = 0): Content {
    let level = 0
    while (this.#levels.length > level + 1 || level < least || this.#level(level).count > inlineReferences) {
      if (this.#level(level).count > 0) this.#flush(level)
      level++
    }
    const references = this.#level(level).take()
    this.#levels.length = 1
    return { level: level + this.#base, references }
  }

  #level(index: number): Level {
    this.#levels[index] ??= new Level()
    return this.#levels[index]
  }

  #add(index: number, id: Uint8Array, length: number): void {
    const level = this.#level(index)
    if (level.count === listLength) this.#flush(index)
    level.add(id, length)
  }

  #flush(index: number): void {
    const level = this.#level(index)
    const covered = level.covered
    this.#add(index + 1, this.#store(level.take()), covered)
  }
}

/** Reads chunk `id` of kind list. */
export type ReadList = (id: Buffer) => Uint8Array

/**
 * The stretches of `content` that overlap `start` to `end`, in order, whole; lists outside are not read.
 * @throws CORRUPT for lists that contradict themselves
 */
export function* stretches(
  content: Content,
  readList: ReadList,
  start: Bytes = 0,
  end: Bytes = Number.MAX_SAFE_INTEGER,
): Generator<Stretch> {
  yield* below(content.level, content.references, readList, 0, start, end)
}

function* below(
  level: number,
  references: Buffer,
  readList: ReadList,
  offset: Bytes,
  start: Bytes,
  end: Bytes,
): Generator<Stretch> {
  let position = offset
  for (let at = 0; at < references.length && position < end; at += referenceLength) {
    const length = readLength(references, at)
    const id = isHole(references, at) ? null : references.subarray(at, at + idLength)
    if (position + length > start) {
      if (id === null || level === 0) yield { id, offset: position, length }
      else yield* below(level - 1, checkedList(readList(id), level - 1, length), readList, position, start, end)
    }
    position += length
  }
}

/** Ids of all lists of `content`, top first, and through `chunk` those of its chunks; a list for which `enter` says no is passed over. */
export function visitContent(
  content: Content,
  readList: ReadList,
  visit: { enter(id: Buffer): boolean; chunk(id: Buffer, length: Bytes): void },
): void {
  const { level, references } = content
  for (let at = 0; at < references.length; at += referenceLength) {
    if (isHole(references, at)) continue
    const id = references.subarray(at, at + idLength)
    const length = readLength(references, at)
    if (level === 0) visit.chunk(id, length)
    else if (visit.enter(id)) {
      visitContent({ level: level - 1, references: checkedList(readList(id), level - 1, length) }, readList, visit)
    }
  }
}

/**
 * Checks references that were read, of a content of `level` that must cover `length` bytes.
 * @throws CORRUPT
 */
export function checkReferences(references: Buffer, level: number, length: Bytes, what: string): void {
  const fail = (fact: string) => new AppError('CORRUPT', `${what} is corrupt: ${fact}`)
  if (references.length % referenceLength !== 0 || level > maxLevel) throw fail('no list of references')
  let covered = 0
  for (let at = 0; at < references.length; at += referenceLength) {
    const part = readLength(references, at)
    const tooLong = level === 0 && !isHole(references, at) && part > maxChunk
    if (part < 1 || tooLong) throw fail('a reference of impossible length')
    covered += part
  }
  if (covered !== length) throw fail(`it covers ${covered} bytes instead of ${length}`)
}

function checkedList(list: Uint8Array, level: number, length: Bytes): Buffer {
  const references = Buffer.from(list.buffer, list.byteOffset, list.byteLength)
  if (references.length > listLength * referenceLength) {
    throw new AppError('CORRUPT', 'a list of references is corrupt: it is too long')
  }
  checkReferences(references, level, length, 'a list of references')
  return references
}

function isHole(references: Buffer, at: number): boolean {
  return references.compare(hole, 0, idLength, at, at + idLength) === 0
}

/** A length beyond 2^53 - 1 comes out wrong and fails the comparison with what is covered. */
function readLength(references: Buffer, at: number): number {
  return references.readUInt32LE(at + idLength) + references.readUInt32LE(at + idLength + 4) * 2 ** 32
}

function writeLength(references: Buffer, at: number, length: number): void {
  references.writeUInt32LE(length % 2 ** 32, at + idLength)
  references.writeUInt32LE(Math.floor(length / 2 ** 32), at + idLength + 4)
}
