/**
 * Where a restore puts each entry: in a directory that was entered from the top, name by name, without following a symlink. So no entry comes to lie
 * outside the tree, whatever a manifest says: nobody else can reach the tree while it is built, and a restore makes each name once. An entry is
 * named by its path or, where that is too long for the kernel, below its directory held open. Makes nothing itself.
 */

import { closeSync, constants, openSync } from 'node:fs'
import { fromErrno } from '../errors.ts'
import { prefixes } from './segment.ts'

/** The kernel takes 4095 bytes: paths in the tree up to this length, with room for that of the tree itself. */
const longPath = 3500
/** Directories of long paths left behind that are kept open, as others may still be working in them. */
const mostLeft = 1000
/** With the slash before it. */
const longestName = 256
const slash = 0x2f

interface Held {
  /** In the tree; empty for its root. */
  readonly path: Buffer
  readonly fd: number
}

export class BuildDirectories {
  /** What goes before a path. */
  readonly #prefix: Buffer
  readonly #settle: () => void
  /** From the root down, each in the one before. */
  readonly #held: [Held, ...Held[]]
  readonly #left: Held[] = []

  /** @param tree a directory of ours, by a path of at most 500 bytes @param settle waits until nobody uses the places given out before */
  constructor(tree: string, settle: () => void) {
    this.#prefix = Buffer.from(`${tree}/`)
    this.#settle = settle
    this.#held = [{ path: Buffer.alloc(0), fd: enter(Buffer.from(tree)) }]
  }

  /**
   * The entry as a path for system calls of this process and its children: below `tree` or, when it is long, below a directory that is
   * held open until `settle` or `close`. Cheap when entries come in the tree's order.
   * @param path from the root; its directory must have been made @throws INTERNAL when that is none, or a symlink
   */
  place(path: Buffer): Buffer {
    const end = Math.max(0, path.lastIndexOf(slash))
    const directory = this.#enter(path.subarray(0, end))
    if (path.length <= longPath) return Buffer.concat([this.#prefix, path])
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
      // Whatever lies in it has a short path.
      if (length + longestName <= longPath) closeSync(held.fd)
      else this.#left.push(held)
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
