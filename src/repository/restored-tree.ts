/**
 * Tells whether a directory holds just the tree of a backup: what a restore leaves that was killed in its last moment, or had ended without its
 * caller's hearing of it. Compares names and metadata, not contents: a change of those would show in the mtime.
 */

import { SourceDirectory } from './source-file.ts'
import type { TreeEntry } from './tree-reader.ts'
import { statOf, type TreeRecord, types } from './tree-record.ts'

interface Level {
  readonly directory: SourceDirectory
  /** Those that no record has named yet. */
  readonly names: Set<string>
}

/** Where the tree is looked for, and which of its entries do not count. */
export interface RestoredPlace {
  readonly target: string
  isOurs(name: string): boolean
}

/** Compares everything but the root's own metadata. Costs a look at each entry; holds one directory per level open. */
export function holdsTree(place: RestoredPlace, entries: Iterable<TreeEntry>): boolean {
  const levels: Level[] = []
  try {
    for (const { path, record } of entries) {
      const isExpected =
        record === null ? leave(levels, place) : path.length === 0 ? enterRoot(levels, place) : visit(levels, record)
      if (!isExpected) return false
    }
    // Directories above a single path have no end of their own.
    while (levels.length > 0) if (!leave(levels, place)) return false
    return true
  } finally {
    for (const { directory } of levels) directory.release()
  }
}

function enterRoot(levels: Level[], { target }: RestoredPlace): boolean {
  // The target is a link of /proc to a directory held open, which must be followed.
  return enter(levels, `${target}/.`)
}

function enter(levels: Level[], path: string): boolean {
  const directory = SourceDirectory.open(path, path)
  if (!directory) return false
  levels.push({ directory, names: new Set(directory.names()) })
  return true
}

function visit(levels: Level[], record: TreeRecord): boolean {
  const level = levels.at(-1)
  if (!level) return false
  if (record.type === types.socket) return true
  const name = record.name.toString('latin1')
  const stat = level.names.delete(name) ? level.directory.lstat(name) : undefined
  if (!stat || !isSame(statOf(stat), record)) return false
  return record.type !== types.directory || enter(levels, level.directory.path(name))
}

function isSame(found: ReturnType<typeof statOf>, record: TreeRecord): boolean {
  return (
    found.type === record.type &&
    found.mode === record.mode &&
    found.uid === record.uid &&
    found.gid === record.gid &&
    found.mtimeNs === record.mtimeNs &&
    found.size === record.size
  )
}

function leave(levels: Level[], place: RestoredPlace): boolean {
  const level = levels.pop()
  level?.directory.release()
  const isRoot = levels.length === 0
  return level !== undefined && [...level.names].every((name) => isRoot && place.isOurs(name))
}
