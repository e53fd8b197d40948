/**
 * Reading what is being backed up without ever following a symlink that its owner may plant: a directory is held open, and what is in it is
 * reached through /proc/self/fd, which is Node's only way to the kernel's openat. Runs in workers.
 */

import { type BigIntStats, closeSync, constants, fstatSync, lstatSync, openSync, readdirSync } from 'node:fs'
import { errno, fromErrno } from '../errors.ts'

/** Not /proc/self, a symlink that would be followed for every file. */
const descriptors = `/proc/${process.pid}/fd`
const noAtime = 0o1000000
const pathOnly = 0o10000000
/** What an entry that vanished, or was replaced by one of another type, is answered with. */
const gone = new Set(['ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO', 'ESTALE', 'ENODEV'])

/** A directory that is held open, counted, as tasks of other threads may still use it. */
export class SourceDirectory {
  readonly fd: number
  readonly stat: BigIntStats
  /** As a user knows it. */
  readonly shown: string
  #users = 1

  private constructor(fd: number, shown: string) {
    this.fd = fd
    this.shown = shown
    this.stat = fstatSync(fd, { bigint: true })
  }

  /** @param path of latin1 characters, one per byte. @returns undefined when there is no such directory (any more) */
  static open(path: string, shown: string): SourceDirectory | undefined {
    const fd = openNoFollow(path, constants.O_DIRECTORY)
    return fd === undefined ? undefined : new SourceDirectory(fd, shown)
  }

  /** One more descriptor of a directory that another thread of this process has open: the same one, whatever its name stands for now. */
  static again(fd: number, shown: string): SourceDirectory {
    return new SourceDirectory(
      openWithoutAtime(`${descriptors}/${fd}`, constants.O_RDONLY | constants.O_DIRECTORY),
      shown,
    )
  }

  /** The path of an entry for system calls of this process; latin1, one character per byte. */
  path(name: string): string {
    return `${descriptors}/${this.fd}/${name}`
  }

  /** Names in order of their bytes; latin1. */
  names(): string[] {
    return readdirSync(`${descriptors}/${this.fd}`, { encoding: 'latin1' }).sort()
  }

  /** Undefined when the entry is gone. */
  lstat(name: string): BigIntStats | undefined {
    try {
      return lstatSync(systemPath(this.path(name)), { bigint: true, throwIfNoEntry: false })
    } catch (error) {
      if (gone.has(errno(error) ?? '')) return undefined
      throw fromErrno(error, `reading ${this.shown}/${name}`)
    }
  }

  use(): void {
    this.#users++
  }

  release(): void {
    if (--this.#users === 0) closeSync(this.fd)
  }
}

/** A path of latin1 characters as Node takes it: bytes, unless it is plain ASCII. */
export function systemPath(path: string): string | Buffer {
  return isAscii(path) ? path : Buffer.from(path, 'latin1')
}

function isAscii(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 0x7e) return false
  return true
}

/**
 * Opens for reading, without touching the access time where that is allowed.
 * @returns undefined when it is gone, a symlink, or not what `flags` ask for
 */
export function openNoFollow(path: string, flags = 0): number | undefined {
  const all = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK | flags
  try {
    return openWithoutAtime(systemPath(path), all)
  } catch (error) {
    if (gone.has(errno(error) ?? '')) return undefined
    throw fromErrno(error, `opening ${path}`)
  }
}

function openWithoutAtime(path: string | Buffer, flags: number): number {
  try {
    return openSync(path, flags | noAtime)
  } catch (error) {
    if (errno(error) !== 'EPERM') throw error
    return openSync(path, flags)
  }
}

/** Opens an entry of any type without opening what it stands for; only good as a path below /proc. Undefined when it is gone. */
export function openPathOnly(path: string): number | undefined {
  try {
    return openSync(systemPath(path), pathOnly | constants.O_NOFOLLOW)
  } catch (error) {
    if (gone.has(errno(error) ?? '')) return undefined
    throw fromErrno(error, `opening ${path}`)
  }
}
