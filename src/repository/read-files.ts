/** The task of a hand in a backup: read files, cut, store, and say what their contents are. */

import { closeSync, fstatSync, readSync } from 'node:fs'
import { fromErrno } from '../errors.ts'
import type { Bytes } from '../model.ts'
import type { Bridge } from './bridge.ts'
import { kinds } from './chunk-entry.ts'
import type { SharedTable } from './chunk-table.ts'
import type { ChunkWriter } from './chunk-writer.ts'
import {
  Chunker,
  chooseProfile,
  type FormerFile,
  fixedLength,
  longest,
  type Profile,
  profiles,
  sampleLength,
} from './chunker.ts'
import { ContentBuilder } from './content.ts'
import { dataExtents, type Extent } from './data-extents.ts'
import { writerOf } from './hand-writer.ts'
import type { IndexedPack } from './index-object.ts'
import { perWorker } from './per-worker.ts'
import { countBytes } from './progress.ts'
import { openNoFollow } from './source-file.ts'
import type { TaskContext } from './tasks.ts'
import { statOf, type TreeStat, types } from './tree-record.ts'

/** A file, or a part of one. */
export interface FileTask {
  /** For system calls; latin1. */
  readonly path: string
  /** For people. */
  readonly shown: string
  readonly ctimeNs: bigint
  /** Only these bytes; the result is at level 1 then. */
  readonly part?: { readonly start: Bytes; readonly end: Bytes }
  readonly former?: FormerFile | undefined
  /** Where it has data, when that is known already. */
  readonly extents?: readonly Extent[]
}

export interface FileResult {
  readonly level: number
  readonly references: Uint8Array
  readonly profile: Profile
  /** The file changed while it was read. */
  readonly changed: boolean
  /** When it is not the one of the task's ctime. */
  readonly stat?: TreeStat
}

export interface ReadFilesAnswer {
  /** Null for a file that is gone. */
  readonly files: readonly (FileResult | null)[]
  /** Packs that may now be indexed. */
  readonly packs: readonly IndexedPack[]
}

interface Hand {
  readonly bridge: Bridge
  readonly chunker: Chunker
  readonly writer: ChunkWriter
}

const handOf = perWorker(
  (context, table: SharedTable): Hand => ({
    bridge: context.bridge,
    chunker: new Chunker(context.seal.gearTable()),
    writer: writerOf(context, table),
  }),
)

/** @param args `progress`: where to count @throws errors of reading, with the path */
export function readFiles(
  context: TaskContext,
  args: { table: SharedTable; progress: SharedArrayBuffer; tasks: readonly FileTask[] },
): ReadFilesAnswer {
  const hand = handOf(context, args.table)
  const files = args.tasks.map((task) => readFile(hand, task, (bytes) => countBytes(args.progress, bytes)))
  return { files, packs: hand.writer.takeStored() }
}

function readFile(hand: Hand, task: FileTask, count: (bytes: Bytes) => void): FileResult | null {
  const fd = openNoFollow(task.path)
  if (fd === undefined) return null
  try {
    const before = fstatSync(fd, { bigint: true })
    const stat = statOf(before)
    if (stat.type !== types.file) return null
    const size = Number(stat.size)
    const profile = chooseProfile(size, task.former, () => sample(fd))
    const { start, end } = task.part ?? { start: 0, end: size }
    const isSparse = before.blocks * 512n < before.size
    const extents = task.extents ?? (isSparse ? dataExtents(hand.bridge, fd, start, end) : [{ start, end }])
    const content = readContent({ hand, fd, profile, count }, extents, start, end).finish(task.part ? 1 : 0)
    const after = fstatSync(fd, { bigint: true })
    const changed = after.ctimeNs !== before.ctimeNs || after.size !== before.size
    const told = isRacy(stat.ctimeNs) ? { ...stat, ctimeNs: 0n } : stat
    const result = {
      ...content,
      profile,
      changed: changed || (task.part !== undefined && after.ctimeNs !== task.ctimeNs),
    }
    return told.ctimeNs === task.ctimeNs ? result : { ...result, stat: told }
  } catch (error) {
    throw fromErrno(error, `reading ${task.shown}`)
  } finally {
    closeSync(fd)
  }
}

/** The kernel's clock for files ticks every few ms: a file may change again within the tick that its ctime names, and look the same. */
const clockTickNs = 20_000_000n

/** Whether a ctime is so young that it cannot prove later that nothing has changed: such a file is read again the next time. */
export function isRacy(ctimeNs: bigint): boolean {
  return BigInt(Date.now()) * 1_000_000n - ctimeNs < clockTickNs
}

function sample(fd: number): Buffer {
  const buffer = Buffer.alloc(sampleLength)
  return buffer.subarray(0, readSync(fd, buffer, 0, sampleLength, 0))
}

interface Reading {
  readonly hand: Hand
  readonly fd: number
  readonly profile: Profile
  count(bytes: Bytes): void
}

/** The content of the bytes from `start` to `end`: exactly so many, whatever becomes of the file meanwhile. */
function readContent(reading: Reading, extents: readonly Extent[], start: Bytes, end: Bytes): ContentBuilder {
  const builder = new ContentBuilder((list) => reading.hand.writer.put(kinds.list, list))
  let position = start
  for (const extent of extents) {
    builder.addHole(extent.start - position)
    reading.count(extent.start - position)
    position = readExtent(reading, builder, extent.start, extent.end)
  }
  builder.addHole(end - position)
  reading.count(end - position)
  return builder
}

/** @returns where the data ended: `end`, or less when the file has become shorter */
function readExtent({ hand, fd, profile, count }: Reading, builder: ContentBuilder, start: Bytes, end: Bytes): Bytes {
  const { chunker, writer } = hand
  const { buffer } = chunker
  let from = 0
  let filled = 0
  let position = start // of the byte at `filled`
  let last = end
  for (;;) {
    if (filled - from < longest(profile) && position < last) {
      buffer.copyWithin(0, from, filled)
      filled -= from
      from = 0
      const length = readSync(fd, buffer, filled, Math.min(buffer.length - filled, last - position), position)
      if (length === 0) last = position
      count(length)
      filled += length
      position += length
      continue
    }
    if (from === filled) return position
    const cut = nextCut(chunker, profile, from, filled, position - (filled - from))
    builder.addChunk(writer.put(kinds.data, buffer.subarray(from, cut)), cut - from)
    from = cut
  }
}

/** Fixed chunks end at multiples of their length, also when their extent does not begin at one. */
function nextCut(chunker: Chunker, profile: Profile, from: number, filled: number, position: Bytes): number {
  if (profile !== profiles.fixed) return chunker.next(profile, from, filled)
  return Math.min(filled, from + fixedLength - (position % fixedLength))
}
