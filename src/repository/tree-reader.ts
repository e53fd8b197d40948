/** Reads the tree of a backup: all of it in order, or the part at a path, which is found by binary search. Runs in workers. */

import { AppError } from '../errors.ts'
import type { ChunkReader } from './chunk-reader.ts'
import type { Backup } from './manifest.ts'
import { joinPath, prefixes, readTreeRoot, type SegmentInfo, type TreeStep, TreeWalk } from './segment.ts'
import { type TreeRecord, types } from './tree-record.ts'

export interface TreeEntry {
  /** From the root, without a leading slash; empty for the root. */
  readonly path: Buffer
  /** Null at the end of a directory. */
  readonly record: TreeRecord | null
  readonly bytes: Buffer
  /** Its number in the whole tree, counted from 0. */
  readonly number: number
}

/** Of a record that was not decoded yet: its number in the tree, its type and flags. */
export type Wanted = (number: number, type: number, recordFlags: number) => boolean

/** Splits a user's path into bytes without empty parts. @throws INVALID_ARGUMENT for `.` and `..` */
export function parseTreePath(path: string): Buffer {
  const parts = path.split('/').filter((part) => part !== '')
  if (parts.some((part) => part === '.' || part === '..')) {
    throw new AppError('INVALID_ARGUMENT', `'${path}' is not a path within a backup; leave out '.' and '..'`)
  }
  return Buffer.from(parts.join('/'))
}

/**
 * All entries in order or, with `path`, the directories above it, the entry itself, and what is below it.
 * @param wanted which of them, in a tree that was read before; directories and their ends come in any case. Those left out cost next to nothing.
 * @throws NOT_FOUND when there is no such path, CORRUPT, NOT_SUPPORTED for a block backup
 */
export function* readTree(
  reader: ChunkReader,
  backup: Backup,
  path: Buffer = Buffer.alloc(0),
  wanted?: Wanted,
): Generator<TreeEntry> {
  if (backup.kind !== 'tree') {
    throw new AppError('NOT_SUPPORTED', `backup ${backup.id} is of a block device and has no files; restore it whole`)
  }
  const segments = readTreeRoot(reader.read(Buffer.from(backup.root, 'hex')))
  if (path.length === 0) return yield* wholeTree(reader, segments, backup.id, wanted)
  let found = false
  for (const part of prefixes(path)) {
    const entry = findEntry(reader, segments, part)
    if (!entry) break
    found = part.length === path.length
    if (found) yield* subtree(reader, segments, entry, backup.id, wanted)
    else if (entry.record?.type === types.directory) yield entry
    else if (findEntry(reader, segments, path))
      throw corrupt(backup.id, `${path} lies in ${part}, which is no directory`)
    else break
  }
  if (!found)
    throw new AppError('NOT_FOUND', `backup ${backup.id} has no ${path}; list its files with 'backup ls-files'`)
}

function corrupt(id: string, fact: string): AppError {
  return new AppError('CORRUPT', `the tree of backup ${id} is corrupt: ${fact}; restore another backup`)
}

function* wholeTree(
  reader: ChunkReader,
  segments: readonly SegmentInfo[],
  id: string,
  wanted?: Wanted,
): Generator<TreeEntry> {
  const walk = new TreeWalk()
  yield* entriesOf(reader, segments, walk, 0, wanted)
  if (!walk.isComplete) throw corrupt(id, 'it has no end')
}

function entryOf({ directory, record, bytes }: TreeStep, number: number): TreeEntry {
  const path = record && record.name.length > 0 ? joinPath(directory, record.name) : directory
  return { path, record, bytes, number }
}

/** Order of the tree: a directory's children come right behind it, so that `/` sorts below every other byte. */
function comparePaths(a: Buffer, b: Buffer): number {
  const length = Math.min(a.length, b.length)
  for (let i = 0; i < length; i++) {
    const [x, y] = [a[i] ?? 0, b[i] ?? 0]
    if (x !== y) return x === 0x2f ? -1 : y === 0x2f ? 1 : x - y
  }
  return a.length - b.length
}

/** The last segment that begins before `path`. */
function firstSegment(segments: readonly SegmentInfo[], path: Buffer): number {
  let low = 0
  let high = segments.length
  while (low < high) {
    const middle = (low + high) >> 1
    if (comparePaths(segments[middle]?.path ?? path, path) < 0) low = middle + 1
    else high = middle
  }
  return Math.max(0, low - 1)
}

function findEntry(reader: ChunkReader, segments: readonly SegmentInfo[], path: Buffer): TreeEntry | undefined {
  for (const entry of entriesFrom(reader, segments, firstSegment(segments, path))) {
    if (entry.record && entry.path.equals(path)) return entry
    if (entry.record && comparePaths(entry.path, path) > 0) return undefined
  }
  return undefined
}

function* subtree(
  reader: ChunkReader,
  segments: readonly SegmentInfo[],
  entry: TreeEntry,
  id: string,
  wanted?: Wanted,
): Generator<TreeEntry> {
  yield entry
  if (entry.record?.type !== types.directory) return
  let inside = false
  for (const other of entriesFrom(reader, segments, firstSegment(segments, entry.path), wanted)) {
    if (inside) yield other
    if (inside && other.record === null && other.path.equals(entry.path)) return
    if (other.record && other.path.equals(entry.path)) inside = true
  }
  throw corrupt(id, `directory ${entry.path} has no end`)
}

function* entriesFrom(
  reader: ChunkReader,
  segments: readonly SegmentInfo[],
  first: number,
  wanted?: Wanted,
): Generator<TreeEntry> {
  const number = segments.slice(0, first).reduce((sum, { records }) => sum + records, 0)
  yield* entriesOf(reader, segments.slice(first), new TreeWalk(first > 0), number, wanted)
}

/** @throws CORRUPT for segments that are not what the root says of them: it leads to paths, and numbers tell how far a restore has come */
function* entriesOf(
  reader: ChunkReader,
  segments: readonly SegmentInfo[],
  walk: TreeWalk,
  first = 0,
  wanted?: Wanted,
): Generator<TreeEntry> {
  let number = first
  let next = 0
  for (const bytes of reader.readAll(segments.map(({ id }) => id))) {
    const { path, records } = segments[next++] as SegmentInfo
    const begin = number
    for (const step of stepsOf(walk, bytes, () => number, wanted)) {
      const entry = step && entryOf(step, number)
      if (entry?.number === begin && !entry.path.equals(path)) throw disagrees(path)
      number++
      if (entry) yield entry
    }
    if (number !== begin + records) throw disagrees(path)
  }
}

/** @param number of the record that is looked at */
function stepsOf(
  walk: TreeWalk,
  bytes: Uint8Array,
  number: () => number,
  wanted: Wanted | undefined,
): Generator<TreeStep | undefined> {
  if (!wanted) return walk.segment(bytes)
  return walk.chosen(bytes, (type, recordFlags) => wanted(number(), type, recordFlags))
}

function disagrees(path: Buffer): AppError {
  return new AppError('CORRUPT', `the segment of a tree that begins at '${path}' is not what its root says`)
}
