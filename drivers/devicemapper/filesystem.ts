/**
 * The file systems on thin devices: making, mounting, growing. They are mounted for a moment by the driver itself, too.
 * Facts: mke2fs(8), mkfs.xfs(8), resize2fs(8), xfs_growfs(8), ext4(5), xfs(5); ext4's lost+found has inode 11 when mkfs made it.
 */

import { randomUUID } from 'node:crypto'
import { mkdir, realpath, rmdir } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { AppError, isAppError } from '../../src/errors.ts'
import type { Bytes } from '../../src/model.ts'
import { exec } from '../../src/system/exec.ts'
import { ignoring, lstatOrNothing } from '../../src/system/files.ts'
import { isWithin, mount, readMounts, unmount } from '../../src/system/mount.ts'
import type { FileSystem, Settings } from './options.ts'

const makers: Readonly<Record<FileSystem, readonly string[]>> = {
  // No reserved blocks. What was never written reads as zeros, so nothing needs to be discarded or initialized.
  ext4: [
    ...['mkfs.ext4', '-q', '-F', '-m', '0', '-O', 'metadata_csum,metadata_csum_seed'],
    ...['-E', 'lazy_itable_init=1,lazy_journal_init=1,nodiscard'],
  ],
  xfs: ['mkfs.xfs', '-q', '-f', '-K', '-m', 'reflink=1'],
}

/** Makes a device an empty file system. @throws INVALID_ARGUMENT for options that mkfs does not take */
export async function makeFileSystem(
  device: string,
  fs: FileSystem,
  settings: Settings,
  signal: AbortSignal,
): Promise<void> {
  const [program, ...args] = makers[fs] as [string, ...string[]]
  const more = fs === settings.fs ? settings.mkfsOptions : []
  await exec(program, [...args, ...more, device], { signal }).catch((error: unknown) => {
    if (more.length === 0 || !isAppError(error, 'INTERNAL')) throw error
    throw new AppError('INVALID_ARGUMENT', `${error.message}; see devicemapper.mkfs-options '${more.join(' ')}'`)
  })
}

/**
 * How a volume is mounted. Copies of an XFS share its UUID, and XFS refuses to mount the second one; ext4 would write zeros to what
 * reads as zeros, which takes room.
 */
export function volumeMountOptions(fs: FileSystem, settings: Settings): string[] {
  return ['discard', fs === 'xfs' ? 'nouuid' : 'noinit_itable', ...(fs === settings.fs ? settings.mountOptions : [])]
}

/** A snapshot is not changed by so much as a replay of its log; it was frozen, or at rest, when it was taken. */
export function snapshotMountOptions(fs: FileSystem): string[] {
  return ['ro', 'nosuid', 'nodev', ...(fs === 'xfs' ? ['norecovery', 'nouuid'] : ['noload'])]
}

const lostFoundInode = 11

/** Removes ext4's empty lost+found, which would keep Docker from copying the image's files into a new volume. */
export async function removeLostFound(root: string): Promise<void> {
  const path = `${root}/lost+found`
  if ((await lstatOrNothing(path))?.ino !== lostFoundInode) return
  await ignoring(rmdir(path), 'ENOTEMPTY', 'ENOENT', 'EROFS', 'EEXIST')
}

/** Calls `use` with a mount of an active device, made for it; a second one of the same living file system when it is mounted. */
export async function withMounted<T>(
  scratch: string,
  device: string,
  options: readonly string[],
  use: (root: string) => Promise<T>,
): Promise<T> {
  const target = `${scratch}/${randomUUID()}`
  await mkdir(target, { recursive: true, mode: 0o700 })
  try {
    await mount(device, await realpath(target), { options })
    return await use(target)
  } finally {
    await unmountPatiently(target)
  }
}

/** Something on the host may look into a new mount for a moment. */
async function unmountPatiently(target: string): Promise<void> {
  const place = await realpath(target)
  for (let attempt = 1; ; attempt++) {
    try {
      await unmount(place)
      return await rmdir(place)
    } catch (error) {
      if (attempt === 5 || !isAppError(error, 'IN_USE')) throw error
      await delay(50 * attempt)
    }
  }
}

/** Unmounts what an earlier life has left in `scratch`. */
export async function clearScratch(scratch: string): Promise<void> {
  const place = await ignoring(realpath(scratch), 'ENOENT')
  if (place === undefined) return
  const left = readMounts().filter(({ mountpoint }) => mountpoint !== place && isWithin(mountpoint, place))
  for (const { mountpoint } of left.reverse()) {
    await unmount(mountpoint)
    await ignoring(rmdir(mountpoint), 'ENOENT', 'ENOTEMPTY')
  }
}

/**
 * Makes a mounted file system as large as its device. The program that does it is never killed in the middle; interrupted, the
 * same call finishes it.
 * @throws NOT_SUPPORTED when this file system cannot grow that far
 */
export async function growFileSystem(fs: FileSystem, device: string, root: string, size: Bytes): Promise<void> {
  try {
    if (fs === 'xfs') await exec('xfs_growfs', ['-d', root], { supervised: true })
    else await exec('resize2fs', [device, `${size / 1024}K`], { supervised: true })
  } catch (error) {
    if (!(error instanceof AppError) || !/too large|too big|too many block group/i.test(error.message)) throw error
    throw new AppError(
      'NOT_SUPPORTED',
      `the file system on ${device} cannot grow that far (${error.message}); choose less, or create a volume of that size ` +
        'and copy the data',
    )
  }
}
