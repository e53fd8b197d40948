/**
 * Volumes that are images: a sparse file with ext4 or XFS in it, loop-mounted. Thin: blocks are taken from the storage when they
 * are written, and given back when they are freed (discard).
 * Facts: mke2fs(8), mkfs.xfs(8), resize2fs(8), xfs_growfs(8), tune2fs(8), xfs_admin(8); ext4(5) and xfs(5) mount options; the
 * magic numbers in ext4's and XFS' super blocks.
 */

import { chmod, chown, mkdir, open, readFile, realpath, rmdir, stat, truncate } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { Mutex } from 'async-mutex'
import type { Usage } from '../../src/driver.ts'
import { AppError, isAppError } from '../../src/errors.ts'
import type { Bytes } from '../../src/model.ts'
import { exec, run, toolError } from '../../src/system/exec.ts'
import { ignoring } from '../../src/system/files.ts'
import { isAttached, isMountOf, loopDeviceOf, refreshLoop } from '../../src/system/loop.ts'
import { mount, mountAt, unmount } from '../../src/system/mount.ts'
import { formatSize } from '../../src/units.ts'
import type { Attributes, ImageFileSystem } from './options.ts'

/** The smallest image that makes sense; mkfs.xfs refuses less than 300 MiB. */
const smallest: Readonly<Record<ImageFileSystem, Bytes>> = { ext4: 16 * 2 ** 20, xfs: 300 * 2 ** 20 }

const makers: Readonly<Record<ImageFileSystem, readonly string[]>> = {
  // No reserved blocks; the seed lets the UUID change later; a new sparse file is all zeros, so nothing needs to be discarded.
  ext4: [
    ...['mkfs.ext4', '-q', '-F', '-m', '0', '-O', 'metadata_csum,metadata_csum_seed'],
    ...['-E', 'lazy_itable_init=1,lazy_journal_init=1,nodiscard'],
  ],
  xfs: ['mkfs.xfs', '-q', '-f', '-K', '-m', 'reflink=1'],
}

/** @throws INVALID_ARGUMENT for a size that this file system cannot have */
export function ensureImageSize(fs: ImageFileSystem, size: Bytes): void {
  if (size >= smallest[fs]) return
  throw new AppError(
    'INVALID_ARGUMENT',
    `a volume of ${formatSize(size)} is too small: it is kept in an image with ${fs}, which needs ${formatSize(smallest[fs])}`,
  )
}

/** Makes the new file `image` a file system of `size`. A crash leaves a part of it. */
export async function makeImage(image: string, fs: ImageFileSystem, size: Bytes, signal: AbortSignal): Promise<void> {
  const file = await open(image, 'wx', 0o600)
  await file.truncate(roundUp(size)).finally(() => file.close())
  const [program, ...args] = makers[fs] as [string, ...string[]]
  await exec(program, [...args, image], { signal })
}

function roundUp(size: Bytes): Bytes {
  return Math.ceil(size / 4096) * 4096
}

/** Which file system is in an image. @throws CORRUPT when it is none that this driver makes */
export async function imageFileSystem(image: string): Promise<ImageFileSystem> {
  const file = await open(image, 'r')
  try {
    const { buffer } = await file.read(Buffer.alloc(2048), 0, 2048, 0)
    if (buffer.toString('latin1', 0, 4) === 'XFSB') return 'xfs'
    if (buffer.readUInt16LE(1024 + 56) === 0xef53) return 'ext4'
  } finally {
    await file.close()
  }
  throw new AppError('CORRUPT', `${image} holds neither ext4 nor XFS; its first blocks are damaged`)
}

/** How an image is mounted: a volume, or a snapshot, which must not be changed by so much as a replay of its log. */
export type ImageAccess = 'volume' | 'snapshot'

async function mountOptions(image: string, access: ImageAccess): Promise<string[]> {
  const fs = await imageFileSystem(image)
  // Copies of an XFS image share its UUID, and XFS refuses to mount the second one.
  const shared = fs === 'xfs' ? ['nouuid'] : []
  if (access === 'volume') return ['loop', 'discard', ...shared]
  return ['loop', 'ro', fs === 'xfs' ? 'norecovery' : 'noload', ...shared]
}

/**
 * Mounts an image at the directory `target`, which is made; a mount of it there is taken over.
 * @throws FAILED_PRECONDITION when something else is mounted there
 */
export async function mountImage(
  image: string,
  target: string,
  access: ImageAccess,
  signal?: AbortSignal,
): Promise<void> {
  await mkdir(target, { recursive: true, mode: 0o711 })
  const place = await realpath(target)
  const entry = mountAt(place)
  if (!entry) return mountRetrying(image, place, await mountOptions(image, access), signal)
  if (!isMountOf(entry, image)) {
    throw new AppError('FAILED_PRECONDITION', `${entry.source} is mounted at ${target}, not ${image}; unmount it`)
  }
}

/** A loop device that is just being taken down may vanish under a mount that reuses it: the second time it is gone. */
async function mountRetrying(image: string, target: string, options: string[], signal?: AbortSignal): Promise<void> {
  const reused = loopDeviceOf(image) !== undefined
  try {
    await mount(image, target, { options }, signal)
  } catch (error) {
    if (reused && isAppError(error, 'INTERNAL')) {
      await delay(100)
      return mount(image, target, { options }, signal)
    }
    await ignoring(rmdir(target), 'ENOTEMPTY', 'EBUSY')
    throw error
  }
}

/** Unmounts and removes `target`; not mounted is success. @throws IN_USE */
export async function unmountTarget(target: string, signal?: AbortSignal): Promise<void> {
  const place = await ignoring(realpath(target), 'ENOENT')
  if (place === undefined) return
  await unmount(place, signal)
  await ignoring(rmdir(target), 'ENOENT', 'ENOTEMPTY')
}

/**
 * Calls `use` with a mount of the image at `at`, made for it; when the image is mounted already, a second one of the same
 * living file system. A crash leaves the mount: it lies in a draft.
 */
export async function withImage<T>(image: string, at: string, use: (root: string) => Promise<T>): Promise<T> {
  await mountImage(image, at, 'volume')
  try {
    return await use(at)
  } finally {
    await unmountPatiently(at)
  }
}

/** Something on the host may look into a new mount for a moment. */
async function unmountPatiently(target: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await unmountTarget(target)
    } catch (error) {
      if (attempt === 5 || !isAppError(error, 'IN_USE')) throw error
      await delay(50 * attempt)
    }
  }
}

/**
 * Makes the image and its file system at least `size`, online when it is mounted; interrupted, the same call finishes it.
 * Nobody else may mount the image meanwhile (`alone`).
 * @param at where it may mount the image itself
 * @throws PERMISSION_DENIED when it is mounted, has ext4, and this process lacks CAP_SYS_RESOURCE
 */
export async function growImage(image: string, size: Bytes, at: string, signal: AbortSignal): Promise<void> {
  const fs = await imageFileSystem(image)
  const mounted = await isAttached(image)
  if (fs === 'ext4' && mounted) await ensureMayGrow()
  if ((await stat(image)).size < roundUp(size)) await truncate(image, roundUp(size))
  if (fs === 'ext4' && !mounted) return growUnmounted(image, signal)
  await withImage(image, at, async (root) => {
    await refreshLoop(image, signal)
    if (fs === 'xfs') await exec('xfs_growfs', ['-d', root], { signal, timeoutMs: growMs })
    else await exec('resize2fs', [loopDeviceOf(image) ?? image], { signal, timeoutMs: growMs })
  })
}

const growMs = 600_000

/** Number of the capability in capability(7). */
const sysResource = 24n

async function growUnmounted(image: string, signal: AbortSignal): Promise<void> {
  // resize2fs insists on a check. Exit code 1: it has corrected something.
  const check = await run('e2fsck', ['-f', '-p', image], { signal, timeoutMs: growMs })
  if ((check.exitCode ?? 8) > 1) throw toolError('e2fsck', check)
  await exec('resize2fs', [image], { signal, timeoutMs: growMs })
}

/** @throws PERMISSION_DENIED when the kernel would refuse to grow a mounted ext4 */
async function ensureMayGrow(): Promise<void> {
  const status = await readFile('/proc/self/status', 'utf8')
  const capabilities = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'}`)
  if ((capabilities >> sysResource) & 1n) return
  throw new AppError(
    'PERMISSION_DENIED',
    'a mounted ext4 cannot grow here: the daemon lacks CAP_SYS_RESOURCE; stop the containers that use the volume and ' +
      'resize it again, or use fs=xfs',
  )
}

const guards = new Map<string, Mutex>()

/** Keeps a mount of an image and an offline change of it apart; waits for its turn. */
export async function alone<T>(image: string, use: () => Promise<T>): Promise<T> {
  const guard = guards.get(image) ?? new Mutex()
  guards.set(image, guard)
  try {
    return await guard.runExclusive(use)
  } finally {
    if (!guard.isLocked()) guards.delete(image)
  }
}

/** Gives a copy of an image, which is clean, an identity of its own. */
export async function renewImageId(image: string, signal: AbortSignal): Promise<void> {
  const fs = await imageFileSystem(image)
  if (fs === 'xfs') await exec('xfs_admin', ['-U', 'generate', image], { signal })
  else await exec('tune2fs', ['-U', 'random', image], { signal })
}

/** O(1): what the image takes of the storage, and its limit. */
export async function imageUsage(image: string): Promise<Usage> {
  const { blocks, size } = await stat(image)
  return { used: blocks * 512, size }
}

/** Sets owner and permissions of a volume's root directory, as far as they are given. */
export async function applyAttributes(root: string, attributes: Attributes): Promise<void> {
  const { uid, gid, mode } = attributes
  // -1 leaves one as it is; chown clears the set-id bits, so it comes first.
  if (uid !== null || gid !== null) await chown(root, uid ?? -1, gid ?? -1)
  if (mode !== null) await chmod(root, mode)
}
