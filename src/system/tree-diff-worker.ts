/**
 * The thread behind tree-diff.ts: walks two trees side by side, in the order of their names' bytes. Every directory is opened by
 * its name in its opened parent, and nothing else is named by more than that: a path cannot be bent by a symlink that is swapped
 * in while it is walked.
 * Fact: `/proc/self/fd/N/NAME` is Node's openat(2).
 */

import {
  type BigIntStats,
  closeSync,
  constants,
  lstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
} from 'node:fs'
import { parentPort, workerData } from 'node:worker_threads'

interface Change {
  path: string
  change: 'added' | 'removed' | 'modified'
}

/** One side of the comparison: an open directory. */
type Directory = number

const openDirectoryFlags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW
const openFileFlags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
const chunk = 1 << 20

const changes: Change[] = []

function at(directory: Directory, name: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`/proc/self/fd/${directory}/`), name])
}

function withOpen<T>(path: Buffer | string, flags: number, use: (fd: number) => T): T {
  const fd = openSync(path, flags)
  try {
    return use(fd)
  } finally {
    closeSync(fd)
  }
}

function namesIn(directory: Directory): Buffer[] {
  return readdirSync(`/proc/self/fd/${directory}`, { encoding: 'buffer' }).sort(Buffer.compare)
}

/** Undefined for what has vanished meanwhile. */
function look(directory: Directory, name: Buffer): BigIntStats | undefined {
  try {
    return lstatSync(at(directory, name), { bigint: true })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

function printable(path: Buffer): string {
  const text = path.toString('utf8')
  if (!/[\p{C}\\\ufffd]/u.test(text)) return text
  return [...path]
    .map((byte) => (byte < 0x20 || byte > 0x7e || byte === 0x5c ? escaped(byte) : String.fromCharCode(byte)))
    .join('')
}

function escaped(byte: number): string {
  return `\\x${byte.toString(16).padStart(2, '0')}`
}

function note(path: Buffer, change: Change['change']): void {
  changes.push({ path: printable(path), change })
}

function join(parent: Buffer, name: Buffer): Buffer {
  return parent.length === 0 ? name : Buffer.concat([parent, Buffer.from('/'), name])
}

/** Compares two directories name by name. */
function compareDirectories(a: Directory, b: Directory, path: Buffer): void {
  for (const name of merged(namesIn(a), namesIn(b))) compareEntries(a, b, name, path)
}

/** The names of two sorted lists, each once, in order. */
function* merged(a: readonly Buffer[], b: readonly Buffer[]): Generator<Buffer> {
  let [i, j] = [0, 0]
  for (;;) {
    const [x, y] = [a[i], b[j]]
    const next = x && y ? (Buffer.compare(x, y) <= 0 ? x : y) : (x ?? y)
    if (!next) return
    if (x?.equals(next)) i++
    if (y?.equals(next)) j++
    yield next
  }
}

function compareEntries(a: Directory, b: Directory, name: Buffer, parent: Buffer): void {
  const [statsA, statsB] = [look(a, name), look(b, name)]
  if (statsA && statsB) compareBoth(a, b, name, parent, statsA, statsB)
  else if (statsA) listAll(a, name, parent, 'removed')
  else if (statsB) listAll(b, name, parent, 'added')
}

function compareBoth(
  a: Directory,
  b: Directory,
  name: Buffer,
  parent: Buffer,
  statsA: BigIntStats,
  statsB: BigIntStats,
): void {
  const path = join(parent, name)
  if (isModified(a, b, name, statsA, statsB)) note(path, 'modified')
  const [wasDirectory, isDirectory] = [statsA.isDirectory(), statsB.isDirectory()]
  if (wasDirectory && isDirectory) {
    withOpen(at(a, name), openDirectoryFlags, (x) =>
      withOpen(at(b, name), openDirectoryFlags, (y) => compareDirectories(x, y, path)),
    )
  } else if (wasDirectory) listInside(a, name, path, 'removed')
  else if (isDirectory) listInside(b, name, path, 'added')
}

function isModified(a: Directory, b: Directory, name: Buffer, was: BigIntStats, is: BigIntStats): boolean {
  if (was.mode !== is.mode || was.uid !== is.uid || was.gid !== is.gid) return true // The mode holds the type as well.
  if (was.isDirectory()) return false
  if (was.isSymbolicLink()) return !linkText(a, name).equals(linkText(b, name))
  if (was.isBlockDevice() || was.isCharacterDevice()) return was.rdev !== is.rdev
  if (!was.isFile()) return false
  if (was.size !== is.size) return true
  return was.mtimeNs !== is.mtimeNs && !haveSameContent(at(a, name), at(b, name))
}

function linkText(directory: Directory, name: Buffer): Buffer {
  return readlinkSync(at(directory, name), { encoding: 'buffer' })
}

function haveSameContent(a: Buffer, b: Buffer): boolean {
  return withOpen(a, openFileFlags, (x) =>
    withOpen(b, openFileFlags, (y) => {
      const [bufferA, bufferB] = [Buffer.allocUnsafe(chunk), Buffer.allocUnsafe(chunk)]
      for (;;) {
        const [readA, readB] = [fill(x, bufferA), fill(y, bufferB)]
        if (readA !== readB || bufferA.compare(bufferB, 0, readB, 0, readA) !== 0) return false
        if (readA < chunk) return true
      }
    }),
  )
}

/** Reads until the buffer is full or the file ends. */
function fill(fd: number, buffer: Buffer): number {
  let filled = 0
  while (filled < buffer.length) {
    const read = readSync(fd, buffer, filled, buffer.length - filled, null)
    if (read === 0) break
    filled += read
  }
  return filled
}

function listAll(directory: Directory, name: Buffer, parent: Buffer, change: 'added' | 'removed'): void {
  const stats = look(directory, name)
  if (!stats) return
  const path = join(parent, name)
  note(path, change)
  if (stats.isDirectory()) listInside(directory, name, path, change)
}

function listInside(directory: Directory, name: Buffer, path: Buffer, change: 'added' | 'removed'): void {
  withOpen(at(directory, name), openDirectoryFlags, (inside) => {
    for (const child of namesIn(inside)) listAll(inside, child, path, change)
  })
}

function compareRoots(a: string, b: string): void {
  withOpen(a, openDirectoryFlags, (x) =>
    withOpen(b, openDirectoryFlags, (y) => {
      const dot = Buffer.from('.')
      const [was, is] = [look(x, dot), look(y, dot)]
      if (was && is && isModified(x, y, dot, was, is)) note(dot, 'modified')
      compareDirectories(x, y, Buffer.alloc(0))
    }),
  )
}

try {
  const { a, b } = workerData as { a: string; b: string }
  compareRoots(a, b)
  parentPort?.postMessage({ changes })
} catch (error) {
  parentPort?.postMessage({ failed: (error as Error).message, code: (error as NodeJS.ErrnoException).code ?? '' })
}
