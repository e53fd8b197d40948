/** The tasks of a hand in a restore: small files through tar, and stretches of large ones straight to their place. */

import { closeSync, constants, openSync, writeSync } from 'node:fs'
import { AppError, fromErrno } from '../errors.ts'
import type { Bytes } from '../model.ts'
import { decodeAttributes } from './attributes.ts'
import { ChunkReader } from './chunk-reader.ts'
import { type ChunkPlace, ChunkTable, type SharedTable } from './chunk-table.ts'
import { type Content, stretches } from './content.ts'
import { ByteReader } from './cursor.ts'
import { release } from './release.ts'
import { TarSink } from './tar-sink.ts'
import type { TaskContext } from './tasks.ts'
import { readRecord, sizeOf, type TreeRecord } from './tree-record.ts'

export interface EntryTask {
  /** For system calls; raw bytes. */
  readonly path: Uint8Array
  /** The record's own bytes. */
  readonly record: Uint8Array
}

export interface RestoreTarget {
  readonly table: SharedTable
  /** A directory of ours, below which entries are made. */
  readonly area: string
}

interface Hand {
  readonly reader: ChunkReader
  sink: TarSink | undefined
}

const hands = new WeakMap<TaskContext, Hand>()

function handOf(context: TaskContext, table: SharedTable): Hand {
  const known = hands.get(context)
  if (known) return known
  const hand = { reader: new ChunkReader(context.bridge, context.seal, new ChunkTable(table)), sink: undefined }
  hands.set(context, hand)
  return hand
}

/** Makes entries whose contents are chunks of level 0 without holes. @returns bytes of content */
export function writeEntries(context: TaskContext, args: RestoreTarget & { entries: readonly EntryTask[] }): Bytes {
  const hand = handOf(context, args.table)
  hand.sink ??= new TarSink(context.bridge, args.area, args.area)
  const entries = args.entries.map(({ path, record }) => ({ path: Buffer.from(path), record: parse(record) }))
  const contents = readTogether(
    hand.reader,
    entries.flatMap(({ record }) => chunksOf(record)),
  )
  let bytes = 0
  for (const { path, record } of entries) {
    const { attributesId, attributes: inline } = record
    const attributes = attributesId ? hand.reader.read(attributesId) : inline
    const stat = {
      path,
      stat: record,
      target: record.target,
      attributes: attributes ? decodeAttributes(attributes) : [],
    }
    const size = sizeOf(record)
    hand.sink.add(
      stat,
      size,
      chunksOf(record).map((id) => contents.get(id.toString('latin1')) ?? new Uint8Array()),
    )
    bytes += size
  }
  for (const content of contents.values()) release(content)
  return bytes
}

/** Waits until tar has made all entries of this hand. */
export function finishEntries(context: TaskContext): null {
  const hand = hands.get(context)
  hand?.sink?.close()
  if (hand) hand.sink = undefined
  return null
}

function parse(bytes: Uint8Array): TreeRecord {
  const record = readRecord(new ByteReader(bytes, 'a record'))
  if (!record) throw new AppError('CORRUPT', 'the end of a directory stands where a record should')
  return record
}

function chunksOf(record: TreeRecord): Buffer[] {
  if (!record.content) return []
  return [...stretches(record.content, noList)].flatMap(({ id }) => (id ? [id] : []))
}

function noList(): never {
  throw new AppError('INTERNAL', 'a content with lists was given to tar')
}

/** The contents of chunks, read in the order in which they lie in their packs. */
function readTogether(reader: ChunkReader, ids: readonly Buffer[]): Map<string, Uint8Array> {
  const places = new Map(ids.map((id) => [id.toString('latin1'), reader.place(id)]))
  const contents = new Map<string, Uint8Array>()
  for (const { place, content } of reader.readPlaces([...places.values()].sort(byPlace))) {
    contents.set(place.id.toString('latin1'), content)
  }
  return contents
}

function byPlace(a: ChunkPlace, b: ChunkPlace): number {
  return a.pack - b.pack || a.offset - b.offset
}

export interface StretchTask {
  /** An existing file or device. */
  readonly path: string
  readonly content: { readonly level: number; readonly references: Uint8Array }
  readonly start: Bytes
  readonly end: Bytes
}

/**
 * Writes the chunks of `content` that begin between `start` and `end` to their offsets; holes are left as they are. Done twice it does the
 * same. @returns bytes of content
 */
export function writeStretch(context: TaskContext, args: StretchTask & { table: SharedTable }): Bytes {
  const { reader } = handOf(context, args.table)
  const { references, level } = args.content
  const content: Content = {
    level,
    references: Buffer.from(references.buffer, references.byteOffset, references.length),
  }
  const wanted = new Map<string, { place: ChunkPlace; offsets: Bytes[] }>()
  let bytes = 0
  for (const { id, offset, length } of stretches(content, (list) => reader.read(list), args.start, args.end)) {
    if (!id || offset < args.start) continue
    const key = id.toString('latin1')
    const place = reader.place(id)
    if (place.length !== length)
      throw new AppError('CORRUPT', `chunk ${id.toString('hex')} has another length than its file says`)
    const known = wanted.get(key)
    if (known) known.offsets.push(offset)
    else wanted.set(key, { place, offsets: [offset] })
    bytes += length
  }
  writeAll(reader, wanted, args.path)
  return bytes
}

function writeAll(
  reader: ChunkReader,
  wanted: Map<string, { place: ChunkPlace; offsets: Bytes[] }>,
  path: string,
): void {
  const fd = openSync(path, constants.O_WRONLY | constants.O_NOFOLLOW)
  try {
    const places = [...wanted.values()].map(({ place }) => place).sort(byPlace)
    for (const { place, content } of reader.readPlaces(places)) {
      for (const offset of wanted.get(place.id.toString('latin1'))?.offsets ?? []) writeWhole(fd, content, offset)
      release(content)
    }
  } catch (error) {
    throw fromErrno(error, `writing ${path}`)
  } finally {
    closeSync(fd)
  }
}

function writeWhole(fd: number, bytes: Uint8Array, offset: Bytes): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done, bytes.length - done, offset + done)
}
