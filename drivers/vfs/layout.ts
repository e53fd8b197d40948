/**
 * Where everything is below the driver's `path`, and whose it is:
 *
 *     volumes/NAME/id             a symlink whose text is the volume's id: made in one step, so it is never half-written
 *     volumes/NAME/data           the volume: a directory or a btrfs subvolume; absent when a directory was adopted
 *     volumes/NAME/image          the volume, when it is an image
 *     volumes/NAME/snapshots/S/   likewise, a snapshot: `id` and `data` or `image`; or `archived`, an empty file: then its
 *                                 content is in the archive, under its id
 *     volumes/NAME/replaced       a symlink whose text is the id of the volume that has last replaced the content
 *     trash/NAME~ID/              a discarded volume
 *     tmp/ID/                     a draft: whatever is being made or removed; nothing in it is anybody's
 *     repository/                 the archive: snapshots of directories whose files cannot share their data with a copy
 *     prune-due                   there when the archive may hold what no snapshot needs
 *     views/ID/data               the content of an archived snapshot while it is mounted
 *
 * `path` itself and the directories in it are made for root alone: a set-uid file that a container has put into its volume must not
 * be run by whoever has an account on the host. Docker mounts as root and needs no more; where it remaps user namespaces, root in
 * a container is none on the host, and the administrator has to `chmod 0711` path and volumes, which stay so.
 *
 * Volumes and snapshots are complete or absent: they are built in tmp and renamed into place.
 */

import { AppError } from '../../src/errors.ts'
import type { Snapshot, Volume } from '../../src/model.ts'
import { lstatOrNothing, readlinkOrNothing, realDirectory } from '../../src/system/files.ts'

/** btrfs gives the root of every subvolume this inode number. */
export const subvolumeInode = 256

/** The driver's folders, absolute. */
export interface Layout {
  readonly base: string
  readonly volumes: string
  readonly trash: string
  readonly tmp: string
  readonly repository: string
  readonly pruneDue: string
  readonly views: string
}

/** The layout below `base`, which is absolute and without symlinks. */
export function layoutOf(base: string): Layout {
  const [volumes, trash, tmp] = [`${base}/volumes`, `${base}/trash`, `${base}/tmp`]
  return {
    ...{ base, volumes, trash, tmp },
    ...{ repository: `${base}/repository`, pruneDue: `${base}/prune-due`, views: `${base}/views` },
  }
}

/** Where a discarded volume lies. */
export function trashFolder(layout: Layout, volume: Volume): string {
  return `${layout.trash}/${volume.name}~${volume.id}`
}

/** The id that a folder belongs to; undefined when it is gone, or not a folder of ours. Symlinks are not followed. */
export async function ownerOf(folder: string): Promise<string | undefined> {
  const stats = await lstatOrNothing(folder)
  return stats?.isDirectory() ? readlinkOrNothing(`${folder}/id`) : undefined
}

/** The volume's folder, in use or in the trash; undefined when it is gone or another's stands there. */
export async function findVolume(layout: Layout, volume: Volume): Promise<string | undefined> {
  for (const folder of [`${layout.volumes}/${volume.name}`, trashFolder(layout, volume)]) {
    if ((await ownerOf(folder)) === volume.id) return folder
  }
  return undefined
}

/** @returns the volume's folder @throws NOT_FOUND when its data is gone */
export async function volumeFolder(layout: Layout, volume: Volume): Promise<string> {
  const folder = await findVolume(layout, volume)
  if (folder) return folder
  throw new AppError(
    'NOT_FOUND',
    `the data of volume ${volume.name} is not at ${layout.volumes}/${volume.name} any more`,
  )
}

/** The snapshot's folder; undefined when it is gone or another's stands there. */
export async function findSnapshot(layout: Layout, volume: Volume, snapshot: Snapshot): Promise<string | undefined> {
  const folder = await findVolume(layout, volume)
  if (!folder) return undefined
  if (!(await lstatOrNothing(`${folder}/snapshots`))?.isDirectory()) return undefined
  const place = `${folder}/snapshots/${snapshot.name}`
  return (await ownerOf(place)) === snapshot.id ? place : undefined
}

/** @returns the snapshot's folder @throws NOT_FOUND when its data is gone */
export async function snapshotFolder(layout: Layout, volume: Volume, snapshot: Snapshot): Promise<string> {
  const folder = await findSnapshot(layout, volume, snapshot)
  if (folder) return folder
  throw new AppError('NOT_FOUND', `the data of snapshot ${volume.name}@${snapshot.name} is gone from ${layout.volumes}`)
}

/** Makes sure that nothing stands at `path`. @throws ALREADY_EXISTS */
export async function ensureFree(path: string, subject: string): Promise<void> {
  if (!(await lstatOrNothing(path))) return
  throw new AppError(
    'ALREADY_EXISTS',
    `${path} is there already and is not ${subject}; move it away, or choose another name`,
  )
}

/** The data directory in a folder. @throws NOT_FOUND, FAILED_PRECONDITION when it is a symlink or a file */
export async function dataOf(folder: string): Promise<string> {
  return realDirectory(folder, 'data')
}

/** The image in a folder. @throws NOT_FOUND, FAILED_PRECONDITION when it is not a plain file */
export async function imageOf(folder: string): Promise<string> {
  const image = `${folder}/image`
  const stats = await lstatOrNothing(image)
  if (stats?.isFile()) return image
  if (!stats) throw new AppError('NOT_FOUND', `${image} is gone`)
  throw new AppError('FAILED_PRECONDITION', `${image} is not a plain file and is not followed; move it away`)
}
