/** The leads that read block backups: a restore onto a device or an image, and random reads. Run in a worker. */

import { closeSync, constants, fstatSync, ftruncateSync, openSync } from 'node:fs'
import { AppError, fromErrno } from '../errors.ts'
import type { Bytes } from '../model.ts'
import { type BlockRoot, blockLength, readBlockRoot } from './block-root.ts'
import { ChunkReader } from './chunk-reader.ts'
import type { ChunkTable } from './chunk-table.ts'
import { readBackup } from './commit.ts'
import { stretches } from './content.ts'
import { loadAllChunks } from './known-chunks.ts'
import type { TaskContext } from './tasks.ts'

export interface BlockRestoreArgs {
  readonly backup: string
  /** An existing device or file, at least as large as the backup; a file is made as long. */
  readonly target: string
  /** It reads as zeros now (a new thin device): holes need not be written. Otherwise they are zeroed. */
  readonly isZeroed: boolean
}

const spanLength = 64 * 2 ** 20
const mostOutstanding = 6

interface Opened extends BlockRoot {
  readonly table: ChunkTable
  readonly reader: ChunkReader
}

function open(context: TaskContext, id: string): Opened {
  const backup = readBackup(context, id)
  if (backup.kind !== 'block') {
    throw new AppError('NOT_SUPPORTED', `backup ${id} is of files, not of a device; restore it into a directory`)
  }
  const table = loadAllChunks(context)
  const reader = new ChunkReader(context.bridge, context.seal, table)
  return { ...readBlockRoot(reader.read(Buffer.from(backup.root, 'hex'))), table, reader }
}

/** Writes the backup to the target. Interrupted, the same call does it again from the start. @returns bytes written */
export function restoreBlock(context: TaskContext, args: BlockRestoreArgs): Bytes {
  const { bridge } = context
  const { content, size, table, reader } = open(context, args.backup)
  const isFile = prepare(args.target, size, args.isZeroed)
  const needsZeros = !isFile && !args.isZeroed
  const shared = { level: content.level, references: new Uint8Array(content.references) }
  let [written, outstanding] = [0, 0]
  for (let start = 0; start < size; start += spanLength) {
    const end = Math.min(size, start + spanLength)
    if (needsZeros)
      zeroHoles(
        context,
        args.target,
        stretches(content, (id) => reader.read(id), start, end),
        start,
        end,
      )
    bridge.pumpUntil(() => outstanding < mostOutstanding)
    outstanding++
    const task = { table: table.shared, path: args.target, content: shared, start, end }
    bridge.post('hand', { task: 'writeStretch', args: task }, (bytes) => {
      outstanding--
      written += bytes as Bytes
      bridge.post('progress', { done: end, total: size, unit: 'bytes' }, () => undefined)
    })
  }
  bridge.pumpUntil(() => outstanding === 0)
  bridge.call('exec', { program: 'sync', args: [args.target], timeoutMs: 0 })
  return written
}

/** @returns whether the target is a file, which then reads as zeros */
function prepare(target: string, size: Bytes, isZeroed: boolean): boolean {
  let fd: number
  try {
    fd = openSync(target, constants.O_WRONLY | constants.O_NOFOLLOW)
  } catch (error) {
    throw fromErrno(error, `opening ${target}`)
  }
  try {
    const isFile = fstatSync(fd).isFile()
    if (isFile && !isZeroed) ftruncateSync(fd, 0)
    if (isFile) ftruncateSync(fd, size)
    return isFile
  } finally {
    closeSync(fd)
  }
}

function zeroHoles(
  { bridge }: TaskContext,
  device: string,
  parts: Iterable<{ id: Buffer | null; offset: Bytes; length: Bytes }>,
  start: Bytes,
  end: Bytes,
): void {
  for (const { id, offset, length } of parts) {
    const [from, to] = [Math.max(start, offset), Math.min(end, offset + length)]
    if (id !== null || from >= to) continue
    const args = ['--zeroout', '--offset', String(from), '--length', String(to - from), device]
    bridge.call('exec', { program: 'blkdiscard', args, timeoutMs: 0 })
  }
}

const opened = new WeakMap<TaskContext, Opened & { readonly recent: Map<string, Uint8Array> }>()
/** Chunks kept for the next read. */
const mostRecent = 64

/** Opens a backup for `readBlock`. @returns its size in bytes */
export function openBlock(context: TaskContext, args: { readonly backup: string }): Bytes {
  const backup = open(context, args.backup)
  opened.set(context, { ...backup, recent: new Map() })
  return backup.size
}

/** The bytes from `start` to `end`. @throws INVALID_ARGUMENT beyond its size */
export function readBlock(
  context: TaskContext,
  { start, end }: { readonly start: Bytes; readonly end: Bytes },
): Uint8Array {
  const backup = opened.get(context)
  if (!backup) throw new AppError('INTERNAL', 'a block backup is read before it is opened')
  if (!(start >= 0 && start <= end && end <= backup.size && end - start <= spanLength)) {
    throw new AppError(
      'INVALID_ARGUMENT',
      `bytes ${start} to ${end} are not in the backup, or more than 64 MiB at once`,
    )
  }
  const bytes = new Uint8Array(end - start)
  for (const { id, offset } of stretches(backup.content, (list) => recall(backup, list), start, end)) {
    if (!id) continue
    const chunk = recall(backup, id)
    const from = Math.max(0, start - offset)
    bytes.set(chunk.subarray(from, Math.min(chunk.length, end - offset, blockLength)), Math.max(0, offset - start))
  }
  return bytes
}

function recall(backup: Opened & { readonly recent: Map<string, Uint8Array> }, id: Buffer): Uint8Array {
  const key = id.toString('latin1')
  const content = backup.recent.get(key) ?? backup.reader.read(id)
  backup.recent.delete(key)
  backup.recent.set(key, content)
  const [oldest] = backup.recent.keys()
  if (backup.recent.size > mostRecent && oldest !== undefined) backup.recent.delete(oldest)
  return content
}
