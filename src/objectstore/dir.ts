/**
 * An object store in a directory: a local disk, or one that NFS, SMB or FUSE bring. A key is the path of a file.
 *
 * An object is written to `.tmp/`, synced, and moved (or linked, for `ifAbsent`) to its name, whose directory is synced
 * then. A crash leaves at most a file in `.tmp/`, which no listing shows and which the first put after a day removes.
 * Directories are 0700, files 0600; those that deletions leave empty stay.
 *
 * The directory is remembered by its identity: when a disk is unmounted, what lies below its mount point is another
 * directory, and neither are objects written there nor is "not found" said of them. Symlinks at an object's place are
 * not followed.
 */

import { constants } from 'node:fs'
import {
  type FileHandle,
  link,
  lstat,
  mkdir,
  open,
  readdir,
  realpath,
  rename,
  stat,
  statfs,
  unlink,
} from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { pathToFileURL } from 'node:url'
import { AppError, errno, isAppError } from '../errors.ts'
import { directRefusals, fileSystemTypes } from '../system/direct-io.ts'
import { pageLength } from '../system/page-memory.ts'
import { createDirCalls, type DirCalls } from './dir-calls.ts'
import { listDirectory } from './dir-list.ts'
import {
  type ByteRange,
  checkKey,
  checkPrefix,
  checkRange,
  type ListOptions,
  type ObjectStore,
  type PutOptions,
  type StoredObject,
} from './objectstore.ts'

const partial = '.tmp'
const dayMs = 24 * 3_600_000
const sliceSize = 4 * 2 ** 20
/** What is shorter is not worth a second handle. */
const leastDirect = 2 ** 20
/** How FAT, SMB and FUSE say that they have no hard links. */
const noLinks = ['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS']

export interface DirStoreOptions {
  /** Make the directory when it is not there. */
  readonly create?: boolean | undefined
  /** Limit of one file-system call in ms; default 2 minutes, for disks that have much to write before a sync. */
  readonly timeoutMs?: number | undefined
  readonly signal?: AbortSignal | undefined
}

/** What the functions of this file share. */
interface Dir {
  readonly path: string
  readonly calls: DirCalls
  readonly identity: string
  ifAbsent: 'kept' | 'ignored'
  /** Whether files can be written past the page cache; true until one could not. */
  isDirect: boolean
  /** Directories that are there to stay: made, and their parents synced. */
  readonly settled: Set<string>
  swept: boolean
}

/**
 * Opens the store in a directory, given by its absolute path. Writes nothing unless `create` is set.
 * @throws FAILED_PRECONDITION when it is not there or not a directory
 */
export async function openDirStore(path: string, options: DirStoreOptions = {}): Promise<ObjectStore> {
  const calls = createDirCalls(path, options.timeoutMs ?? 120_000)
  if (options.create) {
    await calls.call('making the directory', options.signal, () => makeDirectory(path))
  }
  const real = await calls.call('opening', options.signal, () => realpath(path).catch(() => path))
  const identity = await identify(calls, real, options.signal)
  const isDirect = await calls.call('looking at the file system', options.signal, async () => {
    const found = await statfs(real).catch(absent)
    return found?.type !== fileSystemTypes.fuse
  })
  const dir: Dir = { path: real, calls, identity, ifAbsent: 'kept', isDirect, settled: new Set(), swept: false }
  if (identity === '') {
    throw new AppError('FAILED_PRECONDITION', `${path} is not a directory; mount what holds it, or create it`)
  }
  return {
    url: pathToFileURL(real).href,
    get facts() {
      return { kind: 'dir', ifAbsent: dir.ifAbsent, maxObjectSize: 2 ** 31, details: { path: real } } as const
    },
    put: (key, data, putOptions) => put(dir, key, data, putOptions ?? {}),
    get: (key, range, getOptions) => get(dir, key, range, getOptions?.signal),
    stat: (key, statOptions) => statObject(dir, key, statOptions?.signal),
    list: (prefix, listOptions) => list(dir, prefix, listOptions ?? {}),
    delete: (keys, deleteOptions) => remove(dir, keys, deleteOptions?.signal),
    close: async () => undefined,
  }
}

/** Makes a directory and what is missing above it. Node's own way never ends where a file system refuses with ENOENT, as in /proc. */
async function makeDirectory(path: string): Promise<void> {
  const make = () => mkdir(path, { mode: 0o700 }).catch(unless('EEXIST'))
  try {
    await make()
  } catch (error) {
    if (errno(error) !== 'ENOENT' || dirname(path) === path) throw error
    await makeDirectory(dirname(path))
    await make()
  }
}

/** Which directory it is; '' when there is none. */
async function identify(calls: DirCalls, path: string, signal: AbortSignal | undefined): Promise<string> {
  return await calls.call('looking at the directory', signal, async () => {
    const found = await stat(path).catch(absent)
    return found?.isDirectory() ? `${found.dev}:${found.ino}` : ''
  })
}

async function checkIdentity(dir: Dir, signal: AbortSignal | undefined): Promise<void> {
  if ((await identify(dir.calls, dir.path, signal)) === dir.identity) return
  throw new AppError('UNAVAILABLE', `${dir.path} is not the directory that was opened; see whether it is still mounted`)
}

/** A handler for calls that may fail with one of `codes`: undefined then; other errors are thrown on. */
function unless(...codes: string[]): (error: unknown) => undefined {
  return (error) => {
    if (codes.includes(errno(error) ?? '')) return undefined
    throw error
  }
}

const absent = unless('ENOENT', 'ENOTDIR')

async function put(dir: Dir, key: string, data: Uint8Array, options: PutOptions): Promise<void> {
  checkKey(key)
  await checkIdentity(dir, options.signal)
  const temporary = join(dir.path, partial, crypto.randomUUID())
  try {
    await settleDirectory(dir, dirname(temporary), options.signal)
    const writtenAt = await writeFile(dir, temporary, data, options.signal)
    await publish(dir, temporary, join(dir.path, key), options)
    await sweep(dir, writtenAt, options.signal)
  } catch (error) {
    // Nobody waits for it: the disk may hang, and a later first put looks again.
    void dir.calls.call('removing a partial file', undefined, () => unlink(temporary)).catch(() => undefined)
    if (!isAppError(error, 'NOT_FOUND')) throw error
    dir.settled.clear()
    throw new AppError('UNAVAILABLE', `${error.message}; something else removes files there`, { cause: error })
  }
}

/** Makes a directory of the store, and what is missing above it; both survive a power cut. */
async function settleDirectory(dir: Dir, path: string, signal: AbortSignal | undefined): Promise<void> {
  if (path === dir.path || dir.settled.has(path)) return
  await settleDirectory(dir, dirname(path), signal)
  const found = await dir.calls.call('making a directory', signal, async () => {
    await mkdir(path, { mode: 0o700 }).catch(unless('EEXIST'))
    return await lstat(path)
  })
  if (!found.isDirectory()) {
    throw new AppError('FAILED_PRECONDITION', `${path} is not a directory and is not followed; move it away`)
  }
  // Also when it was there: another put may have made it and not have synced it yet.
  await syncDirectory(dir, dirname(path), signal)
  dir.settled.add(path)
}

async function syncDirectory(dir: Dir, path: string, signal: AbortSignal | undefined): Promise<void> {
  await dir.calls.call('syncing a directory', signal, async () => {
    await using handle = await open(path, constants.O_RDONLY | constants.O_DIRECTORY)
    await handle.sync()
  })
}

/** Writes a new file and syncs it. @returns when, by the store's clock */
async function writeFile(dir: Dir, path: string, data: Uint8Array, signal: AbortSignal | undefined): Promise<Date> {
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW
  const handle = await openFile(
    dir,
    'making a file',
    signal,
    () => open(path, flags, 0o600),
    () => unlink(path),
  )
  try {
    for (let offset = await writeDirectly(dir, path, data, signal); offset < data.length; ) {
      const slice = data.subarray(offset, offset + sliceSize)
      offset += await dir.calls.call('writing', signal, async () => await writeAt(handle, slice, offset))
    }
    await dir.calls.call('syncing', signal, () => handle.sync())
    const { mtime } = await dir.calls.call('looking at a file', signal, () => handle.stat())
    await dir.calls.call('closing', signal, () => handle.close())
    return mtime
  } catch (error) {
    abandon(dir, handle)
    throw error
  }
}

/**
 * Writes the whole pages of a pack past the page cache: nothing else loses its place there to a backup, and the copying of all that is stored is
 * saved, a fifth of a first backup's processor time. @returns so many bytes are written, from the first one on; 0 where the
 * file system or the memory does not allow it
 */
async function writeDirectly(
  dir: Dir,
  path: string,
  data: Uint8Array,
  signal: AbortSignal | undefined,
): Promise<number> {
  const length = data.length - (data.length % pageLength)
  if (!dir.isDirect || length < leastDirect || !(data.buffer instanceof SharedArrayBuffer)) return 0
  const flags = constants.O_WRONLY | constants.O_DIRECT | constants.O_NOFOLLOW
  const refused = unless(...directRefusals)
  const handle = await openFile(dir, 'opening', signal, () => open(path, flags).catch(refused))
  let written = 0
  try {
    while (handle && written % pageLength === 0 && written < length) {
      const slice = data.subarray(written, Math.min(length, written + sliceSize))
      const more = await dir.calls.call('writing', signal, () => writeAt(handle, slice, written).catch(refused))
      if (more === undefined) break
      written += more
    }
  } finally {
    if (handle) abandon(dir, handle)
  }
  dir.isDirect = written > 0
  return written
}

async function writeAt(handle: FileHandle, bytes: Uint8Array, position: number): Promise<number> {
  return (await handle.write(bytes, 0, bytes.length, position)).bytesWritten
}

/** Opens a file; one that is opened too late for its caller is closed, and `undo` done. */
async function openFile<T extends FileHandle | undefined>(
  dir: Dir,
  doing: string,
  signal: AbortSignal | undefined,
  work: () => Promise<T>,
  undo?: () => Promise<void>,
): Promise<T> {
  let opening: Promise<T> | undefined
  try {
    return await dir.calls.call(doing, signal, () => {
      opening = work()
      return opening
    })
  } catch (error) {
    opening
      ?.then(async (handle) => {
        await handle?.close()
        await undo?.()
      })
      .catch(() => undefined)
    throw error
  }
}

/** Closes a file that nothing depends on any more. Closing may hang as any call, so nobody waits for it. */
function abandon(dir: Dir, handle: FileHandle): void {
  void dir.calls.call('closing', undefined, () => handle.close()).catch(() => undefined)
}

/** Gives a written file its name, for good. */
async function publish(dir: Dir, temporary: string, target: string, { ifAbsent, signal }: PutOptions): Promise<void> {
  await settleDirectory(dir, dirname(target), signal)
  const linked = ifAbsent && dir.ifAbsent === 'kept' && (await linkOnce(dir, temporary, target, signal))
  if (linked) {
    await dir.calls.call('removing a partial file', signal, () => unlink(temporary))
  } else {
    await dir.calls.call('renaming', signal, async () => {
      if (ifAbsent && (await lstat(target).catch(absent))) throw alreadyThere(dir, target)
      await rename(temporary, target)
    })
  }
  await syncDirectory(dir, dirname(target), signal)
}

/** Links the file to its name unless that is taken. @returns false when this file system has no links */
async function linkOnce(dir: Dir, from: string, target: string, signal: AbortSignal | undefined): Promise<boolean> {
  return await dir.calls.call('linking', signal, async () => {
    try {
      await link(from, target)
      return true
    } catch (error) {
      if (errno(error) === 'EEXIST') {
        // NFS repeats a call whose answer was lost, and finds its own link.
        if ((await lstat(from)).nlink === 2) return true
        throw alreadyThere(dir, target)
      }
      if (!noLinks.includes(errno(error) ?? '')) throw error
      dir.ifAbsent = 'ignored'
      return false
    }
  })
}

function alreadyThere(dir: Dir, target: string): AppError {
  return new AppError('ALREADY_EXISTS', `${dir.path}: ${relative(dir.path, target)} is there already`)
}

/** Removes, once, what puts that were interrupted more than a day ago have left. Housekeeping: it may fail. */
async function sweep(dir: Dir, now: Date, signal: AbortSignal | undefined): Promise<void> {
  if (dir.swept) return
  dir.swept = true
  const directory = join(dir.path, partial)
  await dir.calls
    .call('removing old partial files', signal, async () => {
      for (const name of await readdir(directory)) {
        const found = await lstat(join(directory, name)).catch(absent)
        if (found && found.mtimeMs < now.getTime() - dayMs) await unlink(join(directory, name)).catch(absent)
      }
    })
    .catch(() => undefined)
}

async function get(dir: Dir, key: string, range: ByteRange | undefined, signal: AbortSignal | undefined) {
  checkKey(key)
  if (range) checkRange(range)
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
  const handle = await openFile(dir, `opening ${key}`, signal, () => open(join(dir.path, key), flags).catch(absent))
  if (!handle) return await missing(dir, key, signal)
  try {
    const found = await dir.calls.call(`looking at ${key}`, signal, () => handle.stat())
    if (!found.isFile()) return await missing(dir, key, signal)
    return await readRange(dir, key, handle, range ?? { start: 0, end: found.size }, signal)
  } finally {
    abandon(dir, handle)
  }
}

/** Not found, unless the whole directory is. */
async function missing(dir: Dir, key: string, signal: AbortSignal | undefined): Promise<never> {
  await checkIdentity(dir, signal)
  throw new AppError('NOT_FOUND', `${dir.path}: there is no ${key}`)
}

async function readRange(dir: Dir, key: string, handle: FileHandle, range: ByteRange, signal: AbortSignal | undefined) {
  // Not zeroed first: it is filled to its end or not given out.
  const bytes = new Uint8Array(Buffer.allocUnsafeSlow(range.end - range.start).buffer)
  for (let filled = 0; filled < bytes.length; ) {
    const slice = bytes.subarray(filled, filled + sliceSize)
    const { bytesRead } = await dir.calls.call(`reading ${key}`, signal, () =>
      handle.read(slice, 0, slice.length, range.start + filled),
    )
    if (bytesRead === 0) {
      const end = range.start + filled
      throw new AppError('CORRUPT', `${dir.path}: ${key} ends at ${end}, before ${range.end}; verify the repository`)
    }
    filled += bytesRead
  }
  return bytes
}

async function statObject(dir: Dir, key: string, signal: AbortSignal | undefined): Promise<StoredObject | undefined> {
  checkKey(key)
  const path = join(dir.path, key)
  const found = await dir.calls.call(`looking at ${key}`, signal, () => lstat(path).catch(absent))
  if (found?.isFile()) return { key, size: found.size, modifiedAt: found.mtime }
  await checkIdentity(dir, signal)
  return undefined
}

async function* list(dir: Dir, prefix: string, { after, signal }: ListOptions): AsyncGenerator<StoredObject> {
  checkPrefix(prefix)
  yield* listDirectory(dir.calls, dir.path, { prefix, after: after ?? '', signal })
  // A directory that has vanished looks like an empty one.
  await checkIdentity(dir, signal)
}

async function remove(dir: Dir, keys: readonly string[], signal: AbortSignal | undefined): Promise<void> {
  keys.forEach(checkKey)
  await checkIdentity(dir, signal)
  for (const key of keys) {
    await dir.calls.call(`deleting ${key}`, signal, () => unlink(join(dir.path, key)).catch(absent))
  }
}
