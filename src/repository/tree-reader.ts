/** Reads the tree of a backup: all of it in order, or the part at a path, which is found by binary search. Runs in workers. */

import { AppError } from '../errors.ts'
import type { ChunkReader } from './chunk-reader.ts'
import type { Backup } from './manifest.ts'
import { joinPath, readTreeRoot, type SegmentInfo, TreeWalk } from './segment.ts'
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
 * @throws NOT_FOUND when there is no such path, CORRUPT, NOT_SUPPORTED for a block backup
 */
export function* readTree(reader: ChunkReader, backup: Backup, path: Buffer = Buffer.alloc(0)): Generator<TreeEntry> {
  if (backup.kind !== 'tree') {
    throw new AppError('NOT_SUPPORTED', `backup ${backup.id} is of a block device and has no files; restore it whole`)
  }
  const segments = readTreeRoot(reader.read(Buffer.from(backup.root, 'hex')))
  if (path.length === 0) return yield* wholeTree(reader, segments, backup.id)
  let found = false
  for (const part of prefixes(path)) {
    const entry = findEntry(reader, segments, part)
    if (!entry) break
    found = part.length === path.length
    if (!found) yield entry
    else yield* subtree(reader, segments, entry)
  }
  if (!found)
    throw new AppError('NOT_FOUND', `backup ${backup.id} has no ${path}; list its files with 'backup ls-files'`)
}

function* wholeTree(reader: ChunkReader, segments: readonly SegmentInfo[], id: string): Generator<TreeEntry> {
  const walk = new TreeWalk()
  let number = 0
  for (const bytes of reader.readAll(segments.map((segment) => segment.id))) {
    for (const step of walk.segment(bytes)) yield { ...entryOf(step), bytes: step.bytes, number: number++ }
  }
  if (!walk.isComplete) throw new AppError('CORRUPT', `the tree of backup ${id} has no end`)
}

function entryOf({ directory, record }: { directory: Buffer; record: TreeRecord | null }) {
  return { record, path: record && record.name.length > 0 ? joinPath(directory, record.name) : directory }
}

/** '', 'a', 'a/b' for 'a/b'. */
function prefixes(path: Buffer): Buffer[] {
  const ends = [...path.keys()].filter((i) => path[i] === 0x2f)
  return [0, ...ends, path.length].map((end) => path.subarray(0, end))
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

function* subtree(reader: ChunkReader, segments: readonly SegmentInfo[], entry: TreeEntry): Generator<TreeEntry> {
  yield entry
  if (entry.record?.type !== types.directory) return
  let inside = false
  for (const other of entriesFrom(reader, segments, firstSegment(segments, entry.path))) {
    if (inside) yield other
    if (inside && other.record === null && other.path.equals(entry.path)) return
    if (other.record && other.path.equals(entry.path)) inside = true
  }
}

function* entriesFrom(reader: ChunkReader, segments: readonly SegmentInfo[], first: number): Generator<TreeEntry> {
  const walk = new TreeWalk(first > 0)
  let number = segments.slice(0, first).reduce((sum, { records }) => sum + records, 0)
  for (const bytes of reader.readAll(segments.slice(first).map(({ id }) => id))) {
    for (const step of walk.segment(bytes)) yield { ...entryOf(step), bytes: step.bytes, number: number++ }
  }
}
