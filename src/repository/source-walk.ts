/**
 * The walk of a directory tree that is being backed up: every entry in the tree's order, with what its stat says. Follows no symlinks. Either right here,
 * or ahead of who takes the entries, in a thread of its own (`walkAhead`): asking the kernel for a stat is most of what an unchanged file costs.
 */

import { SourceDirectory } from './source-file.ts'
import { statOf, type TreeStat } from './tree-record.ts'

export interface SourceEntry {
  /** Latin1, one character per byte. */
  readonly name: string
  readonly stat: TreeStat
  /** It is no directory, and has several names. */
  readonly isLinked: boolean
  /** It has fewer blocks than its size needs. */
  readonly isSparse: boolean
  /** Of a directory: who takes the entry releases it, once its end has come. */
  readonly directory: SourceDirectory | undefined
}

/** What is in a directory and below; null at the end of each. Entries that vanish are left out. @throws what reading them throws */
export function* walkSource(root: SourceDirectory): Generator<SourceEntry | null> {
  const open = [{ directory: root, names: root.names(), next: 0 }]
  for (let level = open.at(-1); level; level = open.at(-1)) {
    const name = level.names[level.next++]
    if (name === undefined) {
      open.pop()
      yield null
      continue
    }
    const entry = look(level.directory, name)
    if (!entry) continue
    yield entry
    if (entry.directory) open.push({ directory: entry.directory, names: entry.directory.names(), next: 0 })
  }
}

/** Undefined when it is gone. */
function look(parent: SourceDirectory, name: string): SourceEntry | undefined {
  const stat = parent.lstat(name)
  if (!stat) return undefined
  if (stat.isDirectory()) {
    const directory = SourceDirectory.open(parent.path(name), `${parent.shown}/${name}`)
    return directory && { name, stat: statOf(directory.stat), isLinked: false, isSparse: false, directory }
  }
  const isSparse = stat.blocks * 512n < stat.size
  return { name, stat: statOf(stat), isLinked: stat.nlink > 1n, isSparse, directory: undefined }
}
