/** The three ways to keep a volume (directory, btrfs subvolume, image): which one it is to be, and making an empty one. */

import { access, chmod, mkdir, rmdir, statfs } from 'node:fs/promises'
import { AppError } from '../../src/errors.ts'
import type { Bytes, VolumeSpec } from '../../src/model.ts'
import { exec } from '../../src/system/exec.ts'
import { lstatOrNothing, syncFileSystem, syncPath } from '../../src/system/files.ts'
import { isArchived } from './archived.ts'
import { ensureImageSize, makeImage, withImage } from './images.ts'
import { subvolumeInode } from './layout.ts'
import type { ImageFileSystem, Kind, Limit, SnapshotKind, VfsOptions, VfsState } from './options.ts'
import { groupUsage, hasProject, limitByGroup, limitByProject } from './quota.ts'
import type { Storage } from './storage.ts'

/** statfs(2)'s type of btrfs. */
const btrfsMagic = 0x9123683e

/** How a volume is kept and what enforces its size, in bytes; decided before anything is made. */
export type Plan =
  | { readonly kind: 'directory'; readonly limit: 'project' | null; readonly size: Bytes | null }
  | { readonly kind: 'subvolume'; readonly limit: 'qgroup' | null; readonly size: Bytes | null }
  | { readonly kind: 'image'; readonly limit: 'image'; readonly size: Bytes; readonly fs: ImageFileSystem }

/** How a new volume is to be kept, by what the storage can do. @throws INVALID_ARGUMENT, NOT_SUPPORTED for its size */
export async function planVolume(storage: Storage, spec: VolumeSpec, options: VfsOptions): Promise<Plan> {
  const { size } = spec
  if (size === null) return { kind: storage.btrfs ? 'subvolume' : 'directory', limit: null, size }
  const limit = options.fs ? 'image' : await limitOf(storage)
  if (limit === 'project') return { kind: 'directory', limit, size }
  if (limit === 'qgroup') return { kind: 'subvolume', limit, size }
  const fs = options.fs ?? storage.imageFileSystem
  if (!(await hasLoop())) {
    throw new AppError(
      'NOT_SUPPORTED',
      'a size cannot be enforced on this node: it has neither quotas nor loop devices',
    )
  }
  ensureImageSize(fs, size)
  return { kind: 'image', limit, size, fs }
}

/** What enforces the size of a volume on this storage when the user does not ask for an image. */
export async function limitOf(storage: Storage): Promise<Limit> {
  if (storage.projectQuota) return 'project'
  return (await storage.groupQuota()) ? 'qgroup' : 'image'
}

/** True when images can be mounted. */
export async function hasLoop(): Promise<boolean> {
  return access('/dev/loop-control').then(
    () => true,
    () => false,
  )
}

/** Of a new volume's root directory, whatever the daemon's umask is. */
const rootMode = 0o755

/** Makes an empty place in a draft, its limit set. */
export async function makePlace(storage: Storage, draft: string, plan: Plan, signal: AbortSignal): Promise<void> {
  const data = `${draft}/data`
  switch (plan.kind) {
    case 'directory':
      await mkdir(data)
      await chmod(data, rootMode)
      if (plan.size !== null) await limitByProject(storage, data, plan.size, signal)
      return
    case 'subvolume':
      await exec('btrfs', ['subvolume', 'create', data], { signal })
      await chmod(data, rootMode)
      if (plan.size !== null) await limitByGroup(data, plan.size, signal)
      return
    case 'image':
      await makeImage(`${draft}/image`, plan.fs, plan.size, signal)
      await inPlace(draft, 'image', (root) => rmdir(`${root}/lost+found`).catch(ignoreMissing))
  }
}

/** XFS has no lost+found; in ext4 it would keep Docker from copying the image's files into the new volume. */
function ignoreMissing(error: NodeJS.ErrnoException): void {
  if (error.code !== 'ENOENT') throw error
}

/** Calls `use` with the root directory of a place in a draft, mounted for it when it is an image. */
export async function inPlace<T>(draft: string, kind: Kind, use: (root: string) => Promise<T>): Promise<T> {
  return kind === 'image' ? withImage(`${draft}/image`, `${draft}/live`, use) : use(`${draft}/data`)
}

/** Makes the content of a place in a draft survive a power cut. */
export async function syncPlace(draft: string, kind: Kind, signal: AbortSignal): Promise<void> {
  if (kind === 'image') await syncPath(`${draft}/image`)
  else await syncFileSystem(`${draft}/data`, signal)
}

/** How a finished folder is kept, as its content says; an adopted directory's has neither. */
export async function kindIn(folder: string): Promise<Kind | undefined> {
  if ((await lstatOrNothing(`${folder}/image`))?.isFile()) return 'image'
  const data = await lstatOrNothing(`${folder}/data`)
  if (!data?.isDirectory()) return undefined
  return data.ino === subvolumeInode && (await isBtrfs(folder)) ? 'subvolume' : 'directory'
}

/** How a finished snapshot in a folder is kept, as its content says. */
export async function snapshotKindIn(folder: string): Promise<SnapshotKind | undefined> {
  return (await isArchived(folder)) ? 'archive' : kindIn(folder)
}

async function isBtrfs(path: string): Promise<boolean> {
  return (await statfs(path)).type === btrfsMagic
}

/** The state of the volume in a folder of ours, or null when its content is not there. */
export async function stateIn(storage: Storage, folder: string): Promise<VfsState | null> {
  const kind = await kindIn(folder)
  return kind ? { kind, limit: await limitIn(storage, folder, kind), adopt: null, trashed: false } : null
}

async function limitIn(storage: Storage, folder: string, kind: Kind): Promise<Limit | null> {
  const data = `${folder}/data`
  if (kind === 'image') return 'image'
  if (kind === 'subvolume') {
    return (await storage.groupQuota()) && (await groupUsage(data)).size !== null ? 'qgroup' : null
  }
  return storage.projectQuota && (await hasProject(data)) ? 'project' : null
}
