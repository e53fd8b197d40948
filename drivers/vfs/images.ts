/**
 * Volumes that are images: a sparse file with ext4 or XFS in it, loop-mounted. Thin: blocks are taken from the storage when they
 * are written, and given back when they are freed (discard).
 * Facts: mke2fs(8), mkfs.xfs(8), resize2fs(8), xfs_growfs(8), tune2fs(8), xfs_admin(8); ext4(5) and xfs(5) mount options; the
 * magic numbers in ext4's and XFS' super blocks.
 */

import { chmod, chown, mkdir, open, readFile, realpath, rmdir, stat, statfs, truncate } from 'node:fs/promises'
import { dirname } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { Mutex } from 'async-mutex'
import type { Usage } from '../../src/driver.ts'
import { AppError, errno, isAppError } from '../../src/errors.ts'
import type { Bytes } from '../../src/model.ts'
import { exec, run, toolError } from '../../src/system/exec.ts'
import { ignoring } from '../../src/system/files.ts'
import { isAttached, isMountOf, loopDevicesOf, mountOf, refreshLoop } from '../../src/system/loop.ts'
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
  await (await open(image, 'wx', 0o600)).close()
  await setLength(image, roundUp(size))
  const [program, ...args] = makers[fs] as [string, ...string[]]
  await exec(program, [...args, image], { signal })
}

function roundUp(size: Bytes): Bytes {
  return Math.ceil(size / 4096) * 4096
}

/** Which file system is in an image. @throws CORRUPT when it is none that this driver makes */
export async function imageFileSystem(image: string): Promise<ImageFileSystem> {
  const block = await readStart(image)
  if (block.toString('latin1', 0, 4) === 'XFSB') return 'xfs'
  if (block.readUInt16LE(1024 + 56) === 0xef53) return 'ext4'
  throw new AppError('CORRUPT', `${image} holds neither ext4 nor XFS; its first blocks are damaged`)
}

/** What holds the super block; zeros where the file ends before. */
async function readStart(image: string): Promise<Buffer> {
  const file = await open(image, 'r')
  try {
    return (await file.read(Buffer.alloc(2048), 0, 2048, 0)).buffer
  } finally {
    await file.close()
  }
}

/** How an image is mounted: a volume, or a snapshot, which must not be changed by so much as a replay of its log. */
export type ImageAccess = 'volume' | 'snapshot'

async function mountOptions(image: string, access: ImageAccess): Promise<string[]> {
  const fs = await imageFileSystem(image)
  // Copies of an XFS image share its UUID, and XFS refuses to mount the second one.
  const shared = fs === 'xfs' ? ['nouuid'] : []
  if (access === 'volume') return ['loop', 'discard', ...shared]
  return ['loop', 'ro', 'nosuid', 'nodev', fs === 'xfs' ? 'norecovery' : 'noload', ...shared]
}

/**
 * Mounts an image at the directory `target`, which is made; a mount of it there is taken over.
 * @throws FAILED_PRECONDITION when something else is mounted there, ABORTED when another program attaches the image meanwhile
 */
export async function mountImage(
  image: string,
  target: string,
  access: ImageAccess,
  signal?: AbortSignal,
): Promise<void> {
  await mkdir(target, { recursive: true, mode: 0o700 })
  const place = await realpath(target)
  await inTurn(attaching, image, async () => {
    const entry = mountAt(place)
    if (!entry) return mountRetrying(image, place, await mountOptions(image, access), signal)
    if (!(await isMountOf(entry, image))) {
      throw new AppError('FAILED_PRECONDITION', `${entry.source} is mounted at ${target}, not ${image}; unmount it`)
    }
  })
}

/** A loop device that is just being taken down may vanish under a mount that reuses it: the second time it is gone. */
async function mountRetrying(image: string, target: string, options: string[], signal?: AbortSignal): Promise<void> {
  const reused = (await loopDevicesOf(image)).length > 0
  try {
    await mountOnce(image, target, options, signal)
  } catch (error) {
    if (reused && isAppError(error, 'INTERNAL')) {
      await delay(100)
      return mountOnce(image, target, options, signal)
    }
    await ignoring(rmdir(target), 'ENOTEMPTY', 'EBUSY')
    throw error
  }
}

/** Two loop devices of one image are two file systems that write over each other: better none. */
async function mountOnce(image: string, target: string, options: string[], signal?: AbortSignal): Promise<void> {
  await mount(image, target, { options }, signal)
  const devices = await loopDevicesOf(image)
  if (devices.length === 1) return
  await unmount(target)
  throw new AppError(
    'ABORTED',
    `${image} was attached to ${devices.join(' and ')} at the same time; see that no other program uses it, and try again`,
  )
}

/**
 * Unmounts an image and removes `target`; not mounted is success.
 * @param image as it was given to `mountImage`; it may be gone
 * @throws IN_USE
 */
export async function unmountImage(image: string, target: string, signal?: AbortSignal): Promise<void> {
  await inTurn(attaching, image, () => unmountTarget(target, signal))
}

/** Unmounts and removes `target`; not mounted is success. @throws IN_USE */
async function unmountTarget(target: string, signal?: AbortSignal): Promise<void> {
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
    await unmountPatiently(image, at)
  }
}

/** Something on the host may look into a new mount for a moment. */
async function unmountPatiently(image: string, target: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await unmountImage(image, target)
    } catch (error) {
      if (attempt === 5 || !isAppError(error, 'IN_USE')) throw error
      await delay(50 * attempt)
    }
  }
}

/**
 * Makes the image and its file system at least `size`, online when it is mounted; interrupted, the same call finishes it, and
 * one for less takes it back. The programs that do it are never killed in the middle: an abort is too late for them.
 * Failed, it leaves the image as it was. Nobody else may mount the image meanwhile (`alone`).
 * @param at where it may mount the image itself
 * @throws PERMISSION_DENIED when it is mounted, has ext4, and this process lacks CAP_SYS_RESOURCE
 * @throws NOT_SUPPORTED when this file system cannot grow that far, INVALID_ARGUMENT when the storage cannot hold such a file
 */
export async function growImage(image: string, size: Bytes, at: string, signal: AbortSignal): Promise<void> {
  const fs = await imageFileSystem(image)
  const mounted = await isAttached(image)
  if (fs === 'ext4' && mounted) await ensureMayGrow()
  signal.throwIfAborted()
  const [before, after] = [await imageSize(image, at), roundUp(size)]
  const { size: length } = await stat(image)
  // Longer than its file system is what an interrupted call for more has left.
  if (length < after || (!mounted && before < after)) await setLength(image, after)
  if (fs === 'ext4' && !mounted) return growUnmounted(image, before, at)
  await withImage(image, at, (root) => growMounted(image, fs, root, before))
}

async function growUnmounted(image: string, before: Bytes, at: string): Promise<void> {
  try {
    // resize2fs insists on a check. Exit code 1: it has corrected something.
    const check = await run('e2fsck', ['-f', '-p', image], { supervised: true })
    if ((check.exitCode ?? 8) > 1) throw toolError('e2fsck', check)
    await exec('resize2fs', [image], { supervised: true })
  } catch (error) {
    if ((await imageSize(image, at)) <= before) await truncate(image, before)
    throw growError(image, error)
  }
}

async function growMounted(image: string, fs: ImageFileSystem, root: string, before: Bytes): Promise<void> {
  const { blocks } = await statfs(root)
  try {
    await refreshLoop(image)
    if (fs === 'xfs') await exec('xfs_growfs', ['-d', root], { supervised: true })
    else await exec('resize2fs', [(await mountOf(image))?.source ?? image], { supervised: true })
  } catch (error) {
    if ((await statfs(root)).blocks === blocks) {
      await truncate(image, before)
      await refreshLoop(image)
    }
    throw growError(image, error)
  }
}

function growError(image: string, error: unknown): unknown {
  if (!(error instanceof AppError) || !/too large|too big|too many block group|File too large/i.test(error.message)) {
    return error
  }
  return new AppError(
    'NOT_SUPPORTED',
    `the file system in ${image} cannot grow that far (${error.message}); choose less, or create a volume of that size ` +
      'and copy the data',
  )
}

/** @throws INVALID_ARGUMENT when the storage cannot hold such a file */
async function setLength(image: string, length: Bytes): Promise<void> {
  await truncate(image, length).catch((error: unknown) => {
    if (!['EFBIG', 'EINVAL', 'ERR_OUT_OF_RANGE'].includes(errno(error) ?? '')) throw error
    throw new AppError(
      'INVALID_ARGUMENT',
      `the file system that holds ${dirname(image)} cannot hold an image of ${formatSize(length)}; choose less, or keep ` +
        'volumes on XFS or btrfs, whose files can be larger',
    )
  })
}

/**
 * How large the file system in an image is; of one that is mounted, how long its file is, for the super block in there may be old.
 * @param at where it may mount the image, to have its log replayed: growing may be the last thing in there
 * @throws CORRUPT
 */
export async function imageSize(image: string, at: string): Promise<Bytes> {
  const { size: length } = await stat(image)
  if (await isAttached(image)) return length
  if ((await sizeInSuperBlock(image)) === length) return length
  await withImage(image, at, async () => undefined)
  return Math.min(length, await sizeInSuperBlock(image))
}

async function sizeInSuperBlock(image: string): Promise<Bytes> {
  const block = await readStart(image)
  return roundUp((await imageFileSystem(image)) === 'xfs' ? xfsSize(block) : ext4Size(block))
}

function xfsSize(block: Buffer): Bytes {
  return block.readUInt32BE(4) * Number(block.readBigUInt64BE(8))
}

function ext4Size(block: Buffer): Bytes {
  const blocks = block.readUInt32LE(1024 + 0x150) * 2 ** 32 + block.readUInt32LE(1024 + 4)
  return blocks * 1024 * 2 ** block.readUInt32LE(1024 + 24)
}

/** Number of the capability in capability(7). */
const sysResource = 24n

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

/** One for each image that something is done to. */
type Turns = Map<string, Mutex>

const changing: Turns = new Map()

/**
 * `mount -o loop` looks for the image's loop device and, when there is none, makes one: two of them at once make two. So every
 * mount and unmount of an image has its turn, the driver's own short ones included. Taken inside of `alone`, never around it.
 */
const attaching: Turns = new Map()

/** Keeps the mount of a volume that is an image and an offline change of it apart; waits for its turn. */
export async function alone<T>(image: string, use: () => Promise<T>): Promise<T> {
  return inTurn(changing, image, use)
}

async function inTurn<T>(turns: Turns, image: string, use: () => Promise<T>): Promise<T> {
  const turn = turns.get(image) ?? new Mutex()
  turns.set(image, turn)
  try {
    return await turn.runExclusive(use)
  } finally {
    if (!turn.isLocked()) turns.delete(image)
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
