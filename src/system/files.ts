/**
 * File-system calls with the meaning that drivers need: nothing here follows a symlink at the path it is given, "gone" is an
 * answer rather than an error, and what is reported as done survives a power cut.
 */

import { constants, type Stats } from 'node:fs'
import { lstat, mkdir, open, readdir, readlink, rmdir, unlink } from 'node:fs/promises'
import { basename, dirname } from 'node:path'
import { AppError, errno } from '../errors.ts'
import { exec } from './exec.ts'
import { isWithin, readMounts } from './mount.ts'

/** What stands at `path`, a symlink not followed; undefined when nothing does. */
export async function lstatOrNothing(path: string): Promise<Stats | undefined> {
  return ignoring(lstat(path), 'ENOENT', 'ENOTDIR')
}

/** The text of a symlink; undefined when there is none at `path`. */
export async function readlinkOrNothing(path: string): Promise<string | undefined> {
  return ignoring(readlink(path), 'ENOENT', 'ENOTDIR', 'EINVAL')
}

/** The names in a directory; none when it is gone. */
export async function readdirOrNothing(path: string): Promise<string[]> {
  return (await ignoring(readdir(path), 'ENOENT')) ?? []
}

/** Awaits a file-system call; undefined when it fails with one of `codes`. */
export async function ignoring<T>(call: Promise<T>, ...codes: string[]): Promise<T | undefined> {
  try {
    return await call
  } catch (error) {
    if (codes.includes(errno(error) ?? '')) return undefined
    throw error
  }
}

/** Makes the entries of a directory (or a file's content) survive a power cut. */
export async function syncPath(path: string): Promise<void> {
  const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Makes everything on the file system that holds `path` survive a power cut. Waits for other writers' data too. */
export async function syncFileSystem(path: string, signal?: AbortSignal): Promise<void> {
  await exec('sync', ['--file-system', '--', path], { signal, timeoutMs: 0 })
}

/**
 * Checks that `names` below the directory `base` are directories all the way down, none a symlink. @returns the last one's path
 * @throws NOT_FOUND when one is missing, FAILED_PRECONDITION when one is something else
 */
export async function realDirectory(base: string, ...names: string[]): Promise<string> {
  let path = base
  for (const name of names) {
    path = `${path}/${name}`
    const stats = await lstatOrNothing(path)
    if (!stats) throw new AppError('NOT_FOUND', `${path} is gone`)
    if (!stats.isDirectory()) {
      throw new AppError('FAILED_PRECONDITION', `${path} is not a directory and is not followed; move it away`)
    }
  }
  return path
}

/** Makes `path` a directory; one that is there stays as it is. @throws FAILED_PRECONDITION when something else is there */
export async function ensureDirectory(path: string, mode: number): Promise<void> {
  await ignoring(mkdir(path, { mode }), 'EEXIST')
  await realDirectory(dirname(path), basename(path))
}

/**
 * Removes a tree; gone is success. A crash or an abort in the middle leaves a part of it: rename it aside first when that matters.
 * Symlinks swapped in meanwhile are not followed, and it refuses to begin when anything is mounted below.
 * @throws IN_USE when something is mounted in it
 */
export async function removeTree(path: string, signal?: AbortSignal): Promise<void> {
  const mounted = readMounts().find((entry) => isWithin(entry.mountpoint, path))
  if (mounted) throw new AppError('IN_USE', `${mounted.mountpoint} is still mounted; unmount it`)
  await exec('rm', ['-rf', '--', path], { signal, timeoutMs: 0 })
}

/** Removes a file, a symlink or an empty directory; gone is success. @returns false when it is a directory with content */
export async function removeEntry(path: string): Promise<boolean> {
  try {
    await unlink(path)
    return true
  } catch (error) {
    if (errno(error) === 'ENOENT') return true
    if (errno(error) !== 'EISDIR' && errno(error) !== 'EPERM') throw error
  }
  return (
    (await ignoring(
      rmdir(path).then(() => true),
      'ENOTEMPTY',
      'EEXIST',
    )) ?? false
  )
}
