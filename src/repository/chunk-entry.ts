/** A chunk's entry in a pack's directory and in an index (FORMAT.md 4.1): 44 bytes, the same in both. */

import { AppError } from '../errors.ts'

/** What a chunk holds. */
export const kinds = { data: 0, segment: 1, list: 2, root: 3, attributes: 4 } as const

export type ChunkKind = (typeof kinds)[keyof typeof kinds]

export const entryLength = 44
export const idLength = 32
/** Where the first chunk of a pack begins. */
export const firstOffset = 16
/** Longest content of one chunk. */
export const maxChunk = 16 * 2 ** 20
/** Longest pack that a reader accepts. */
export const maxPack = 64 * 2 ** 20

export interface ChunkEntry {
  /** 32 bytes; a view. */
  readonly id: Buffer
  /** Where it begins in its pack. */
  readonly offset: number
  readonly stored: number
  readonly length: number
  readonly method: number
  readonly kind: number
}

export function encodeEntry(entry: ChunkEntry): Buffer {
  const bytes = Buffer.allocUnsafe(entryLength)
  bytes.set(entry.id)
  bytes.writeUInt32LE(entry.stored, 32)
  bytes.writeUInt32LE(entry.length, 36)
  bytes.writeUInt8(entry.method, 40)
  bytes.writeUInt8(entry.kind, 41)
  bytes.writeUInt16LE(0, 42)
  return bytes
}

/** Reads the entry at `at` of a directory; the caller keeps track of the offset. @throws CORRUPT when a value is out of its range */
export function readEntry(directory: Buffer, at: number, offset: number, pack: string): ChunkEntry {
  const stored = directory.readUInt32LE(at + 32)
  const length = directory.readUInt32LE(at + 36)
  checkEntry(pack, offset, stored, length, directory.readUInt32LE(at + 40))
  const id = directory.subarray(at, at + idLength)
  return { id, offset, stored, length, method: directory.readUInt8(at + 40), kind: directory.readUInt8(at + 41) }
}

/** @param last the entry's last four bytes @throws CORRUPT */
export function checkEntry(pack: string, offset: number, stored: number, length: number, last: number): void {
  const known = (last & 0xff) <= 1 && last >>> 8 <= kinds.attributes
  if (known && length >= 1 && length <= maxChunk && stored >= 1 && offset + stored <= maxPack) return
  throw new AppError('CORRUPT', `the directory of pack ${pack} is corrupt: an impossible chunk at ${offset}`)
}
