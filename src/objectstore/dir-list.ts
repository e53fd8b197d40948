/**
 * Lists the files below a directory as objects, in the order of their keys. It reads one directory at a time, passes
 * over names that are no keys (`.tmp`, `lost+found`) and over whatever is neither a file nor a directory, and follows
 * no symlink.
 */

import { lstat, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { errno } from '../errors.ts'
import type { DirCalls } from './dir-calls.ts'
import { isKey, type StoredObject } from './objectstore.ts'

/** Files that are looked at together. */
const batchSize = 64

export interface Wanted {
  readonly prefix: string
  /** Only keys behind this one; '' for all. */
  readonly after: string
  readonly signal: AbortSignal | undefined
}

/** Files and directories that vanish meanwhile are left out. Memory: the names of one directory a level. */
export async function* listDirectory(calls: DirCalls, root: string, wanted: Wanted): AsyncGenerator<StoredObject> {
  yield* walk(calls, root, wanted.prefix.slice(0, wanted.prefix.lastIndexOf('/') + 1), wanted)
}

/** `directory` is '' or ends with '/'. */
async function* walk(calls: DirCalls, root: string, directory: string, wanted: Wanted): AsyncGenerator<StoredObject> {
  let files: string[] = []
  for (const key of await childKeys(calls, root, directory, wanted)) {
    if (!key.endsWith('/')) files.push(key)
    if (files.length === batchSize || key.endsWith('/')) {
      yield* describe(calls, root, files, wanted.signal)
      files = []
    }
    if (key.endsWith('/')) yield* walk(calls, root, key, wanted)
  }
  yield* describe(calls, root, files, wanted.signal)
}

/**
 * What is wanted of a directory: keys of files, and of directories with a '/' behind, so that they sort as what is in
 * them.
 */
async function childKeys(calls: DirCalls, root: string, directory: string, wanted: Wanted): Promise<string[]> {
  const entries = await calls.call('reading a directory', wanted.signal, () =>
    gone(readdir(join(root, directory), { withFileTypes: true })),
  )
  const keys: string[] = []
  for (const entry of entries ?? []) {
    const key = `${directory}${entry.name}`
    if (!isKey(key)) continue
    if (entry.isFile() && key.startsWith(wanted.prefix) && key > wanted.after) keys.push(key)
    if (entry.isDirectory() && mayHold(`${key}/`, wanted)) keys.push(`${key}/`)
  }
  return keys.sort()
}

function mayHold(directory: string, { prefix, after }: Wanted): boolean {
  const inPrefix = directory.startsWith(prefix) || prefix.startsWith(directory)
  return inPrefix && (directory > after || after.startsWith(directory))
}

async function* describe(calls: DirCalls, root: string, keys: readonly string[], signal: AbortSignal | undefined) {
  const look = (key: string) => calls.call('looking at a file', signal, () => gone(lstat(join(root, key))))
  const found = await Promise.all(keys.map(look))
  for (const [index, key] of keys.entries()) {
    const stats = found[index]
    if (stats?.isFile()) yield { key, size: stats.size, modifiedAt: stats.mtime }
  }
}

async function gone<T>(call: Promise<T>): Promise<T | undefined> {
  try {
    return await call
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(errno(error) ?? '')) return undefined
    throw error
  }
}
