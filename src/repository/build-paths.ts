/**
 * Where a restore builds each entry, as a path that the kernel takes however deep the tree is: below a directory whose path is long, paths begin anew
 * at `deep/NUMBER` in the area, a link to that directory held open. Makes nothing in the tree itself.
 */

import { closeSync, constants, mkdirSync, openSync, rmSync, symlinkSync } from 'node:fs'
import { fromErrno } from '../errors.ts'

/** Below PATH_MAX (4096) with room for the area's own path and a name. */
const longestPath = 2048
/** Directories left behind that are kept open, as others may still be working in them. */
const mostLeft = 64

interface Base {
  /** In the tree. */
  readonly path: Buffer
  /** In the area. */
  readonly place: string
  readonly fd: number | undefined
}

export class BuildPaths {
  readonly #area: string
  readonly #settle: () => void
  readonly #bases: [Base, ...Base[]] = [{ path: Buffer.alloc(0), place: 'tree', fd: undefined }]
  readonly #left: Base[] = []
  #count = 0

  /**
   * For one pass over the tree's entries in their order.
   * @param area a directory of ours @param settle waits until nobody uses the places given out before
   */
  constructor(area: string, settle: () => void) {
    this.#area = area
    this.#settle = settle
    rmSync(`${area}/deep`, { recursive: true, force: true })
    mkdirSync(`${area}/deep`, { mode: 0o700 })
  }

  /** The entry's path from the area. The directory that it lies in must be there. */
  place(path: Buffer): Buffer {
    for (;;) {
      const base = this.#baseOf(path)
      const from = base.path.length === 0 ? 0 : base.path.length + 1
      if (path.length - from <= longestPath) {
        return Buffer.concat([Buffer.from(`${base.place}/`), path.subarray(from)])
      }
      // A name is much shorter than that: there is a slash.
      this.#enter(base, path.subarray(0, path.lastIndexOf(0x2f, from + longestPath)), from)
    }
  }

  #baseOf(path: Buffer): Base {
    for (;;) {
      const base = this.#bases.at(-1) ?? this.#bases[0]
      const { length } = base.path
      if (length === 0 || (path[length] === 0x2f && path.subarray(0, length).equals(base.path))) return base
      this.#bases.pop()
      this.#left.push(base)
      if (this.#left.length >= mostLeft) this.#letGo()
    }
  }

  #enter(base: Base, path: Buffer, from: number): void {
    const directory = Buffer.concat([Buffer.from(`${this.#area}/${base.place}/`), path.subarray(from)])
    try {
      const fd = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW)
      const place = `deep/${++this.#count}`
      symlinkSync(`/proc/${process.pid}/fd/${fd}`, `${this.#area}/${place}`)
      this.#bases.push({ path: Buffer.from(path), place, fd })
    } catch (error) {
      throw fromErrno(error, 'entering a directory of the restore')
    }
  }

  #letGo(): void {
    this.#settle()
    for (const { fd } of this.#left) if (fd !== undefined) closeSync(fd)
    this.#left.length = 0
  }

  /** Ends the pass. */
  close(): void {
    this.#left.push(...this.#bases.splice(1))
    this.#letGo()
  }
}
