/** The tasks of a hand in a restore: small files through tar, and stretches of large ones straight to their place. */

import { AppError, fromErrno } from '../errors.ts'
import type { Bytes } from '../model.ts'
import { PageWriter } from '../system/page-writer.ts'
import { release } from '../system/release.ts'
import { Arena } from './arena.ts'
import { decodeAttributes } from './attributes.ts'
import { ChunkReader } from './chunk-reader.ts'
import { type ChunkPlace, ChunkTable, type SharedTable } from './chunk-table.ts'
import { type Content, stretches } from './content.ts'
import { ByteReader, type ByteWriter } from './cursor.ts'
import { perWorker } from './per-worker.ts'
import { TarSink } from './tar-sink.ts'
import type { TaskContext } from './tasks.ts'
import { readRecord, sizeOf, type TreeRecord } from './tree-record.ts'

export interface RestoreTarget {
  readonly table: SharedTable
  /** A directory of ours, below which entries are made. */
  readonly area: string
}

/** Contents are read, and entries given to tar, in groups of about this length; a small file has a quarter of it at most. */
const groupLength: Bytes = 4 * 2 ** 20
/** With what zstd needs on top. */
const arenaLength = groupLength + 2 ** 20 + 64 * 1024

interface Hand {
  readonly reader: ChunkReader
  /** For the contents of a group, or for one. */
  readonly arena: Arena
  sink: TarSink | undefined
  /** For one large file at a time. */
  readonly file: PageWriter
}

const handOf = perWorker(
  ({ bridge, seal }, table: SharedTable): Hand => ({
    reader: new ChunkReader(bridge, seal, new ChunkTable(table)),
    arena: new Arena(arenaLength),
    sink: undefined,
    file: new PageWriter(),
  }),
)

/** Adds an entry to those that a hand is to make. @param path from the area, or absolute; raw bytes @param record its own bytes */
export function packEntry(writer: ByteWriter, path: Uint8Array, record: Uint8Array): void {
  writer.u16(path.length).put(path).put(record)
}

interface Entry {
  readonly path: Buffer
  readonly record: TreeRecord
  readonly chunks: readonly Buffer[]
}

/** Entries whose contents are read together. */
interface Group {
  readonly entries: Entry[]
  /** Each chunk once, in the order in which they lie in their packs. */
  readonly places: readonly ChunkPlace[]
}

/**
 * Makes entries whose contents are chunks of level 0 without holes. While a group is made the contents of the next are fetched.
 * @param args entries as `packEntry` writes them @returns bytes of content
 */
export function writeEntries(context: TaskContext, args: RestoreTarget & { entries: Uint8Array }): Bytes {
  const hand = handOf(context, args.table)
  hand.sink ??= new TarSink(context.bridge, args.area, args.area)
  const groups = grouped(hand.reader, args.entries)
  const places = groups.flatMap((group) => group.places)
  const contents = hand.reader.readPlaces(places, hand.arena.allocate)
  let bytes = 0
  for (const group of groups) bytes += writeGroup(hand, hand.sink, group, contents)
  return bytes
}

function grouped(reader: ChunkReader, packed: Uint8Array): Group[] {
  const groups: Group[] = []
  let [entries, length]: [Entry[], Bytes] = [[], 0]
  const bytes = new ByteReader(packed, 'a list of entries')
  while (bytes.remaining > 0) {
    const path = bytes.take(bytes.u16())
    const record = parse(bytes)
    entries.push({ path, record, chunks: chunksOf(record) })
    length += sizeOf(record)
    if (length < groupLength && bytes.remaining > 0) continue
    groups.push({ entries, places: placesOf(reader, entries) })
    entries = []
    length = 0
  }
  return groups
}

function parse(bytes: ByteReader): TreeRecord {
  const record = readRecord(bytes)
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

function placesOf(reader: ChunkReader, entries: readonly Entry[]): ChunkPlace[] {
  const places = new Map<string, ChunkPlace>()
  for (const { chunks } of entries) for (const id of chunks) places.set(id.toString('latin1'), reader.place(id))
  return [...places.values()].sort(byPlace)
}

function byPlace(a: ChunkPlace, b: ChunkPlace): number {
  return a.pack - b.pack || a.offset - b.offset
}

type Contents = ReturnType<ChunkReader['readPlaces']>

function writeGroup({ reader, arena }: Hand, sink: TarSink, group: Group, contents: Contents): Bytes {
  const found = new Map<string, Uint8Array>()
  for (let left = group.places.length; left > 0; left--) {
    const { value } = contents.next()
    if (value) found.set(value.place.id.toString('latin1'), value.content)
  }
  let bytes = 0
  for (const { path, record, chunks } of group.entries) {
    const { attributesId, attributes: inline, target } = record
    const encoded = attributesId ? reader.read(attributesId) : inline
    const entry = { path, stat: record, target, attributes: encoded ? decodeAttributes(encoded) : [] }
    const size = sizeOf(record)
    const pieces = chunks.map((id) => found.get(id.toString('latin1')) ?? new Uint8Array())
    if (pieces.reduce((sum, { length }) => sum + length, 0) !== size) {
      throw new AppError('CORRUPT', `the chunks of ${record.name} are not as long as the file`)
    }
    sink.add(entry, size, pieces)
    bytes += size
  }
  for (const content of found.values()) release(content)
  arena.clear()
  return bytes
}

/** Waits until tar has made all entries of this hand. */
export function finishEntries(context: TaskContext, { table }: Pick<RestoreTarget, 'table'>): null {
  const hand = handOf(context, table)
  hand.sink?.close()
  hand.sink = undefined
  return null
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
  const hand = handOf(context, args.table)
  const { reader } = hand
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
  writeAll(hand, wanted, args.path)
  return bytes
}

function writeAll(
  { reader, arena, file }: Hand,
  wanted: Map<string, { place: ChunkPlace; offsets: Bytes[] }>,
  path: string,
): void {
  try {
    file.open(path)
    const places = [...wanted.values()].map(({ place }) => place).sort(byPlace)
    for (const { place, content } of reader.readPlaces(places, arena.allocate)) {
      for (const offset of wanted.get(place.id.toString('latin1'))?.offsets ?? []) file.write(content, offset)
      release(content)
      arena.clear()
    }
    file.close()
  } catch (error) {
    throw fromErrno(error, `writing ${path}`)
  } finally {
    file.abandon()
  }
}
