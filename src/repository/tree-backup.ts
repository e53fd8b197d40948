/**
 * The lead of a tree backup: walks the directory tree in step with the parent's, takes over the records of what has not changed, has the hands read
 * the rest, and writes segments, root and manifest. Runs in a worker; FORMAT.md 6 and 7.
 */

import type { BigIntStats } from 'node:fs'
import { readlinkSync } from 'node:fs'
import { AppError, errno, isAppError } from '../errors.ts'
import { AttributeReader } from './attribute-reader.ts'
import { kinds } from './chunk-entry.ts'
import { ChunkReader } from './chunk-reader.ts'
import type { ChunkTable } from './chunk-table.ts'
import { ChunkWriter } from './chunk-writer.ts'
import type { FormerFile, Profile } from './chunker.ts'
import { type BackupLabels, commit, isDamaged, readBackup } from './commit.ts'
import type { Content } from './content.ts'
import { FileBatches, type ReadContent } from './file-batches.ts'
import { IndexWriter } from './index-writer.ts'
import { loadReliableChunks } from './known-chunks.ts'
import { LinkedReads, type NamedFile } from './linked-reads.ts'
import type { Backup } from './manifest.ts'
import { ParentCursor } from './parent-cursor.ts'
import { Progress } from './progress.ts'
import { PendingRecord, RecordQueue } from './record-queue.ts'
import { joinPath, readTreeRoot, SegmentBuilder } from './segment.ts'
import { SourceDirectory, systemPath } from './source-file.ts'
import type { TaskContext } from './tasks.ts'
import { endRecord, flags, maxInlineAttributes, statOf, type TreeRecord, types } from './tree-record.ts'

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
const none = Buffer.alloc(0)

export function backupTree(context: TaskContext, args: TreeBackupArgs): Backup {
  const since = Date.now()
  const table = loadReliableChunks(context, roomForNew)
  return new TreeBackup(context, args, table).run(since)
}

class TreeBackup {
  readonly #context: TaskContext
  readonly #args: TreeBackupArgs
  readonly #table: ChunkTable
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
  #device = 0n
  readonly #isStored = (id: Buffer) => this.#table.has(id)
  /** Bytes of the files met so far. */
  #met = 0
  #entries = 0
  #size = 0
  #changed = 0

  constructor(context: TaskContext, args: TreeBackupArgs, table: ChunkTable) {
    const { bridge, seal } = context
    this.#context = context
    this.#args = args
    this.#table = table
    this.#writer = new ChunkWriter(bridge, seal, table)
    this.#index = new IndexWriter(bridge, seal)
    this.#segments = new SegmentBuilder((segment) => this.#writer.put(kinds.segment, segment))
    this.#queue = new RecordQueue(this.#segments, (record) => this.#count(record))
    this.#progress = new Progress(bridge, null)
    const storeList = (list: Buffer) => this.#writer.put(kinds.list, list)
    this.#files = new FileBatches(bridge, table, this.#index, this.#progress, storeList)
    this.#attributes = new AttributeReader(bridge)
    this.#cursor = this.#openParent()
  }

  run(since: number): Backup {
    const root = SourceDirectory.open(Buffer.from(this.#args.root).toString('latin1'), this.#args.root)
    if (!root)
      throw new AppError('NOT_FOUND', `${this.#args.root} is not a directory; nothing can be backed up from it`)
    this.#device = root.stat.dev
    const isSame = this.#cursor !== undefined && this.#isUnchanged(this.#cursor, root.stat)
    const rootRecord = isSame ? this.#cursor?.view() : undefined
    if (isSame) this.#entries++
    this.#queue.add(none, none, rootRecord ?? this.#begin(root, '.', none, root.stat, undefined))
    this.#cursor?.enter()
    this.#walk(root, none, this.#cursor !== undefined)
    this.#queue.add(none, none, endRecord)
    this.#finishReading()
    root.release()
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

  /** The parent is a help, not a need: without it all files are read. @throws CORRUPT: what it shares with others is not to be relied on */
  #openParent(): ParentCursor | undefined {
    const { parent } = this.#args
    if (parent === null) return undefined
    try {
      const backup = readBackup(this.#context, parent)
      if (backup.kind !== 'tree' || isDamaged(this.#context, this.#table, backup)) return undefined
      const reader = new ChunkReader(this.#context.bridge, this.#context.seal, this.#table)
      const segments = readTreeRoot(reader.read(Buffer.from(backup.root, 'hex')))
      for (const { id } of segments) reader.place(id)
      const stored = reader.readAll(segments.map(({ id }) => id))
      const cursor = new ParentCursor(stored, Date.parse(backup.createdAt))
      if (cursor.type !== types.directory) return undefined
      this.#parent = parent
      this.#progress.total = backup.size
      return cursor
    } catch (error) {
      if (isAppError(error, 'NOT_FOUND', 'ABORTED')) return undefined
      throw error
    }
  }

  #walk(directory: SourceDirectory, path: Buffer, hasFormer: boolean): void {
    const cursor = hasFormer ? this.#cursor : undefined
    for (const name of directory.names()) {
      const isFormer = cursor?.seek(name) ?? false
      const stat = directory.lstat(name)
      if (stat?.isDirectory()) this.#walkInto(directory, name, path, isFormer)
      else {
        if (stat) this.#visit(directory, name, path, stat, isFormer)
        if (isFormer) cursor?.skip()
      }
      this.#breathe()
    }
  }

  #walkInto(directory: SourceDirectory, name: string, path: Buffer, isFormer: boolean): void {
    const cursor = isFormer ? this.#cursor : undefined
    const inner = SourceDirectory.open(directory.path(name), `${directory.shown}/${name}`)
    if (!inner) {
      cursor?.skip()
      return
    }
    const isFormerDirectory = cursor?.type === types.directory
    this.#visit(directory, name, path, inner.stat, isFormer)
    const innerPath = joinPath(path, Buffer.from(name, 'latin1'))
    if (isFormerDirectory) cursor?.enter()
    if (inner.stat.dev !== this.#device) throw this.#refusal(innerPath)
    this.#walk(inner, innerPath, isFormerDirectory)
    if (isFormerDirectory) cursor?.leave()
    else cursor?.skip()
    this.#queue.add(innerPath, none, endRecord)
    inner.release()
  }

  /** A backup is never silently less than its volume. */
  #refusal(path: Buffer): AppError {
    const fact = `'${path}' in ${this.#args.about.volume} is another file system, which the backup would leave out`
    return new AppError('FAILED_PRECONDITION', `${fact}: unmount it, or keep it in a volume of its own`)
  }

  /** Records one entry, as it was or as it is. */
  #visit(directory: SourceDirectory, name: string, path: Buffer, stat: BigIntStats, isFormer: boolean): void {
    const bytes = Buffer.from(name, 'latin1')
    if (stat.isFile()) this.#met += Number(stat.size)
    const cursor = isFormer ? this.#cursor : undefined
    if (cursor && this.#isUnchanged(cursor, stat)) {
      this.#entries++
      this.#pass(stat)
      this.#queue.add(path, bytes, cursor.view())
      return
    }
    const record = this.#begin(directory, name, bytes, stat, cursor)
    this.#queue.add(path, bytes, record)
  }

  /** A lost or condemned chunk means that the file is read again. */
  #isUnchanged(cursor: ParentCursor, stat: BigIntStats): boolean {
    return cursor.matches(stat) && cursor.everyReference(this.#isStored)
  }

  /** Counts what is as it was. */
  #pass(stat: BigIntStats): void {
    if (!stat.isFile()) return
    this.#size += Number(stat.size)
    this.#progress.add(Number(stat.size))
  }

  /** A new record, with all that has to be read for it asked for. */
  #begin(
    directory: SourceDirectory,
    name: string,
    bytes: Buffer,
    stat: BigIntStats,
    cursor: ParentCursor | undefined,
  ): PendingRecord {
    const record = new PendingRecord(bytes, statOf(stat))
    if (stat.nlink > 1n && !stat.isDirectory()) record.flags |= flags.linked
    record.expect()
    this.#attributes.add(directory, name, (attributes) => this.#setAttributes(record, attributes))
    if (stat.isSymbolicLink()) record.target = readTarget(directory, name)
    if (stat.isSymbolicLink() && !record.target) record.dropped = true
    if (stat.isFile()) this.#beginFile(record, directory, name, stat, cursor)
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
    name: string,
    stat: BigIntStats,
    cursor: ParentCursor | undefined,
  ): void {
    const former = cursor?.type === types.file ? cursor.record() : undefined
    if (stat.size === 0n) {
      record.content = noContent
      return
    }
    record.expect()
    const file = { record, directory, name, stat, former: former ? formerFile(former, stat) : undefined }
    if (!this.#links.join(file)) this.#read(file)
  }

  #read(file: NamedFile): void {
    const { record, directory, name, stat, former } = file
    const reading = this.#links.begin(file)
    const isSparse = stat.blocks * 512n < stat.size
    const task = { size: Number(stat.size), ctimeNs: stat.ctimeNs, former, isSparse }
    this.#files.add(directory, name, task, (read) => {
      setContent(record, read)
      this.#links.end(reading, read, (other) => {
        setContent(other.record, read)
        this.#progress.add(Number(stat.size))
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
    if (record.stat.type === types.file) this.#size += Number(record.stat.size)
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

function formerFile(former: TreeRecord, stat: BigIntStats): FormerFile {
  const changedInPlace = former.inode === stat.ino && stat.size <= former.size
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
