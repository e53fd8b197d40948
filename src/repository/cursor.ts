/**
 * Reading and writing packed little-endian bytes. A reader never goes beyond its end and never allocates: whatever is claimed
 * by hostile input is bounded by the input's own length.
 */

import { AppError } from '../errors.ts'

export class ByteReader {
  readonly bytes: Buffer
  position = 0
  readonly #what: string

  /** `what` names the thing in errors: `manifest 4f…`. */
  constructor(bytes: Uint8Array, what: string) {
    this.bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#what = what
  }

  get remaining(): number {
    return this.bytes.length - this.position
  }

  /** @throws CORRUPT always */
  fail(fact: string): never {
    throw new AppError('CORRUPT', `${this.#what} is corrupt at byte ${this.position}: ${fact}`)
  }

  #advance(count: number): number {
    if (count > this.remaining) this.fail(`it ends ${count - this.remaining} bytes too early`)
    const start = this.position
    this.position += count
    return start
  }

  u8(): number {
    return this.bytes.readUInt8(this.#advance(1))
  }

  u16(): number {
    return this.bytes.readUInt16LE(this.#advance(2))
  }

  u32(): number {
    return this.bytes.readUInt32LE(this.#advance(4))
  }

  /** @throws CORRUPT for more than 2^53 - 1 */
  u64(): number {
    const at = this.#advance(8)
    const value = this.bytes.readUInt32LE(at + 4) * 2 ** 32 + this.bytes.readUInt32LE(at)
    if (!Number.isSafeInteger(value)) this.fail('a number is too large')
    return value
  }

  i64(): bigint {
    return this.bytes.readBigInt64LE(this.#advance(8))
  }

  /** A view, not a copy. */
  take(count: number): Buffer {
    const start = this.#advance(count)
    return this.bytes.subarray(start, start + count)
  }

  /** @throws CORRUPT when anything is left */
  end(): void {
    if (this.remaining > 0) this.fail(`${this.remaining} bytes too many`)
  }
}

export class ByteWriter {
  #bytes: Buffer
  length = 0

  constructor(capacity = 1024) {
    this.#bytes = Buffer.allocUnsafe(capacity)
  }

  #room(count: number): number {
    const start = this.length
    this.length += count
    if (this.length > this.#bytes.length) {
      const larger = Buffer.allocUnsafe(Math.max(this.length, this.#bytes.length * 2))
      this.#bytes.copy(larger, 0, 0, start)
      this.#bytes = larger
    }
    return start
  }

  u8(value: number): this {
    const at = this.#room(1)
    this.#bytes.writeUInt8(value, at)
    return this
  }

  u16(value: number): this {
    const at = this.#room(2)
    this.#bytes.writeUInt16LE(value, at)
    return this
  }

  u32(value: number): this {
    const at = this.#room(4)
    this.#bytes.writeUInt32LE(value, at)
    return this
  }

  u64(value: number): this {
    const at = this.#room(8)
    this.#bytes.writeUInt32LE(value % 2 ** 32, at)
    this.#bytes.writeUInt32LE(Math.floor(value / 2 ** 32), at + 4)
    return this
  }

  i64(value: bigint): this {
    const at = this.#room(8)
    this.#bytes.writeBigInt64LE(value, at)
    return this
  }

  put(bytes: Uint8Array): this {
    const at = this.#room(bytes.length)
    this.#bytes.set(bytes, at)
    return this
  }

  /** Sets an earlier `u16` once its value is known. */
  patchU16(at: number, value: number): void {
    this.#bytes.writeUInt16LE(value, at)
  }

  /** What was written so far; a view that the next write or `clear` may change. */
  view(): Buffer {
    return this.#bytes.subarray(0, this.length)
  }

  clear(): void {
    this.length = 0
  }
}
