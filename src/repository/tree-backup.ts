/**
 * The lead of a tree backup: goes through the directory tree in step with the parent's, takes over the records of what has not changed, has the hands read
 * the rest, and writes segments, root and manifest. Runs in a worker; FORMAT.md 6 and 7.
 */

import { readlinkSync } from 'node:fs'
import { AppError, errno, isAppError } from '../errors.ts'
import { AttributeReader } from './attribute-reader.ts'
import { kinds } from './chunk-entry.ts'
import { ChunkReader } from './chunk-reader.ts'
import type { ChunkTable } from './chunk-table.ts'
import { ChunkWriter } from './chunk-writer.ts'
import type { FormerFile, Profile } from './chunker.ts'
import { type BackupLabels, commit, readBackup } from './commit.ts'
import type { Content } from './content.ts'
import { FileBatches, type ReadContent } from './file-batches.ts'
import { IndexWriter } from './index-writer.ts'
import { loadReliableChunks } from './known-chunks.ts'
import { LinkedReads, type NamedFile } from './linked-reads.ts'
import type { Backup } from './manifest.ts'
import { isDamaged, isStored } from './parent.ts'
import { ParentCursor } from './parent-cursor.ts'
import { Progress } from './progress.ts'
import { PendingRecord, RecordQueue } from './record-queue.ts'
import { joinPath, readTreeRoot, SegmentBuilder } from './segment.ts'
import { SourceDirectory, systemPath } from './source-file.ts'
import { type SourceEntry, walkSource } from './source-walk.ts'
import type { TaskContext } from './tasks.ts'
import {
  endRecord,
  flags,
  maxInlineAttributes,
  sizeOf,
  statOf,
  type TreeRecord,
  type TreeStat,
  types,
} from './tree-record.ts'
import { WalkAhead } from './walk-ahead.ts'

export interface TreeBackupArgs {
  /** The directory whose content is backed up. */
  readonly root: string
  readonly about: BackupLabels
  /** Id of the backup to compare with. */
  readonly parent: string | null
  readonly graceMs: number
}

/** Chunks that one backup may add before it stops deduplicating within itself. */
const roomForNew = 2_000_000
/** Records that may wait for contents read out of order. */
const mostWaiting = 8_000
/** Entries of a parent from which on a thread that walks ahead gains more than it costs. */
const many = 200_000
const none = Buffer.alloc(0)

export function backupTree(context: TaskContext, args: TreeBackupArgs): Backup {
  const since = Date.now()
  const root = SourceDirectory.open(Buffer.from(args.root).toString('latin1'), args.root)
  if (!root) throw new AppError('NOT_FOUND', `${args.root} is not a directory; nothing can be backed up from it`)
  const parent = readParent(context, args)
  // A first backup waits for the reading, not for the walk.
  const entries = parent && parent.files >= many ? new WalkAhead(context.bridge, root).entries() : walkSource(root)
  const table = loadReliableChunks(context, roomForNew)
  return new TreeBackup(context, args, table, parent).run(root, entries, since)
}

/** The parent is a help, not a need: without it all files are read. */
function readParent(context: TaskContext, { parent }: TreeBackupArgs): Backup | undefined {
  if (parent === null) return undefined
  try {
    const backup = readBackup(context, parent)
    return backup.kind === 'tree' ? backup : undefined
  } catch (error) {
    if (isAppError(error, 'NOT_FOUND')) return undefined
    throw error
  }
}

/** A directory that the walk is in. */
interface Level {
  readonly directory: SourceDirectory
  /** From the root. */
  readonly path: Buffer
  /** It is in the parent backup, too: the cursor is in it. */
  readonly hasFormer: boolean
}

class TreeBackup {
  readonly #context: TaskContext
  readonly #args: TreeBackupArgs
  readonly #table: ChunkTable
  readonly #reader: ChunkReader
  readonly #writer: ChunkWriter
  readonly #index: IndexWriter
  readonly #segments: SegmentBuilder
  readonly #queue: RecordQueue
  readonly #files: FileBatches
  readonly #progress: Progress
  readonly #attributes: AttributeReader
  readonly #cursor: ParentCursor | undefined
  readonly #links = new LinkedReads()
  #parent: string | null = null
  readonly #levels: Level[] = []
  readonly #isStored = (id: Buffer) => this.#table.has(id)
  /** Bytes of the files met so far. */
  #met = 0
  #entries = 0
  #size = 0
  #changed = 0

  constructor(context: TaskContext, args: TreeBackupArgs, table: ChunkTable, parent: Backup | undefined) {
    const { bridge, seal } = context
    this.#context = context
    this.#args = args
    this.#table = table
    this.#reader = new ChunkReader(bridge, seal, table)
    this.#writer = new ChunkWriter(bridge, seal, table)
    this.#index = new IndexWriter(bridge, seal)
    this.#segments = new SegmentBuilder((segment) => this.#writer.put(kinds.segment, segment))
    this.#queue = new RecordQueue(this.#segments, (record) => this.#count(record))
    this.#progress = new Progress(bridge, null)
    const storeList = (list: Buffer) => this.#writer.put(kinds.list, list)
    this.#files = new FileBatches(bridge, table, this.#index, this.#progress, storeList)
    this.#attributes = new AttributeReader(bridge)
    this.#cursor = parent && this.#openParent(parent)
  }

  run(root: SourceDirectory, entries: Iterable<SourceEntry | null>, since: number): Backup {
    const stat = statOf(root.stat)
    const self = { name: '.', stat, isLinked: false, isSparse: false, directory: root }
    const isSame = this.#cursor !== undefined && this.#isUnchanged(this.#cursor, stat)
    const rootRecord = isSame ? this.#cursor?.view() : undefined
    if (isSame) this.#entries++
    this.#queue.add(none, none, rootRecord ?? this.#begin(root, self, none, undefined))
    this.#cursor?.enter()
    this.#levels.push({ directory: root, path: none, hasFormer: this.#cursor !== undefined })
    for (const entry of entries) {
      if (entry) this.#meet(entry, root.stat.dev)
      else this.#leave()
      this.#breathe()
    }
    this.#finishReading()
    return this.#finish(since)
  }

  #finishReading(): void {
    this.#progress.total = this.#met
    this.#attributes.flush()
    this.#files.finish()
    while (this.#readApart()) this.#files.finish()
    this.#context.bridge.pumpUntil(() => {
      this.#queue.drain()
      return this.#queue.length === 0
    })
  }

  #finish(since: number): Backup {
    const root = this.#writer.put(kinds.root, this.#segments.finish())
    this.#writer.flush()
    this.#index.add(this.#writer.takeStored())
    const { about, graceMs } = this.#args
    const counted = { size: this.#size, files: this.#entries, changed: this.#changed }
    const manifest = { kind: 'tree' as const, ...about, parent: this.#parent, root: root.toString('hex'), ...counted }
    return commit(this.#context, manifest, { index: this.#index, since, graceMs })
  }

  /** @throws CORRUPT: what it shares with others is not to be relied on */
  #openParent(parent: Backup): ParentCursor | undefined {
    const root = Buffer.from(parent.root, 'hex')
    try {
      if (isDamaged(this.#context, parent) || !this.#isStored(root)) return undefined
      const segments = readTreeRoot(this.#reader.read(root)).map(({ id }) => id)
      if (!segments.every(this.#isStored)) return undefined
      const stored = this.#reader.readAll(segments)
      const cursor = new ParentCursor(stored, Date.parse(parent.createdAt))
      if (cursor.type !== types.directory) return undefined
      this.#parent = parent.id
      this.#progress.total = parent.size
      return cursor
    } catch (error) {
      if (isAppError(error, 'ABORTED')) return undefined
      throw error
    }
  }

  #meet(entry: SourceEntry, device: bigint): void {
    const level = this.#levels.at(-1) as Level
    const cursor = level.hasFormer && this.#cursor?.seek(entry.name) ? this.#cursor : undefined
    this.#visit(level, entry, cursor)
    const hasFormer = entry.directory !== undefined && cursor?.type === types.directory
    if (hasFormer) cursor?.enter()
    else cursor?.skip()
    if (!entry.directory) return
    const path = joinPath(level.path, Buffer.from(entry.name, 'latin1'))
    if (entry.directory.stat.dev !== device) throw this.#refusal(path)
    this.#levels.push({ directory: entry.directory, path, hasFormer })
  }

  #leave(): void {
    const { directory, path, hasFormer } = this.#levels.pop() as Level
    if (hasFormer) this.#cursor?.leave()
    this.#queue.add(path, none, endRecord)
    directory.release()
  }

  /** A backup is never silently less than its volume. */
  #refusal(path: Buffer): AppError {
    const fact = `'${path}' in ${this.#args.about.volume} is another file system, which the backup would leave out`
    return new AppError('FAILED_PRECONDITION', `${fact}: unmount it, or keep it in a volume of its own`)
  }

  /** Records one entry, as it was or as it is. @param cursor at what the parent has for it */
  #visit({ directory, path }: Level, entry: SourceEntry, cursor: ParentCursor | undefined): void {
    const { name, stat } = entry
    const bytes = Buffer.from(name, 'latin1')
    this.#met += sizeOf(stat)
    if (!cursor || !this.#isUnchanged(cursor, stat)) {
      this.#queue.add(path, bytes, this.#begin(directory, entry, bytes, cursor))
      return
    }
    this.#entries++
    this.#size += sizeOf(stat)
    this.#progress.add(sizeOf(stat))
    this.#queue.add(path, bytes, cursor.view())
  }

  /** A lost or condemned chunk means that the file is read again. */
  #isUnchanged(cursor: ParentCursor, stat: TreeStat): boolean {
    return cursor.matches(stat) && cursor.everyReference(this.#isStored) && this.#hasListed(cursor)
  }

  /** Whether what the record's lists name is stored as well. Where nothing was left out of the table, a backup that is listed has it all. */
  #hasListed(cursor: ParentCursor): boolean {
    if (!this.#table.isShort || !cursor.hasLists) return true
    const content = cursor.record()?.content
    return !content || isStored(content, this.#reader, this.#table)
  }

  /** A new record, with all that has to be read for it asked for. @param directory where `entry` has its name */
  #begin(
    directory: SourceDirectory,
    entry: SourceEntry,
    bytes: Buffer,
    cursor: ParentCursor | undefined,
  ): PendingRecord {
    const { name, stat } = entry
    const record = new PendingRecord(bytes, stat)
    if (entry.isLinked) record.flags |= flags.linked
    record.expect()
    this.#attributes.add(directory, name, (attributes) => this.#setAttributes(record, attributes))
    if (stat.type === types.symlink) record.target = readTarget(directory, name)
    if (stat.type === types.symlink && !record.target) record.dropped = true
    if (stat.type === types.file) this.#beginFile(record, directory, entry, cursor)
    return record
  }

  #setAttributes(record: PendingRecord, attributes: Buffer | undefined): void {
    record.arrived()
    if (!attributes) return
    if (attributes.length <= maxInlineAttributes) record.attributes = attributes
    else record.attributesId = this.#writer.put(kinds.attributes, attributes)
  }

  #beginFile(
    record: PendingRecord,
    directory: SourceDirectory,
    { name, stat, isLinked, isSparse }: SourceEntry,
    cursor: ParentCursor | undefined,
  ): void {
    if (stat.size === 0n) {
      record.content = noContent
      return
    }
    const former = cursor?.type === types.file ? cursor.record() : undefined
    record.expect()
    const formerOf = former ? formerFile(former, stat) : undefined
    const file = { record, directory, name, stat, isLinked, isSparse, former: formerOf }
    if (!this.#links.join(file)) this.#read(file)
  }

  #read(file: NamedFile): void {
    const { record, directory, name, stat, isSparse, former } = file
    const reading = this.#links.begin(file)
    const task = { size: sizeOf(stat), ctimeNs: stat.ctimeNs, former, isSparse }
    this.#files.add(directory, name, task, (read) => {
      setContent(record, read)
      this.#links.end(reading, read, (other) => {
        setContent(other.record, read)
        this.#progress.add(sizeOf(stat))
      })
    })
  }

  /** Reads those that waited for the content of what turned out to be another file. @returns whether there were any */
  #readApart(): boolean {
    const apart = this.#links.takeApart()
    for (const file of apart) {
      this.#read(file)
      file.directory.release()
    }
    return apart.length > 0
  }

  #count(record: PendingRecord): void {
    this.#entries++
    this.#size += sizeOf(record.stat)
    if (record.hasChanged) this.#changed++
  }

  /** Takes in what the hands have done; waits when far ahead of them. */
  #breathe(): void {
    const { bridge } = this.#context
    this.#progress.tell()
    if (this.#queue.length === 0) return
    bridge.pump()
    this.#queue.drain()
    if (this.#queue.length < mostWaiting) return
    this.#files.flush()
    this.#attributes.flush()
    bridge.pumpUntil(() => {
      if (this.#readApart()) this.#files.flush()
      this.#queue.drain()
      return this.#queue.length < mostWaiting / 2
    })
  }
}

const noContent: Content = { level: 0, references: Buffer.alloc(0) }

function setContent(record: PendingRecord, read: ReadContent | null): void {
  record.arrived()
  if (!read) {
    record.dropped = true
    return
  }
  record.content = read.content
  record.profile = read.profile
  if (read.stat) record.stat = read.stat
  if (read.changed) record.flags |= flags.changed
}

function formerFile(former: TreeRecord, stat: TreeStat): FormerFile {
  const changedInPlace = former.inode === stat.inode && stat.size <= former.size
  return { profile: (former.profile || 1) as Profile, changedInPlace }
}

/** Undefined when it is gone. */
function readTarget(directory: SourceDirectory, name: string): Buffer | undefined {
  try {
    return readlinkSync(systemPath(directory.path(name)), { encoding: 'buffer' })
  } catch (error) {
    if (['ENOENT', 'EINVAL', 'ENOTDIR'].includes(errno(error) ?? '')) return undefined
    throw error
  }
}
