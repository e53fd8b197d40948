/**
 * What the file system below `path` can do, found out by trying, when it is first asked for, and remembered.
 * Facts: ioctl_ficlone(2), btrfs-qgroup(8), the `prjquota` mount option of ext4 and XFS.
 */

import { constants } from 'node:fs'
import { copyFile, rm, writeFile } from 'node:fs/promises'
import type { TreeArchive } from '../../src/driver.ts'
import { run } from '../../src/system/exec.ts'
import { fileSystemOf, type MountEntry } from '../../src/system/mount.ts'
import type { Layout } from './layout.ts'
import type { ImageFileSystem } from './options.ts'

/** The file system below `path`, and what it can do. */
export interface Storage {
  readonly layout: Layout
  /** The file system of an image when the user does not say. */
  readonly imageFileSystem: ImageFileSystem
  /** The mount that holds `path`. */
  readonly mount: MountEntry
  readonly btrfs: boolean
  /** ext4 or XFS, mounted with prjquota. */
  readonly projectQuota: boolean
  /** Where snapshots are kept that cannot share their data with the volume. */
  readonly archive: TreeArchive
  /** Two files can share their data. */
  reflink(): Promise<boolean>
  /** Files in `directory` (absolute, without symlinks) can share their data with copies in this storage. */
  sharesWith(directory: string): Promise<boolean>
  /** btrfs with quotas switched on; they never are by us, for that changes the whole file system. */
  groupQuota(): Promise<boolean>
}

/** Looks at the storage; what needs a trial is tried later. */
export function openStorage(layout: Layout, imageFileSystem: ImageFileSystem, archive: TreeArchive): Storage {
  const mount = fileSystemOf(layout.base)
  const btrfs = mount.fsType === 'btrfs'
  const reflink = once(() => tryReflink(layout))
  return {
    layout,
    imageFileSystem,
    archive,
    mount,
    btrfs,
    projectQuota: ['ext4', 'xfs'].includes(mount.fsType) && mount.superOptions.includes('prjquota'),
    reflink,
    sharesWith: async (directory) => fileSystemOf(directory).device === mount.device && reflink(),
    groupQuota: once(async () => btrfs && (await run('btrfs', ['qgroup', 'show', layout.base])).exitCode === 0),
  }
}

function once<T>(ask: () => Promise<T>): () => Promise<T> {
  let answer: Promise<T> | undefined
  return () => {
    answer ??= ask().catch((error: unknown) => {
      answer = undefined
      throw error
    })
    return answer
  }
}

async function tryReflink(layout: Layout): Promise<boolean> {
  const [from, to] = [`${layout.tmp}/.reflink-from`, `${layout.tmp}/.reflink-to`]
  try {
    await writeFile(from, Buffer.alloc(4096, 1))
    return await copyFile(from, to, constants.COPYFILE_FICLONE_FORCE).then(
      () => true,
      () => false,
    )
  } finally {
    await rm(from, { force: true })
    await rm(to, { force: true })
  }
}
