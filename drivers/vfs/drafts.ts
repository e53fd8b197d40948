/**
 * Everything is built, and removed, in a draft: a folder in tmp that is nobody's. What is complete is renamed into place; what an
 * abort, an error or a crash leaves is thrown away.
 */

import { lstat, mkdir, rename, symlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { DriverContext } from '../../src/driver.ts'
import { AppError, errno, fromErrno } from '../../src/errors.ts'
import { run } from '../../src/system/exec.ts'
import {
  ignoring,
  lstatOrNothing,
  readdirOrNothing,
  removeEntry,
  removeTree,
  syncPath,
} from '../../src/system/files.ts'
import { thaw } from '../../src/system/freeze.ts'
import { isWithin, readMounts, unmount } from '../../src/system/mount.ts'
import { forgetCopies } from './archived.ts'
import { type Layout, subvolumeInode } from './layout.ts'
import type { Storage } from './storage.ts'
import { makeSubvolumesWritable } from './subvolumes.ts'

/** The draft of a volume or a snapshot. */
export function draftOf(layout: Layout, id: string): string {
  return `${layout.tmp}/${id}`
}

/**
 * Makes a folder with `id` in it, lets `fill` complete it, and renames it to `place`; then it survives a power cut.
 * Failed, aborted or crashed it leaves nothing at `place`. @throws ALREADY_EXISTS when something stands there
 */
export async function buildFolder<T>(
  layout: Layout,
  id: string,
  place: string,
  fill: (draft: string) => Promise<T>,
): Promise<T> {
  const draft = draftOf(layout, id)
  try {
    await makeDraft(draft)
    await symlink(id, `${draft}/id`)
    const result = await fill(draft)
    await rename(draft, place)
    await syncPath(dirname(place))
    return result
  } catch (error) {
    await discardDraft(draft)
    if (['ENOTEMPTY', 'EEXIST', 'ENOTDIR'].includes(errno(error) ?? '')) {
      throw new AppError('ALREADY_EXISTS', `${place} is there already; move it away, or choose another name`)
    }
    throw errno(error) === undefined ? error : fromErrno(error, `create ${place}`) // A signal's reason goes out as it is.
  }
}

/** Makes an empty draft, throwing away what an earlier attempt has left. */
export async function makeDraft(draft: string): Promise<void> {
  const made = await ignoring(
    mkdir(draft, { mode: 0o711 }).then(() => true),
    'EEXIST',
  )
  if (made) return
  await discardDraft(draft)
  await mkdir(draft, { mode: 0o711 })
}

/** Thaws, unmounts and removes a draft; gone is success. */
export async function discardDraft(draft: string, signal?: AbortSignal): Promise<void> {
  if (!(await lstatOrNothing(draft))) return
  await releaseMounts(draft)
  await removeFolder(draft, signal)
}

/** Thaws and unmounts everything below a draft. */
export async function releaseMounts(draft: string): Promise<void> {
  const mounts = readMounts().filter((entry) => isWithin(entry.mountpoint, draft))
  for (const { mountpoint } of mounts.reverse()) {
    await thaw(mountpoint)
    await unmount(mountpoint)
  }
}

/** Moves a folder out of sight and removes it. After a crash in the middle it is gone from its place, or whole. */
export async function removeByDraft(storage: Storage, ctx: DriverContext, id: string, folder: string): Promise<void> {
  const draft = draftOf(storage.layout, id)
  await removeDraft(storage, ctx, id)
  await rename(folder, draft)
  await syncPath(dirname(folder))
  await forgetCopies(storage.archive, ctx, draft)
  await removeFolder(draft, ctx.signal)
}

/** Finishes what `removeByDraft` had begun, and throws away what else may stand there; gone is success. */
export async function removeDraft(storage: Storage, ctx: DriverContext, id: string): Promise<void> {
  const draft = draftOf(storage.layout, id)
  await forgetCopies(storage.archive, ctx, draft)
  await discardDraft(draft, ctx.signal)
}

/** Removes a folder with all that is in it: volume, snapshots, leftovers. An empty volume costs no program. */
export async function removeFolder(folder: string, signal?: AbortSignal): Promise<void> {
  // What removeEntry leaves is a directory, never a symlink: it may be looked into.
  if (await removeEntry(folder)) return
  for (const name of await readdirOrNothing(folder)) {
    if (name === 'snapshots') await removeSnapshots(`${folder}/snapshots`, signal)
    else await removeContent(`${folder}/${name}`, signal)
  }
  if (!(await removeEntry(folder))) await removeTree(folder, signal)
}

/** Removes subvolumes, which removeTree cannot where they are read-only. */
async function removeSnapshots(snapshots: string, signal?: AbortSignal): Promise<void> {
  if (await removeEntry(snapshots)) return
  for (const name of await readdirOrNothing(snapshots)) {
    const folder = `${snapshots}/${name}`
    if (await removeEntry(folder)) continue
    for (const part of await readdirOrNothing(folder)) await removeContent(`${folder}/${part}`, signal)
    await removeEntry(folder)
  }
  await removeEntry(snapshots)
}

/** Removes a file, a symlink, an empty directory or a subvolume. @returns false for what removeTree has to remove */
async function removeContent(path: string, signal?: AbortSignal): Promise<boolean> {
  if (await removeEntry(path)) return true
  const stats = await lstat(path)
  if (stats.ino !== subvolumeInode) return false
  const result = await run('btrfs', ['subvolume', 'delete', path], { signal })
  if (result.exitCode === 0) return true
  await makeSubvolumesWritable(path, signal)
  return false
}
