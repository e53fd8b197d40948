/**
 * A walk of the source (source-walk.ts) in a thread of its own, ahead of the lead of a backup. Entries come over in pages of shared memory, which go
 * round; a directory stays open there until it is open here as well, so that both see the same.
 */

import type { Bridge } from './bridge.ts'
import { SourceDirectory } from './source-file.ts'
import { type SourceEntry, walkSource } from './source-walk.ts'
import type { TaskContext } from './tasks.ts'
import { types } from './tree-record.ts'

interface SharedPages {
  readonly counts: SharedArrayBuffer
  readonly bytes: SharedArrayBuffer
}

/** Counts: changes of the others, pages written and read, directories taken, whether the end has come; then the length of each page. */
const [changes, written, read, taken, ended, lengths] = [0, 1, 2, 3, 4, 5]
const pageCount = 16
const pageLength = 64 * 1024
/** Directories that are open for the lead to take: descriptors are few. */
const mostWaiting = 256
/** In 64 bits: mtime and ctime in ns, inode, size; in 32: type and marks, mode, uid, gid, descriptor, length of the name. The name follows. */
const headLength = 56
const linked = 0x100
const sparse = 0x200
const lookEveryMs = 100

/** The pages, as both sides see them. */
class Pages {
  readonly shared: SharedPages
  readonly #counts: Int32Array
  readonly #bytes: Buffer
  readonly #times: BigInt64Array
  readonly #numbers: BigUint64Array
  readonly #words: Int32Array

  constructor(shared?: SharedPages) {
    this.shared = shared ?? {
      counts: new SharedArrayBuffer(4 * (lengths + pageCount)),
      bytes: new SharedArrayBuffer(pageCount * pageLength),
    }
    this.#counts = new Int32Array(this.shared.counts)
    this.#bytes = Buffer.from(this.shared.bytes)
    this.#times = new BigInt64Array(this.shared.bytes)
    this.#numbers = new BigUint64Array(this.shared.bytes)
    this.#words = new Int32Array(this.shared.bytes)
  }

  count(which: number): number {
    return Atomics.load(this.#counts, which)
  }

  add(which: number, by: number): void {
    Atomics.add(this.#counts, which, by)
    Atomics.add(this.#counts, changes, 1)
    Atomics.notify(this.#counts, changes)
  }

  /** Waits for the other side. @param look is called now and then */
  until(condition: () => boolean, look: () => void = () => undefined): void {
    for (;;) {
      const seen = this.count(changes)
      if (condition()) return
      if (Atomics.wait(this.#counts, changes, seen, lookEveryMs) === 'timed-out') look()
    }
  }

  /** @param at a multiple of 8 @returns where the next entry goes */
  put(at: number, entry: SourceEntry | null): number {
    const word = (at + 32) / 4
    this.#words[word] = entry
      ? entry.stat.type | (entry.isLinked ? linked : 0) | (entry.isSparse ? sparse : 0)
      : types.end
    this.#words[word + 5] = entry?.name.length ?? 0
    if (!entry) return at + headLength
    const { stat, name, directory } = entry
    this.#times[at / 8] = stat.mtimeNs
    this.#times[at / 8 + 1] = stat.ctimeNs
    this.#numbers[at / 8 + 2] = stat.inode
    this.#numbers[at / 8 + 3] = stat.size
    this.#words.set([stat.mode, stat.uid, stat.gid, directory?.fd ?? -1], word + 1)
    this.#bytes.write(name, at + headLength, 'latin1')
    return afterName(at, name.length)
  }

  /** The entry at `at`, and where the next one is. @param parent the directory that it is in */
  take(at: number, parent: SourceDirectory): readonly [SourceEntry | null, number] {
    const [marked = 0, mode = 0, uid = 0, gid = 0, fd = 0, length = 0] = this.#words.subarray((at + 32) / 4)
    const type = marked & 0xff
    if (type === types.end) return [null, at + headLength]
    const [mtimeNs = 0n, ctimeNs = 0n] = this.#times.subarray(at / 8)
    const [inode = 0n, size = 0n] = this.#numbers.subarray(at / 8 + 2)
    const name = this.#bytes.toString('latin1', at + headLength, at + headLength + length)
    const stat = { type, mode, uid: uid >>> 0, gid: gid >>> 0, mtimeNs, ctimeNs, inode, size }
    const directory = fd < 0 ? undefined : SourceDirectory.again(fd, `${parent.shown}/${name}`)
    if (directory) this.add(taken, 1)
    const entry = { name, stat, isLinked: (marked & linked) !== 0, isSparse: (marked & sparse) !== 0, directory }
    return [entry, afterName(at, length)]
  }

  /** Ends the page; waits until there is room for another. */
  write(page: number, length: number): void {
    this.#counts[lengths + (page % pageCount)] = length
    this.add(written, 1)
    this.until(() => page + 1 - this.count(read) < pageCount)
  }

  /** The length of a page that was written. */
  lengthOf(page: number): number {
    return this.#counts[lengths + (page % pageCount)] ?? 0
  }
}

function afterName(at: number, length: number): number {
  return at + headLength + ((length + 7) & ~7)
}

function startOf(page: number): number {
  return (page % pageCount) * pageLength
}

interface WalkArgs {
  readonly fd: number
  readonly shown: string
  readonly shared: SharedPages
}

/** The task of the thread. */
export function walkAhead(_: TaskContext, { fd, shown, shared }: WalkArgs): void {
  const pages = new Pages(shared)
  try {
    new PageFiller(pages).fill(SourceDirectory.again(fd, shown))
  } finally {
    pages.add(ended, 1)
  }
}

class PageFiller {
  readonly #pages: Pages
  #page = 0
  #at = 0
  /** Directories that the lead has not taken yet, in its order. */
  readonly #waiting: SourceDirectory[] = []
  #taken = 0

  constructor(pages: Pages) {
    this.#pages = pages
  }

  fill(root: SourceDirectory): void {
    const open = [root]
    for (const entry of walkSource(root)) {
      if (afterName(this.#at, entry?.name.length ?? 0) > startOf(this.#page) + pageLength) this.#next()
      this.#at = this.#pages.put(this.#at, entry)
      if (!entry) open.pop()?.release()
      else if (entry.directory) {
        open.push(entry.directory)
        this.#leave(entry.directory)
      }
    }
    this.#next()
    this.#waitForTaking(0)
  }

  #next(): void {
    this.#pages.write(this.#page, this.#at - startOf(this.#page))
    this.#at = startOf(++this.#page)
  }

  /** Keeps it open for the lead. */
  #leave(directory: SourceDirectory): void {
    directory.use()
    this.#waiting.push(directory)
    this.#letGo()
    if (this.#waiting.length < mostWaiting) return
    this.#next()
    this.#waitForTaking(mostWaiting / 2)
  }

  #letGo(): void {
    for (const now = this.#pages.count(taken); this.#taken < now; this.#taken++) this.#waiting.shift()?.release()
  }

  #waitForTaking(most: number): void {
    this.#pages.until(() => {
      this.#letGo()
      return this.#waiting.length <= most
    })
  }
}

/** Begins at once to walk what is in `root`; take the entries once. */
export class WalkAhead {
  readonly #bridge: Bridge
  readonly #root: SourceDirectory
  readonly #pages = new Pages()
  #isDone = false

  constructor(bridge: Bridge, root: SourceDirectory) {
    this.#bridge = bridge
    this.#root = root
    const args: WalkArgs = { fd: root.fd, shown: root.shown, shared: this.#pages.shared }
    bridge.post('aside', { task: 'walkAhead', args }, () => {
      this.#isDone = true
    })
  }

  /** As `walkSource`. */
  *entries(): Generator<SourceEntry | null> {
    const pages = this.#pages
    const open = [this.#root]
    for (let page = 0; ; page++) {
      pages.until(
        () => pages.count(written) > page || pages.count(ended) > 0,
        () => this.#bridge.pump(),
      )
      if (pages.count(written) === page) break
      const start = startOf(page)
      for (let at = start; at < start + pages.lengthOf(page); ) {
        const [entry, next] = pages.take(at, open.at(-1) ?? this.#root)
        at = next
        if (!entry) open.pop()
        else if (entry.directory) open.push(entry.directory)
        yield entry
      }
      pages.add(read, 1)
    }
    // What went wrong there is thrown here.
    this.#bridge.pumpUntil(() => this.#isDone)
  }
}
