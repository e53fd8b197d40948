/**
 * The lead of a restore: builds the tree in an area of its own and lets it appear when it is complete.
 *
 *   for each record, in order:        directories are made; small files, links and nodes go to the hands' tars;
 *                                     large and sparse files are written by the hands to data/NUMBER
 *   then:                             metadata of the large ones (an empty skeleton by tar, copied over by cp), moved to their paths;
 *                                     further names of linked files; metadata of directories, as nothing changes in them any more
 *   then:                             everything moves to its name in the target
 *
 * Interrupted, it goes on from its last checkpoint, which is written after a sync about once a minute. When the area is gone and only the root's own
 * metadata may be missing, the call that comes next sees that the target holds just this tree, and sets that. Runs in a worker.
 */

import {
  closeSync,
  constants,
  existsSync,
  ftruncateSync,
  linkSync,
  lstatSync,
  openSync,
  readdirSync,
  renameSync,
  unlinkSync,
} from 'node:fs'
import { AppError, fromErrno } from '../errors.ts'
import type { Bytes } from '../model.ts'
import { decodeAttributes } from './attributes.ts'
import { BuildDirectories } from './build-directories.ts'
import { ChunkReader } from './chunk-reader.ts'
import type { ChunkTable } from './chunk-table.ts'
import { readBackup } from './commit.ts'
import { stretches } from './content.ts'
import { ByteWriter } from './cursor.ts'
import { EarlySync } from './early-sync.ts'
import { loadAllChunks } from './known-chunks.ts'
import { LinkGroups } from './link-groups.ts'
import type { Backup } from './manifest.ts'
import { type Checkpoint, makeDirectory, RestoreArea } from './restore-area.ts'
import { holdsTree } from './restored-tree.ts'
import { TarSink } from './tar-sink.ts'
import { decimalSeconds } from './tar-stream.ts'
import type { TaskContext } from './tasks.ts'
import { parseTreePath, readTree, type TreeEntry, type Wanted } from './tree-reader.ts'
import { flags, sizeOf, type TreeRecord, types } from './tree-record.ts'
import { packEntry } from './write-files.ts'

export interface TreeRestoreArgs {
  readonly backup: string
  /** An existing directory that is empty but for an empty lost+found, or was left by the same restore, whether it was interrupted or not. */
  readonly target: string
  /** Only this path and what is below it; it keeps its path. '' for all. */
  readonly path: string
}

export interface TreeRestoreResult {
  readonly files: number
  readonly bytes: Bytes
  /** Sockets, which belong to a process and are not made. */
  readonly sockets: number
}

/** A batch for a hand ends with a directory when it has come to this. */
const fairBytes = 8 * 2 ** 20
const fairEntries = 256
/** And within one at this: hands that make files in one directory wait for each other in the kernel. */
const mostBytes = 64 * 2 ** 20
const mostEntries = 4096
const mostOutstanding = 6
/** Up to this, files go through tar. */
const smallFile = 2 ** 20
const stretchLength = 64 * 2 ** 20
const checkpointEveryMs = 60_000

export function restoreTree(context: TaskContext, args: TreeRestoreArgs): TreeRestoreResult {
  const backup = readBackup(context, args.backup)
  const table = loadAllChunks(context)
  const path = parseTreePath(args.path)
  const area = new RestoreArea(args.target, backup.id, path)
  try {
    return new TreeRestore(context, backup, table, area, path).run(args.target)
  } finally {
    area.close()
  }
}

class TreeRestore {
  readonly #context: TaskContext
  readonly #backup: Backup
  readonly #table: ChunkTable
  readonly #area: RestoreArea
  readonly #path: Buffer
  readonly #reader: ChunkReader
  readonly #early: EarlySync
  /** What paths in the area begin with. */
  #inArea: Buffer = Buffer.alloc(0)
  readonly #batch = new ByteWriter()
  #batchBytes = 0
  #batchEntries = 0
  #outstanding = 0
  #done: Bytes = 0
  /** Null until all has been met that is to be restored. */
  #total: Bytes | null
  #hasLinks = false
  #result = { files: 0, bytes: 0, sockets: 0 }
  #checkpointAt = Date.now() + checkpointEveryMs

  constructor(context: TaskContext, backup: Backup, table: ChunkTable, area: RestoreArea, path: Buffer) {
    this.#context = context
    this.#backup = backup
    this.#table = table
    this.#area = area
    this.#path = path
    this.#total = path.length === 0 ? backup.size : null
    this.#reader = new ChunkReader(context.bridge, context.seal, table)
    this.#early = new EarlySync(context.bridge, ['-f', area.target])
  }

  run(target: string): TreeRestoreResult {
    const root = this.#root()
    const { occupant, isPublishing } = this.#area
    if (occupant !== undefined && !holdsTree(this.#area, this.#entries())) {
      throw new AppError('FAILED_PRECONDITION', `${target} is not empty (${occupant}); restore into an empty directory`)
    }
    this.#area.begin()
    this.#inArea = Buffer.from(`${this.#area.path}/`)
    // Once the move has begun the tree is complete, and only the move is left.
    if (occupant === undefined && !isPublishing) this.#build()
    else this.#count()
    this.#area.publish()
    this.#setRoot(root)
    this.#early.finish()
    return this.#result
  }

  #build(): void {
    this.#makeEntries(this.#area.readCheckpoint())
    this.#finishEntries()
    this.#setLargeFiles()
    this.#placeLargeAndLinked()
    this.#setDirectories()
    this.#early.finish()
  }

  #count(): void {
    for (const { path, record } of this.#entries()) if (record && path.length > 0) this.#countEntry(record)
  }

  #countEntry(record: TreeRecord): void {
    this.#result.files++
    this.#result.bytes += sizeOf(record)
    if (record.type === types.socket) this.#result.sockets++
  }

  #root(): TreeRecord {
    for (const { record } of this.#entries()) if (record) return record
    throw new AppError('CORRUPT', `the tree of backup ${this.#backup.id} has no root`)
  }

  /** @param wanted in a pass that is not the first */
  #entries(wanted?: Wanted): Generator<TreeEntry> {
    return readTree(this.#reader, this.#backup, this.#path, wanted)
  }

  #makeEntries(done: Checkpoint): void {
    const links = new LinkGroups()
    const places = new BuildDirectories(this.#area.tree, () => this.#finishEntries())
    for (const { path, record, bytes, number } of this.#entries()) {
      if (!record || record.type === types.directory) this.#maybeFlush()
      if (!record || path.length === 0) continue
      this.#countEntry(record)
      this.#hasLinks ||= isLinked(record)
      const isFurtherName = isLinked(record) && links.join(path, record) !== undefined
      if (number < done.record || isFurtherName) continue
      this.#makeEntry(places.place(path), record, bytes, {
        record: number,
        part: number === done.record ? done.part : 0,
      })
      this.#maybeCheckpoint({ record: number + 1, part: 0 })
    }
    places.close()
    this.#total = this.#result.bytes
  }

  #makeEntry(place: Buffer, record: TreeRecord, bytes: Buffer, from: Checkpoint): void {
    if (record.type === types.socket) return
    if (record.type === types.directory) makeDirectory(place)
    else if (isLarge(record)) this.#writeLarge(record, from.record, from.part)
    else this.#addToBatch(place, bytes, sizeOf(record))
  }

  #addToBatch(place: Buffer, record: Buffer, bytes: Bytes): void {
    packEntry(this.#batch, this.#fromArea(place), record)
    this.#batchBytes += bytes
    this.#batchEntries++
    if (this.#batchEntries >= mostEntries || this.#batchBytes >= mostBytes) this.#flush()
  }

  /** Tar works in the area: shorter paths are quicker. */
  #fromArea(place: Buffer): Buffer {
    const { length } = this.#inArea
    return place.subarray(0, length).equals(this.#inArea) ? place.subarray(length) : place
  }

  #maybeFlush(): void {
    if (this.#batchEntries >= fairEntries || this.#batchBytes >= fairBytes) this.#flush()
  }

  #flush(): void {
    if (this.#batchEntries === 0) return
    const entries = new Uint8Array(this.#batch.view())
    this.#batch.clear()
    this.#batchBytes = 0
    this.#batchEntries = 0
    this.#give('writeEntries', { ...this.#target(), entries })
  }

  #target() {
    return { table: this.#table.shared, area: this.#area.path }
  }

  #give(task: string, args: unknown): void {
    const { bridge } = this.#context
    bridge.pumpUntil(() => this.#outstanding < mostOutstanding)
    this.#outstanding++
    bridge.post('hand', { task, args }, (bytes) => {
      this.#outstanding--
      this.#progress(bytes as Bytes)
    })
  }

  #progress(bytes: Bytes): void {
    this.#done += bytes
    this.#early.add(bytes)
    const progress = { done: this.#done, total: this.#total, unit: 'bytes' as const }
    this.#context.bridge.post('progress', progress, () => undefined)
  }

  #writeLarge(record: TreeRecord, number: number, fromPart: number): void {
    const path = this.#dataPath(number)
    const size = sizeOf(record)
    const fd = openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_NOFOLLOW, 0o600)
    ftruncateSync(fd, size)
    closeSync(fd)
    const content = record.content && {
      level: record.content.level,
      references: new Uint8Array(record.content.references),
    }
    for (let part = fromPart; part * stretchLength < size; part++) {
      const [start, end] = [part * stretchLength, Math.min(size, (part + 1) * stretchLength)]
      this.#give('writeStretch', { table: this.#table.shared, path, content, start, end })
      this.#maybeCheckpoint({ record: number, part: part + 1 })
    }
  }

  #dataPath(number: number): string {
    return `${this.#area.path}/data/${number}`
  }

  #maybeCheckpoint(next: Checkpoint): void {
    if (Date.now() < this.#checkpointAt) return
    this.#finishEntries()
    this.#early.finish()
    this.#area.writeCheckpoint(next)
    this.#checkpointAt = Date.now() + checkpointEveryMs
  }

  #finishEntries(): void {
    this.#flush()
    this.#context.bridge.pumpUntil(() => this.#outstanding === 0)
    this.#context.bridge.call('hand', { task: 'every:finishEntries', args: this.#target() })
  }

  /** An empty file with the right metadata for each large one, and cp to carry that over: two processes for all. */
  #setLargeFiles(): void {
    const numbers = this.#largeFiles()
    if (numbers.size === 0) return
    const skeleton = `${this.#area.path}/skeleton`
    const sink = new TarSink(this.#context.bridge, skeleton, this.#area.path)
    for (const { record, number } of this.#entries((one) => numbers.has(one))) {
      if (record && numbers.has(number)) this.#addMetadata(sink, Buffer.from(String(number)), record)
    }
    sink.close()
    const preserve = '--preserve=mode,ownership,timestamps,xattr'
    const args = ['-r', '--attributes-only', preserve, '--', `${skeleton}/.`, `${this.#area.path}/data`]
    this.#context.bridge.call('exec', { program: 'cp', args, timeoutMs: 0 })
  }

  /** Numbers of those that have not been moved to their paths. */
  #largeFiles(): Set<number> {
    return new Set(readdirSync(`${this.#area.path}/data`).map(Number))
  }

  #addMetadata(sink: TarSink, path: Buffer, record: TreeRecord): void {
    const encoded = record.attributesId ? this.#reader.read(record.attributesId) : record.attributes
    sink.add({ path, stat: record, target: undefined, attributes: encoded ? decodeAttributes(encoded) : [] }, 0, [])
  }

  #placeLargeAndLinked(): void {
    const numbers = this.#largeFiles()
    if (numbers.size === 0 && !this.#hasLinks) return
    const links = new LinkGroups()
    const places = new BuildDirectories(this.#area.tree, () => undefined)
    const firsts = new BuildDirectories(this.#area.tree, () => undefined)
    const wanted: Wanted = (number, _, recordFlags) => numbers.has(number) || (recordFlags & flags.linked) !== 0
    for (const { path, record, number } of this.#entries(wanted)) {
      if (!record || !(isLinked(record) || isLarge(record))) continue
      const first = isLinked(record) ? links.join(path, record) : undefined
      if (first) linkTo(firsts.place(first), places.place(path))
      else if (isLarge(record)) moveTo(this.#dataPath(number), places.place(path))
    }
    firsts.close()
    places.close()
  }

  #setDirectories(): void {
    const open = () => new TarSink(this.#context.bridge, this.#area.path, this.#area.path)
    let sink = open()
    const places = new BuildDirectories(this.#area.tree, () => {
      sink.close()
      sink = open()
    })
    for (const { path, record } of this.#entries(() => false)) {
      if (record?.type !== types.directory || path.length === 0) continue
      // First of all the place: it may end the sink.
      const place = places.place(path)
      this.#addMetadata(sink, this.#fromArea(place), record)
    }
    places.close()
    sink.close()
  }

  /** Last of all. The area cannot go before tar has closed the FIFO in it, where the target is on NFS; its going changes the root's mtime. */
  #setRoot(root: TreeRecord): void {
    const sink = new TarSink(this.#context.bridge, this.#area.target, this.#area.path)
    this.#addMetadata(sink, Buffer.from('.'), root)
    sink.close()
    this.#area.remove()
    const args = ['-m', '-d', `@${decimalSeconds(root.mtimeNs)}`, '--', `${this.#area.target}/.`]
    this.#context.bridge.call('exec', { program: 'touch', args, timeoutMs: 60_000 })
  }
}

/** Has further names; sockets are not made at all. */
function isLinked(record: TreeRecord): boolean {
  return (record.flags & flags.linked) !== 0 && record.type !== types.directory && record.type !== types.socket
}

/** Large or with holes: not for tar. */
function isLarge(record: TreeRecord): boolean {
  if (!record.content) return false
  if (record.content.level > 0 || sizeOf(record) > smallFile) return true
  return [...stretches(record.content, () => Buffer.alloc(0))].some(({ id }) => id === null)
}

/** A name that an interrupted restore gave to an earlier copy of the file is given to this one. */
function linkTo(first: Buffer, path: Buffer): void {
  try {
    if (lstatSync(path, { throwIfNoEntry: false })) unlinkSync(path)
    linkSync(first, path)
  } catch (error) {
    throw fromErrno(error, `linking ${path}`)
  }
}

/** Done before an interruption counts as done. */
function moveTo(from: string, path: Buffer): void {
  if (existsSync(from)) renameSync(from, path)
  else lstatSync(path)
}
