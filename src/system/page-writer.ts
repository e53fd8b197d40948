/**
 * Writes pieces to their places in a file or device. Pieces that follow each other are joined, and whole pages go past the page cache where the file
 * system takes that: nothing else loses its place there, bytes are not copied into it, and two writers of one file do not wait for each other.
 */

import { closeSync, constants, openSync, statfsSync, writeSync } from 'node:fs'
import { errno } from '../errors.ts'
import type { Bytes } from '../model.ts'
import { directRefusals, fileSystemTypes } from './direct-io.ts'
import { pageLength, pageMemory } from './page-memory.ts'

const roomLength = 2 * 2 ** 20

export class PageWriter {
  /** Byte `at` of the file is byte `at - #start` of it: a place at a page in both. */
  readonly #room = Buffer.from(pageMemory(roomLength))
  #fd = -1
  /** Undefined where the file system refuses. */
  #direct: number | undefined
  /** A multiple of a page. */
  #start: Bytes = 0
  /** What is to be written, in the room. */
  #from = 0
  #to = 0

  /** Begins with a file that is there; symlinks are not followed. @throws system errors */
  open(path: string): void {
    const flags = constants.O_WRONLY | constants.O_NOFOLLOW
    this.#fd = openSync(path, flags)
    this.#direct = takesDirect(path) ? orRefused(() => openSync(path, flags | constants.O_DIRECT)) : undefined
    this.#begin(0)
  }

  /** The bytes may be used again at once; they are in the file after `close` at the latest. */
  write(bytes: Uint8Array, offset: Bytes): void {
    if (offset !== this.#start + this.#to) {
      this.#flush()
      this.#begin(offset)
    }
    for (let done = 0; done < bytes.length; ) {
      const part = bytes.subarray(done, done + roomLength - this.#to)
      this.#room.set(part, this.#to)
      this.#to += part.length
      done += part.length
      if (this.#to === roomLength) this.#flush()
    }
  }

  /** Writes what is left and closes the file. */
  close(): void {
    try {
      this.#flush()
    } finally {
      this.abandon()
    }
  }

  /** Closes the file as it is. */
  abandon(): void {
    const [fd, direct] = [this.#fd, this.#direct]
    this.#begin(0)
    // A number is closed once: it may stand for another thread's file the next moment, and closing may fail.
    this.#fd = -1
    this.#direct = undefined
    try {
      if (direct !== undefined) closeSync(direct)
    } finally {
      if (fd >= 0) closeSync(fd)
    }
  }

  #begin(offset: Bytes): void {
    this.#from = offset % pageLength
    this.#to = this.#from
    this.#start = offset - this.#from
  }

  #flush(): void {
    const first = Math.min(this.#to, Math.ceil(this.#from / pageLength) * pageLength)
    const last = Math.max(first, this.#to - (this.#to % pageLength))
    this.#put(this.#from, first)
    this.#putPages(first, last)
    this.#put(last, this.#to)
    this.#begin(this.#start + this.#to)
  }

  #put(from: number, to: number): void {
    for (let at = from; at < to; ) at += writeSync(this.#fd, this.#room, at, to - at, this.#start + at)
  }

  #putPages(from: number, to: number): void {
    let at = from
    while (this.#direct !== undefined && at < to && at % pageLength === 0) {
      const fd = this.#direct
      const written = orRefused(() => writeSync(fd, this.#room, at, to - at, this.#start + at))
      at += written ?? 0
      if (written !== undefined) continue
      this.#direct = undefined
      closeSync(fd)
    }
    this.#put(at, to)
  }
}

/** Undefined when the file system, or the alignment that it wants, does not allow it. */
function orRefused(work: () => number): number | undefined {
  try {
    return work()
  } catch (error) {
    if (directRefusals.includes(errno(error) ?? '')) return undefined
    throw error
  }
}

/** On btrfs what is not compressed may not fit. */
function takesDirect(path: string): boolean {
  const { type } = statfsSync(path)
  return type !== fileSystemTypes.fuse && type !== fileSystemTypes.btrfs
}
