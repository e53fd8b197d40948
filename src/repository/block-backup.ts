/**
 * The lead of a block backup, and the task of its hands: a device or an image file, as lists of 64 KiB chunks with holes where nothing is
 * allocated (FORMAT.md 5.3). With a parent and the changed extents, only those are read. Runs in workers.
 */

import { closeSync, readSync } from 'node:fs'
import { AppError, fromErrno } from '../errors.ts'
import type { Bytes } from '../model.ts'
import { blockLength, encodeBlockRoot, readBlockRoot } from './block-root.ts'
import { kinds } from './chunk-entry.ts'
import { ChunkReader } from './chunk-reader.ts'
import { ChunkTable, type SharedTable } from './chunk-table.ts'
import { ChunkWriter } from './chunk-writer.ts'
import { type BackupLabels, commit, readBackup } from './commit.ts'
import { type Content, ContentBuilder, listLength, oneReference, type Stretch, stretches } from './content.ts'
import type { Extent } from './data-extents.ts'
import { flushHands, writerOf } from './hand-writer.ts'
import type { IndexedPack } from './index-object.ts'
import { IndexWriter } from './index-writer.ts'
import { loadReliableChunks } from './known-chunks.ts'
import type { Backup } from './manifest.ts'
import { isDamaged, isStored } from './parent.ts'
import { perWorker } from './per-worker.ts'
import { openNoFollow } from './source-file.ts'
import type { TaskContext } from './tasks.ts'

export interface BlockBackupArgs {
  /** The device, or an image; nothing may write to it meanwhile: a snapshot. */
  readonly device: string
  readonly size: Bytes
  /** What is allocated, ascending; null when that is not known: all of it. */
  readonly allocated: readonly Extent[] | null
  /** Id of an earlier backup of the same device. */
  readonly parent: string | null
  /** What may differ from the parent, ascending, freed extents included; null: all of it. */
  readonly changed: readonly Extent[] | null
  readonly about: BackupLabels
  readonly graceMs: number
}

/** Bytes that one level-1 list covers. */
const listSpan = listLength * blockLength
const mostOutstanding = 4
const zeros = Buffer.alloc(blockLength)

interface SpanTask {
  readonly device: string
  readonly start: Bytes
  readonly end: Bytes
  /** To be read; the rest is as `former` says. */
  readonly read: readonly Extent[]
  /** Contents of the parent, to be looked up from `start` to `end`; null: nothing else is kept. */
  readonly former: { readonly level: number; readonly references: Uint8Array } | null
}

interface SpanAnswer {
  readonly level: number
  readonly references: Uint8Array
  readonly packs: readonly IndexedPack[]
}

export function backupBlock(context: TaskContext, args: BlockBackupArgs): Backup {
  const since = Date.now()
  const { bridge, seal } = context
  const table = loadReliableChunks(context, roomFor(args))
  const index = new IndexWriter(bridge, seal)
  const writer = new ChunkWriter(bridge, seal, table)
  const parent = findParent(context, table, args)
  const spans = readSpans(context, table, args, parent, index)
  const builder = new ContentBuilder((list) => writer.put(kinds.list, list), 1)
  for (const span of spans) builder.addReferences(span)
  const root = writer.put(kinds.root, encodeBlockRoot({ size: args.size, content: builder.finish() }))
  writer.flush()
  index.add(writer.takeStored())
  flushHands(bridge, table, index)
  const counted = { size: args.size, files: 0, changed: 0, parent: parent ? args.parent : null }
  const manifest = { kind: 'block' as const, ...args.about, root: root.toString('hex'), ...counted }
  return commit(context, manifest, { index, since, graceMs: args.graceMs })
}

/** Chunks that may be new. The parent may turn out to be of no use: then all is read; and two hands may meet on one. */
function roomFor({ size, allocated, changed }: BlockBackupArgs): number {
  const read = [...(allocated ?? [{ start: 0, end: size }]), ...(changed ?? [])]
  const blocks = read.reduce((sum, { start, end }) => sum + Math.ceil((end - start) / blockLength) + 1, 0)
  return 2 * (blocks + Math.ceil(size / listSpan)) + 1024
}

interface Parent {
  readonly content: Content
  /** Its level-1 lists, one per span. */
  readonly lists: readonly Stretch[]
}

/** The parent, when it is whole and there is something to be gained from it. */
function findParent(context: TaskContext, table: ChunkTable, args: BlockBackupArgs): Parent | null {
  if (args.parent === null || args.changed === null) return null
  const backup = readBackup(context, args.parent)
  if (backup.kind !== 'block') {
    throw new AppError(
      'INVALID_ARGUMENT',
      `backup ${args.parent} is of files, not of a device; it cannot be a block backup's parent`,
    )
  }
  const reader = new ChunkReader(context.bridge, context.seal, table)
  const root = Buffer.from(backup.root, 'hex')
  if (isDamaged(context, backup) || !table.has(root)) return null
  const { content } = readBlockRoot(reader.read(root))
  if (table.isShort && !isStored(content, reader, table)) return null
  const lists = [...stretches({ ...content, level: content.level - 1 }, (id) => reader.read(id))]
  if (lists.some(({ id }) => id && !table.has(id))) return null
  return { content, lists }
}

/** References of level 1, one list per span. */
function readSpans(
  { bridge }: TaskContext,
  table: ChunkTable,
  args: BlockBackupArgs,
  parent: Parent | null,
  index: IndexWriter,
): Buffer[] {
  const spans: Buffer[] = []
  let outstanding = 0
  const former = parent && { level: parent.content.level, references: new Uint8Array(parent.content.references) }
  const lists = new Map(parent?.lists.map((list) => [list.offset, list]))
  for (let start = 0, i = 0; start < args.size; start += listSpan, i++) {
    const end = Math.min(args.size, start + listSpan)
    const read = toRead(args, parent !== null, start, end)
    const same = read.length === 0 ? lists.get(start) : undefined
    if (same?.id && same.length === end - start) {
      spans[i] = oneReference(same.id, same.length)
      continue
    }
    bridge.pumpUntil(() => outstanding < mostOutstanding)
    outstanding++
    const task: SpanTask = { device: args.device, start, end, read, former }
    bridge.post('hand', { task: 'readSpan', args: { table: table.shared, ...task } }, (answer) => {
      outstanding--
      const { references, packs } = answer as SpanAnswer
      spans[i] = Buffer.from(references.buffer, references.byteOffset, references.byteLength)
      index.add(packs)
      bridge.post('progress', { done: end, total: args.size, unit: 'bytes' }, () => undefined)
    })
  }
  bridge.pumpUntil(() => outstanding === 0)
  return spans
}

/** What of a span has to be looked at again, in whole blocks. */
function toRead(args: BlockBackupArgs, hasParent: boolean, start: Bytes, end: Bytes): Extent[] {
  const wanted = hasParent ? args.changed : args.allocated
  return clipped(wanted ?? [{ start: 0, end: args.size }], start, end)
}

function clipped(extents: readonly Extent[], start: Bytes, end: Bytes): Extent[] {
  const whole: { start: Bytes; end: Bytes }[] = []
  for (const extent of extents) {
    const first = Math.max(start, extent.start - (extent.start % blockLength))
    const last = Math.min(end, Math.ceil(extent.end / blockLength) * blockLength)
    const previous = whole.at(-1)
    if (first >= last) continue
    if (previous && previous.end >= first) previous.end = Math.max(previous.end, last)
    else whole.push({ start: first, end: last })
  }
  return whole
}

interface Hand {
  readonly reader: ChunkReader
  readonly writer: ChunkWriter
}

const handOf = perWorker((context, shared: SharedTable): Hand => {
  const { bridge, seal } = context
  return { reader: new ChunkReader(bridge, seal, new ChunkTable(shared)), writer: writerOf(context, shared) }
})

/** Makes one level-1 list. Blocks that were freed read as zeros, and zeros are holes. */
export function readSpan(context: TaskContext, args: SpanTask & { table: SharedTable }): SpanAnswer {
  const hand = handOf(context, args.table)
  const builder = new ContentBuilder((list) => hand.writer.put(kinds.list, list))
  const fd = openNoFollow(args.device)
  if (fd === undefined) throw new AppError('NOT_FOUND', `${args.device} is not there; it cannot be backed up`)
  try {
    let position = args.start
    for (const extent of args.read) {
      keep(hand, builder, args.former, position, extent.start)
      for (let at = extent.start; at < extent.end; at += blockLength)
        addBlock(hand, builder, fd, at, Math.min(extent.end, at + blockLength))
      position = extent.end
    }
    keep(hand, builder, args.former, position, args.end)
  } catch (error) {
    throw fromErrno(error, `reading ${args.device}`)
  } finally {
    closeSync(fd)
  }
  const { level, references } = builder.finish(1)
  return { level, references, packs: hand.writer.takeStored() }
}

function addBlock({ writer }: Hand, builder: ContentBuilder, fd: number, start: Bytes, end: Bytes): void {
  const block = Buffer.allocUnsafe(end - start)
  const count = readSync(fd, block, 0, block.length, start)
  if (count < block.length) {
    throw new AppError(
      'CORRUPT',
      `it ends at ${start + count}, before the size that was given; it must not change during a backup`,
    )
  }
  if (block.compare(zeros, 0, block.length) === 0) builder.addHole(block.length)
  else builder.addChunk(writer.put(kinds.data, block), block.length)
}

/** Takes over what the parent has from `start` to `end`, both at blocks; beyond its end there are holes. */
function keep({ reader }: Hand, builder: ContentBuilder, former: SpanTask['former'], start: Bytes, end: Bytes): void {
  if (start >= end) return
  let position = start
  for (const stretch of former ? formerStretches(reader, former, start, end) : []) {
    const last = Math.min(end, stretch.offset + stretch.length)
    if (stretch.id) builder.addChunk(stretch.id, stretch.length)
    else builder.addHole(last - position)
    position = last
  }
  builder.addHole(end - position)
}

function formerStretches(
  reader: ChunkReader,
  { level, references }: NonNullable<SpanTask['former']>,
  start: Bytes,
  end: Bytes,
): Generator<Stretch> {
  const content = { level, references: Buffer.from(references.buffer, references.byteOffset, references.byteLength) }
  return stretches(content, (id) => reader.read(id), start, end)
}
