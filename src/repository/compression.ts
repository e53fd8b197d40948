/** How a chunk's or an object's bytes are made shorter: zstd from Node, or not at all when that does not pay. */

import { AppError } from '../errors.ts'
import { type Allocate, unzstd, zstd } from './zstd-frames.ts'

/** Values of a directory entry's method (FORMAT.md 4.1). */
const methods = { stored: 0, zstd: 1 } as const

/** Below this nothing is gained: a frame has 9 bytes of its own. */
const shortest = 64

/** Compresses when it saves at least 1/32. @returns the method and the bytes: good until the next call, or `content` itself */
export function compress(content: Uint8Array): { method: number; bytes: Uint8Array } {
  if (content.length < shortest) return { method: methods.stored, bytes: content }
  const bytes = zstd(content)
  if (bytes.length > content.length - (content.length >> 5)) return { method: methods.stored, bytes: content }
  return { method: methods.zstd, bytes }
}

/** Whether the beginning of a file compresses to less than 90 % (FORMAT.md 5.2). */
export function compressesWell(sample: Uint8Array): boolean {
  return sample.length > 0 && zstd(sample).length < sample.length * 0.9
}

/**
 * Undoes `compress`, in memory from `allocate`; takes no more memory than `length` whatever the frame claims.
 * @throws CORRUPT when the result has not exactly `length` bytes
 */
export function decompress(
  method: number,
  bytes: Uint8Array,
  length: number,
  what: string,
  allocate?: Allocate,
): Uint8Array {
  if (method === methods.stored && bytes.length === length) return bytes
  if (method !== methods.zstd) throw corrupt(what, `method ${method} with ${bytes.length} for ${length} bytes`)
  const content = unpack(bytes, length, what, allocate)
  if (content.length !== length) throw corrupt(what, `it has ${content.length} bytes instead of ${length}`)
  return content
}

function unpack(bytes: Uint8Array, length: number, what: string, allocate?: Allocate): Uint8Array {
  try {
    return unzstd(bytes, length, allocate)
  } catch (error) {
    throw corrupt(what, (error as Error).message)
  }
}

function corrupt(what: string, fact: string): AppError {
  return new AppError('CORRUPT', `${what} does not decompress: ${fact}`)
}
