/**
 * Which records are names of one file (FORMAT.md 6.3). An inode alone does not tell: while a living tree is backed up, a file may be removed and its
 * inode given to another. Does no I/O.
 */

import type { TreeRecord } from './tree-record.ts'

/** What the names of one file have in common. */
interface Identity {
  readonly type: number
  readonly size: bigint
  readonly mtimeNs: bigint
  readonly ctimeNs: bigint
  readonly profile: number
  /** Its references, with their level in front, or its target. */
  readonly content: Buffer
}

interface Group extends Identity {
  /** Path of its first name. */
  readonly first: Buffer
}

/** For one pass over a tree's entries in their order. Keeps a few hundred bytes for each file of several names. */
export class LinkGroups {
  readonly #groups = new Map<bigint, Group[]>()

  /** Adds a name of a file of several. @returns the path of the file's first name, undefined when this is it */
  join(path: Buffer, record: TreeRecord): Buffer | undefined {
    const groups = this.#groups.get(record.inode) ?? []
    const identity = identityOf(record)
    const group = groups.find((one) => isSame(one, identity))
    if (!group) this.#groups.set(record.inode, [...groups, { ...identity, first: Buffer.from(path) }])
    return group?.first
  }
}

function identityOf({ type, size, mtimeNs, ctimeNs, profile, content, target }: TreeRecord): Identity {
  const bytes = content ? Buffer.concat([Buffer.of(content.level), content.references]) : Buffer.from(target ?? '')
  return { type, size, mtimeNs, ctimeNs, profile, content: bytes }
}

/** The same file may have been read twice, and cut in two ways: only of one profile do references tell. */
function isSame(a: Identity, b: Identity): boolean {
  if (a.type !== b.type || a.size !== b.size || a.mtimeNs !== b.mtimeNs) return false
  const isTrusted = a.ctimeNs !== 0n && b.ctimeNs !== 0n
  if (isTrusted && a.ctimeNs !== b.ctimeNs) return false
  return (isTrusted && a.profile !== b.profile) || a.content.equals(b.content)
}
