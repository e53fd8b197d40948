/** Where content is cut into chunks, and which of the three profiles a file has (FORMAT.md 5.2). */

import { WebAssembly, wasmPageLength } from '../system/page-memory.ts'
import { compressesWell } from './compression.ts'
import { gearModule } from './gear-wasm.ts'

/** Numbers as in a file's record. */
export const profiles = { large: 1, small: 2, fixed: 3 } as const

export type Profile = (typeof profiles)[keyof typeof profiles]

/** Chunks of profile `fixed`, and of block devices. */
export const fixedLength = 64 * 1024

interface Sizes {
  readonly min: number
  readonly max: number
  readonly mask: number
}

const sizes: Readonly<Record<1 | 2, Sizes>> = {
  1: { min: 512 * 1024, max: 4 * 2 ** 20, mask: -1 << (32 - 19) },
  2: { min: 32 * 1024, max: 256 * 1024, mask: -1 << (32 - 15) },
}

const window = 32
/** What is read of a file at once: room for the longest chunk and as much again. */
const bufferLength = 8 * 2 ** 20

/** Cuts what lies in its buffer. One per worker: it holds 8 MiB. */
export class Chunker {
  /** Read content into this. */
  readonly buffer: Buffer
  readonly #cut: (at: number, end: number, mask: number) => number

  /** @param gear 1024 bytes, `Seal.gearTable()` */
  constructor(gear: Uint8Array) {
    const pages = bufferLength / wasmPageLength + 1
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages })
    new Uint8Array(memory.buffer).set(gear)
    const module = new WebAssembly.Module(gearModule())
    const instance = new WebAssembly.Instance(module, { m: { m: memory } })
    this.#cut = instance.exports.cut as (at: number, end: number, mask: number) => number
    this.buffer = Buffer.from(memory.buffer, wasmPageLength, bufferLength)
  }

  /**
   * Where the chunk that begins at `start` of the buffer ends. The buffer holds content up to `end`, which is the end of the
   * content when it is less than `longest(profile)` away.
   */
  next(profile: Profile, start: number, end: number): number {
    if (profile === profiles.fixed) return Math.min(start + fixedLength, end)
    const { min, max, mask } = sizes[profile]
    if (end - start <= min) return end
    const limit = Math.min(end, start + max)
    return this.#cut(wasmPageLength + start + min - window, wasmPageLength + limit, mask) - wasmPageLength
  }
}

/** Longest chunk of a profile. */
export function longest(profile: Profile): number {
  return profile === profiles.fixed ? fixedLength : sizes[profile].max
}

/** What an earlier backup knows of the same path. */
export interface FormerFile {
  readonly profile: Profile
  /** It was the same inode, and the file has not become longer since. */
  readonly changedInPlace: boolean
}

const smallFrom = 32 * 2 ** 20
const stickyFrom = 16 * 2 ** 20
export const sampleLength = 65_536

/** The profile for a file of `size` bytes; `sample` is asked for the file's first 64 KiB when they matter. */
export function chooseProfile(size: number, former: FormerFile | undefined, sample: () => Buffer): Profile {
  if (size < (former && former.profile !== profiles.large ? stickyFrom : smallFrom)) return profiles.large
  if (former?.profile === profiles.small) return profiles.small
  if (former?.profile === profiles.fixed && size % 4096 === 0) return profiles.fixed
  const head = sample()
  if (!former?.changedInPlace && !compressesWell(head)) return profiles.large
  const isTar = head.toString('latin1', 257, 262) === 'ustar'
  return size % 4096 === 0 && !isTar ? profiles.fixed : profiles.small
}
