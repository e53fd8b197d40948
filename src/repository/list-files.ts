/** Lists the files of a backup, all or those below a path, page by page. The lead of a job; runs in a worker. */

import { ChunkReader } from './chunk-reader.ts'
import { readBackup } from './commit.ts'
import { loadAllChunks } from './known-chunks.ts'
import type { TaskContext } from './tasks.ts'
import { parseTreePath, readTree } from './tree-reader.ts'
import { type TreeRecord, types } from './tree-record.ts'

export interface ListedFile {
  /** From the root, without a leading slash; bytes that are not UTF-8 are replaced. */
  readonly path: string
  /** The same, exactly: one latin1 character per byte. */
  readonly rawPath: string
  readonly type: 'file' | 'directory' | 'symlink' | 'fifo' | 'character' | 'block' | 'socket'
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly size: number
  /** Nanoseconds since 1970. */
  readonly mtimeNs: bigint
  readonly target: string | null
}

export interface ListFilesArgs {
  readonly backup: string
  /** '' for the root. */
  readonly path: string
  /** All below, or only what is directly in the directory. */
  readonly recursive: boolean
}

const pageLength = 1000
const typeNames = new Map(Object.entries(types).map(([name, type]) => [type as number, name]))

/** Hands out pages with `emit`. */
export function listFiles(context: TaskContext, args: ListFilesArgs): null {
  const backup = readBackup(context, args.backup)
  const table = loadAllChunks(context)
  const reader = new ChunkReader(context.bridge, context.seal, table)
  const path = parseTreePath(args.path)
  let page: ListedFile[] = []
  for (const { path: found, record } of readTree(reader, backup, path)) {
    if (!record || !isWanted(found, path, args.recursive)) continue
    page.push(describe(found, record))
    if (page.length < pageLength) continue
    context.bridge.call('emit', { items: page })
    page = []
  }
  if (page.length > 0) context.bridge.call('emit', { items: page })
  return null
}

/** The directories above `path` come along in a walk, but were not asked for. */
function isWanted(found: Buffer, path: Buffer, recursive: boolean): boolean {
  if (found.length < path.length) return false
  if (recursive || found.length === path.length) return true
  return !found.subarray(path.length === 0 ? 0 : path.length + 1).includes(0x2f)
}

function describe(path: Buffer, record: TreeRecord): ListedFile {
  const { mode, uid, gid, mtimeNs, target } = record
  return {
    path: path.toString(),
    rawPath: path.toString('latin1'),
    type: (typeNames.get(record.type) ?? 'file') as ListedFile['type'],
    ...{ mode, uid, gid, mtimeNs },
    size: Number(record.size),
    target: target ? target.toString() : null,
  }
}
