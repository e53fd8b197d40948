/**
 * Files of several names that are being read in a backup: further names wait for the same content, as long as it is certain that they name the same
 * file. While a living tree is walked, a file may be removed and its inode given to another, or a name be given to another file before it is opened.
 */

import type { FormerFile } from './chunker.ts'
import type { ReadContent } from './file-batches.ts'
import { isRacy } from './read-files.ts'
import type { PendingRecord } from './record-queue.ts'
import type { SourceDirectory } from './source-file.ts'
import type { TreeStat } from './tree-record.ts'

/** A file under one of its names. */
export interface NamedFile {
  readonly record: PendingRecord
  readonly directory: SourceDirectory
  readonly name: string
  /** Of the moment when the name was met. */
  readonly stat: TreeStat
  /** It had several names then. */
  readonly isLinked: boolean
  /** It has fewer blocks than its size needs. */
  readonly isSparse: boolean
  readonly former: FormerFile | undefined
}

/** A file that is being read, and its further names. */
interface Reading {
  readonly file: NamedFile
  readonly waiting: NamedFile[]
}

export class LinkedReads {
  readonly #readings = new Map<bigint, Reading>()
  /** Names that did not get the content that they waited for, each in a directory that is held. */
  #apart: NamedFile[] = []

  /** Whether the file is being read under another name; then `end` gives it its content or puts it apart. */
  join(file: NamedFile): boolean {
    const reading = this.#readings.get(file.stat.inode)
    if (!reading || !isSame(reading.file, file)) return false
    file.directory.use()
    reading.waiting.push(file)
    return true
  }

  /** The file is going to be read under this name. */
  begin(file: NamedFile): Reading {
    const reading = { file, waiting: [] }
    if (file.isLinked) this.#readings.set(file.stat.inode, reading)
    return reading
  }

  /** The file has been read. @param take gets those that waited for it and have the same content */
  end(reading: Reading, read: ReadContent | null, take: (file: NamedFile) => void): void {
    const { inode } = reading.file.stat
    if (this.#readings.get(inode) === reading) this.#readings.delete(inode)
    // What was opened was still what the names had been met as.
    const isTheirs = read !== null && !read.changed && read.stat === undefined
    for (const file of reading.waiting) {
      if (!isTheirs) this.#apart.push(file)
      else {
        file.directory.release()
        take(file)
      }
    }
  }

  /** Those put apart since the last call; the caller has them read, and then releases their directories. */
  takeApart(): NamedFile[] {
    const apart = this.#apart
    this.#apart = []
    return apart
  }
}

/** Adding or removing a name changes the ctime, so that an inode which has passed to another file has another, unless within one tick of the clock. */
function isSame(a: NamedFile, b: NamedFile): boolean {
  const isOne = a.stat.ctimeNs === b.stat.ctimeNs && a.stat.size === b.stat.size && !isRacy(b.stat.ctimeNs)
  return isOne && a.isLinked && b.isLinked
}
