/**
 * What the backup benchmarks back up: many files of mixed content, and databases of 8 KiB pages; and how both change. Half of
 * every file is noise and half is text that compresses, so that neither side is flattered. Same seed, same bytes.
 */

import { closeSync, fsyncSync, mkdirSync, openSync, readdirSync, readSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'

const pageLength = 8192
const filesPerDirectory = 500

/** A small generator of numbers (xorshift32): fast, and the same on every machine. */
class Noise {
  #state: number

  constructor(seed: number) {
    this.#state = seed | 1
  }

  next(): number {
    let x = this.#state
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    this.#state = x
    return x >>> 0
  }

  /** First half noise, second half digits. */
  fill(buffer: Buffer): Buffer {
    const middle = (buffer.length >> 3) << 2
    for (let at = 0; at + 4 <= middle; at += 4) buffer.writeUInt32LE(this.next(), at)
    for (let at = middle; at < buffer.length; at += 16) {
      buffer.write(String(this.next() % 1000).padEnd(16, 'the row '), at, 'latin1')
    }
    return buffer
  }
}

export interface Shape {
  readonly files: number
  /** Mean length of a file; they are between a quarter and seven quarters of it. */
  readonly meanLength: number
  readonly databases: number
  readonly databasePages: number
}

/** 60,000 files of 2 GiB, and two databases of 1 GiB. */
export const usual: Shape = { files: 60_000, meanLength: 35_791, databases: 2, databasePages: 131_072 }

/** An eighth of it: a gateway that keeps all in memory has room for no more. */
export const small: Shape = { files: 7_500, meanLength: 35_791, databases: 2, databasePages: 16_384 }

function fileOf(root: string, number: number): string {
  return join(root, `d${Math.floor(number / filesPerDirectory)}`, `f${number}`)
}

function databaseOf(root: string, number: number): string {
  return join(root, `database-${number}`)
}

function lengthOf(shape: Shape, noise: Noise): number {
  return Math.max(1, Math.round(shape.meanLength * (0.25 + (noise.next() / 2 ** 32) * 1.5)))
}

/** Fills the empty directory `root`. */
export function fill(root: string, shape: Shape): void {
  const noise = new Noise(1)
  for (let number = 0; number < shape.files; number++) {
    if (number % filesPerDirectory === 0) mkdirSync(join(root, `d${number / filesPerDirectory}`))
    writeFileSync(fileOf(root, number), noise.fill(Buffer.alloc(lengthOf(shape, noise))))
  }
  for (let number = 0; number < shape.databases; number++) fillDatabase(databaseOf(root, number), shape, noise)
}

function fillDatabase(path: string, shape: Shape, noise: Noise): void {
  const fd = openSync(path, 'w')
  const page = Buffer.alloc(pageLength)
  for (let number = 0; number < shape.databasePages; number++) writeSync(fd, noise.fill(page))
  closeSync(fd)
}

/** Writes every hundredth file anew, and as many pages of each database, scattered and in place. @param round another one changes others */
export function change(root: string, shape: Shape, round: number): void {
  const noise = new Noise(1000 + round)
  for (let number = round % 100; number < shape.files; number += 100) {
    writeFileSync(fileOf(root, number), noise.fill(Buffer.alloc(lengthOf(shape, noise))))
  }
  for (let number = 0; number < shape.databases; number++) {
    const fd = openSync(databaseOf(root, number), 'r+')
    const page = Buffer.alloc(pageLength)
    for (let changed = 0; changed < shape.databasePages / 100; changed++) {
      const at = (noise.next() % shape.databasePages) * pageLength
      readSync(fd, page, 0, pageLength, at)
      writeSync(fd, noise.fill(page), 0, pageLength, at)
    }
    fsyncSync(fd)
    closeSync(fd)
  }
}

/** Reads all files below `root`, so that they are in the page cache: some machines give it back while nothing is done with it. */
export function readAll(root: string): void {
  const room = Buffer.alloc(4 * 2 ** 20)
  for (const entry of readdirSync(root, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    const fd = openSync(join(entry.parentPath, entry.name), 'r')
    while (readSync(fd, room) > 0);
    closeSync(fd)
  }
}
