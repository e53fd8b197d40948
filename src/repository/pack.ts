/** Packs: many chunks in one object, with their directory at its end (FORMAT.md 4.1). In memory only; does no I/O. */

import { AppError } from '../errors.ts'
import { pageMemory } from '../system/page-memory.ts'
import { release } from '../system/release.ts'
import { type ChunkEntry, encodeEntry, entryLength, firstOffset, maxPack, readEntry } from './chunk-entry.ts'
import { ByteWriter } from './cursor.ts'
import { newId, objectName } from './layout.ts'
import type { PackSeal, Seal } from './seal.ts'

const magic = Buffer.from('HFP\x01', 'latin1')
const headLength = firstOffset
const footLength = 16
/** A pack is closed before it would exceed this, unless one chunk alone does. */
const targetSize = 8 * 2 ** 20
/** What the memory of a pack measures, unless one chunk alone needs more. A store on a disk can write it past the page cache. */
export const packMemory = targetSize

export interface FinishedPack {
  readonly id: string
  readonly name: string
  /** All of the object, in memory that threads share. */
  readonly bytes: Uint8Array<SharedArrayBuffer>
  /** Entries as in the directory, for an index. */
  readonly directory: Buffer
}

/** Collects chunks into one pack. */
export class PackBuilder {
  readonly #seal: PackSeal
  readonly #overheads: number
  readonly #id = newId('packs')
  readonly #name = objectName('packs', this.#id)
  readonly #head: Buffer
  readonly #directory = new ByteWriter()
  #bytes: Uint8Array<SharedArrayBuffer>
  #used = headLength

  /** @param memory at least `packMemory` bytes that nobody else uses, to save the taking of new ones */
  constructor(seal: Seal, memory = pageMemory(packMemory)) {
    this.#seal = seal.forPack(this.#name)
    this.#overheads = seal.directoryOverhead + footLength
    this.#head = headOf(seal.encrypted)
    this.#bytes = new Uint8Array(memory)
    this.#bytes.set(this.#head)
  }

  /** Whether a chunk stored in `stored` bytes still belongs into this pack. */
  fits(stored: number): boolean {
    return this.isEmpty || this.#closedSize(stored) <= targetSize
  }

  get isEmpty(): boolean {
    return this.#directory.length === 0
  }

  #closedSize(more: number): number {
    return this.#used + more + this.#directory.length + entryLength + this.#overheads
  }

  /** Appends a chunk. `bytes` are its content after compression, not yet sealed; `stored` their length once sealed. */
  add(entry: Omit<ChunkEntry, 'offset'>, bytes: Uint8Array): void {
    this.#reserve(this.#closedSize(entry.stored))
    const encoded = encodeEntry({ ...entry, offset: this.#used })
    this.#directory.put(encoded)
    for (const part of this.#seal.sealChunk(this.#used, encoded, bytes)) {
      this.#append(part)
      if (part !== bytes) release(part)
    }
  }

  #append(part: Uint8Array): void {
    this.#bytes.set(part, this.#used)
    this.#used += part.length
  }

  #reserve(size: number): void {
    if (size <= this.#bytes.length) return
    const larger = new Uint8Array(new SharedArrayBuffer(size))
    larger.set(this.#bytes.subarray(0, this.#used))
    this.#bytes = larger
  }

  /** Ends the pack; the builder is of no further use. */
  finish(): FinishedPack {
    const directory = Buffer.from(this.#directory.view())
    const foot = Buffer.alloc(footLength)
    foot.writeUInt32LE(directory.length + this.#overheads - footLength, 0)
    foot.writeUInt32LE(directory.length / entryLength, 4)
    foot.set(magic, 12)
    this.#append(this.#seal.sealDirectory(this.#used, Buffer.concat([this.#head, foot]), directory))
    this.#append(foot)
    return { id: this.#id, name: this.#name, bytes: this.#bytes.subarray(0, this.#used), directory }
  }
}

function headOf(encrypted: boolean): Buffer {
  const head = Buffer.alloc(headLength)
  head.set(magic)
  head.writeUInt32LE(encrypted ? 1 : 0, 4)
  return head
}

/**
 * Reads the directory of a stored pack.
 * @param size of the object @param read gives the bytes from `start` to `end` of it
 * @returns entries in order of their offsets, which cover the pack without a gap
 * @throws CORRUPT when the object is no sound pack of this name
 */
export function readPackDirectory(
  seal: Seal,
  name: string,
  size: number,
  read: (start: number, end: number) => Uint8Array,
): Buffer {
  const fail = (fact: string) =>
    new AppError('CORRUPT', `${name} is corrupt: ${fact}; repair leaves it out of the index`)
  if (size < headLength + footLength || size > maxPack) throw fail(`it has ${size} bytes`)
  const head = Buffer.from(read(0, headLength))
  const foot = Buffer.from(read(size - footLength, size))
  const length = foot.readUInt32LE(0)
  const count = foot.readUInt32LE(4)
  const start = size - footLength - length
  const sound = head.equals(headOf(seal.encrypted)) && foot.readUInt32LE(8) === 0 && foot.subarray(12).equals(magic)
  if (!sound || start < headLength || length !== count * entryLength + seal.directoryOverhead)
    throw fail('no directory')
  const sealed = Buffer.from(read(start, start + length))
  const directory = seal.forPack(name).openDirectory(start, Buffer.concat([head, foot]), sealed)
  if (endOfChunks(directory, name) !== start) throw fail('its chunks do not fill it')
  return directory
}

function endOfChunks(directory: Buffer, name: string): number {
  let end = headLength
  for (const entry of directoryEntries(directory, name)) end += entry.stored
  return end
}

/** The entries of a directory with their offsets. @throws CORRUPT for an impossible one */
export function* directoryEntries(directory: Uint8Array, name: string): Generator<ChunkEntry> {
  const entries = Buffer.from(directory.buffer, directory.byteOffset, directory.byteLength)
  let offset = headLength
  for (let at = 0; at < entries.length; at += entryLength) {
    const entry = readEntry(entries, at, offset, name)
    yield entry
    offset += entry.stored
  }
}
