/**
 * Where a restore puts each entry: below its directory held open, which was entered from the top, name by name, without following a symlink. So no entry
 * comes to lie outside the tree, whatever a manifest says, and no path is too long for the kernel. Makes nothing itself.
 */

import { closeSync, constants, openSync } from 'node:fs'
import { fromErrno } from '../errors.ts'
import { prefixes } from './segment.ts'

/** Directories left behind that are kept open, as others may still be working in them. */
const mostLeft = 1000
const slash = 0x2f

interface Held {
  /** In the tree; empty for its root. */
  readonly path: Buffer
  readonly fd: number
}

export class BuildDirectories {
  readonly #settle: () => void
  /** From the root down, each in the one before. */
  readonly #held: [Held, ...Held[]]
  readonly #left: Held[] = []

  /** @param tree a directory of ours @param settle waits until nobody uses the places given out before */
  constructor(tree: string, settle: () => void) {
    this.#settle = settle
    this.#held = [{ path: Buffer.alloc(0), fd: enter(Buffer.from(tree)) }]
  }

  /**
   * The entry as a path for system calls of this process and its children, good until `settle` or `close`. Cheap when entries come in the
   * tree's order. @param path from the root; its directory must have been made @throws INTERNAL when that is none, or a symlink
   */
  place(path: Buffer): Buffer {
    const end = Math.max(0, path.lastIndexOf(slash))
    const directory = this.#enter(path.subarray(0, end))
    return below(directory, path.subarray(end === 0 ? 0 : end + 1))
  }

  #enter(path: Buffer): Held {
    let held = this.#nearest(path)
    if (held.path.length === path.length) return held
    for (const part of prefixes(path)) {
      if (part.length <= held.path.length) continue
      const name = part.subarray(held.path.length === 0 ? 0 : held.path.length + 1)
      held = { path: Buffer.from(part), fd: enter(below(held, name)) }
      this.#held.push(held)
    }
    return held
  }

  /** The deepest held directory that `path` is, or lies in. */
  #nearest(path: Buffer): Held {
    for (;;) {
      const held = this.#held.at(-1) ?? this.#held[0]
      const { length } = held.path
      const isAbove = path.length === length || path[length] === slash
      if (length === 0 || (isAbove && path.subarray(0, length).equals(held.path))) return held
      this.#held.pop()
      this.#left.push(held)
      if (this.#left.length >= mostLeft) this.#letGo()
    }
  }

  #letGo(): void {
    this.#settle()
    for (const { fd } of this.#left.splice(0)) closeSync(fd)
  }

  /** Ends the pass: nothing may use the places any more. */
  close(): void {
    this.#left.push(...this.#held)
    this.#letGo()
  }
}

function below({ fd }: Held, name: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`/proc/${process.pid}/fd/${fd}/`), name])
}

function enter(path: Buffer): number {
  try {
    return openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW)
  } catch (error) {
    throw fromErrno(error, 'entering a directory of the restore')
  }
}
