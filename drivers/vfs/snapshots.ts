/**
 * Snapshots, made in the best way that the storage has. A btrfs subvolume and a frozen image are copied as they are at one
 * instant; a tree of plain files is copied file by file, and says so: beside the volume where files can share their data, else
 * into the archive, which keeps what has changed.
 */

import { mkdir, realpath } from 'node:fs/promises'
import type { DriverContext, SnapshotSpec, SnapshotTaken, TreeSource } from '../../src/driver.ts'
import { AppError } from '../../src/errors.ts'
import type { Bytes, Snapshot, Volume } from '../../src/model.ts'
import { copyTree } from '../../src/system/copy-tree.ts'
import { exec } from '../../src/system/exec.ts'
import { ensureDirectory, lstatOrNothing, syncFileSystem, syncPath } from '../../src/system/files.ts'
import { copyFrozen } from '../../src/system/freeze.ts'
import { isAttached } from '../../src/system/loop.ts'
import { locate, mountAt, mountReadOnly, remountReadOnly, usesOf } from '../../src/system/mount.ts'
import { archiveError, markArchived } from './archived.ts'
import type { Cleaner } from './cleaner.ts'
import { buildFolder, removeByDraft, removeDraft } from './drafts.ts'
import { imageUsage, mountImage, unmountImage, withImage } from './images.ts'
import {
  dataOf,
  ensureFree,
  findSnapshot,
  imageOf,
  type Layout,
  ownerOf,
  snapshotFolder,
  volumeFolder,
} from './layout.ts'
import { type SnapshotKind, stateOf } from './options.ts'
import { snapshotKindIn } from './places.ts'
import type { Storage } from './storage.ts'
import { ensureNoneInside } from './subvolumes.ts'
import { dropView, inView, isViewUsed } from './views.ts'
import { treeOf } from './volumes.ts'

/** How long the writers of a mounted image may be kept waiting: a reflink takes milliseconds, a full copy what it takes. */
const freezeMs = 60_000

/** The same when the writers are paused already. */
const freezePausedMs = 3_600_000

/** As `SnapshotCapability.create`. */
export async function createSnapshot(
  storage: Storage,
  ctx: DriverContext,
  volume: Volume,
  snapshot: SnapshotSpec,
): Promise<SnapshotTaken> {
  const folder = await volumeFolder(storage.layout, volume)
  await ensureDirectory(`${folder}/snapshots`, 0o700)
  const place = `${folder}/snapshots/${snapshot.name}`
  let archived: SnapshotTaken | undefined
  if ((await ownerOf(place)) !== snapshot.id) {
    await ensureFree(place, `snapshot ${volume.name}@${snapshot.name}`)
    const kind = await kindFor(storage, volume)
    archived = await buildFolder(storage.layout, snapshot.id, place, async (draft) => {
      const added = await takers[kind](storage, ctx, volume, snapshot, draft)
      ctx.signal.throwIfAborted()
      return added === null ? undefined : archivedAs(added)
    })
  }
  const taken = archived ?? (await takenIn(storage, ctx, place, snapshot))
  if (!taken) throw new AppError('NOT_FOUND', `snapshot ${volume.name}@${snapshot.name} has lost its data`)
  return { ...taken, atomic: taken.atomic || snapshot.frozen }
}

/** As `SnapshotCapability.isCheap`. */
export async function isSnapshotCheap(storage: Storage, volume: Volume): Promise<boolean> {
  const kind = await kindFor(storage, volume)
  return kind === 'image' ? storage.reflink() : kind !== 'archive'
}

/** How a new snapshot of a volume is kept. */
async function kindFor(storage: Storage, volume: Volume): Promise<SnapshotKind> {
  const { kind } = stateOf(volume)
  if (kind !== 'directory') return kind
  return (await storage.sharesWith(await treeOf(storage.layout, volume))) ? kind : 'archive'
}

/**
 * The finished snapshot in a folder of ours, or null when its content is not there. A tree may have been copied while it was
 * written to: it is not said to be atomic.
 */
export async function takenIn(
  storage: Storage,
  ctx: DriverContext,
  folder: string,
  { id }: { readonly id: string },
): Promise<SnapshotTaken | null> {
  const kind = await snapshotKindIn(folder)
  if (!kind) return null
  if (kind === 'archive') {
    const copy = await storage.archive.find(ctx, id)
    return copy && archivedAs(copy.added)
  }
  const own = kind === 'image' && !(await storage.reflink()) // A reflink shares what it holds with the volume.
  const used = own ? (await imageUsage(`${folder}/image`)).used : null
  return { state: { kind }, atomic: kind !== 'directory', used }
}

function archivedAs(added: Bytes): SnapshotTaken {
  return { state: { kind: 'archive' }, atomic: false, used: added }
}

/** Fills a draft. @returns the bytes that this added to the archive; null when it is kept in the draft */
type Taker = (
  storage: Storage,
  ctx: DriverContext,
  volume: Volume,
  spec: SnapshotSpec,
  draft: string,
) => Promise<Bytes | null>

const takers: Readonly<Record<SnapshotKind, Taker>> = {
  subvolume: async (storage, ctx, volume, _spec, draft) => {
    const data = await treeOf(storage.layout, volume)
    await ensureNoneInside(data, volume, 'a snapshot leaves out', ctx.signal)
    await exec('btrfs', ['subvolume', 'snapshot', '-r', data, `${draft}/data`], { signal: ctx.signal })
    return null
  },
  directory: async (storage, ctx, volume, _spec, draft) => {
    const data = await treeOf(storage.layout, volume)
    await mkdir(`${draft}/data`)
    await copyTree(data, `${draft}/data`, `volume ${volume.name}`, ctx.signal)
    await syncFileSystem(`${draft}/data`, ctx.signal)
    return null
  },
  archive: async (storage, ctx, volume, { id, name }, draft) => {
    const data = await treeOf(storage.layout, volume)
    await markArchived(draft)
    try {
      return (await storage.archive.save(ctx, data, { id, group: volume.id })).added
    } catch (error) {
      ctx.signal.throwIfAborted()
      throw archiveError(error, `keep snapshot ${volume.name}@${name} in the archive`)
    }
  },
  image: async (storage, ctx, volume, spec, draft) => {
    const image = await imageOf(await volumeFolder(storage.layout, volume))
    const copy = `${draft}/image`
    await withImage(image, `${draft}/live`, (live) =>
      copyFrozen(live, image, copy, spec.frozen ? freezePausedMs : freezeMs, ctx.signal),
    )
    // XFS leaves its log to be replayed even when frozen; mounting the copy once does that and shows that it is sound.
    await withImage(copy, `${draft}/live`, async () => undefined)
    await syncPath(copy)
    return null
  },
}

/** As `SnapshotCapability.delete`. @throws IN_USE when the snapshot is mounted on this host */
export async function deleteSnapshot(storage: Storage, ctx: DriverContext, volume: Volume, snapshot: Snapshot) {
  const { layout } = storage
  await removeDraft(storage, ctx, snapshot.id)
  const folder = await findSnapshot(layout, volume, snapshot)
  if (!folder) return snapshot.state === null ? forgetUnfinished(storage, ctx, snapshot) : undefined
  if (await isSnapshotUsed(layout, folder, snapshot)) {
    throw new AppError('IN_USE', `snapshot ${volume.name}@${snapshot.name} is mounted; unmount it first`)
  }
  await removeByDraft(storage, ctx, snapshot.id, folder)
}

/** An aborted creation may have got as far as the archive. */
async function forgetUnfinished({ layout, archive }: Storage, ctx: DriverContext, { id }: Snapshot): Promise<void> {
  if (await lstatOrNothing(layout.repository)) await archive.delete(ctx, [id])
}

async function isSnapshotUsed(layout: Layout, folder: string, snapshot: Snapshot): Promise<boolean> {
  const kind = await snapshotKindIn(folder)
  if (kind === 'image') return isAttached(`${folder}/image`)
  if (kind === 'archive') return isViewUsed(layout, snapshot)
  return kind !== undefined && (await usesOf(await dataOf(folder), [])).length > 0
}

/**
 * What tells that a file has not changed since an earlier snapshot. A subvolume and a copy of blocks have the inodes and change times of
 * the volume; those of a copied tree are its own, and its modification times are what a program in the volume says.
 */
const comparisons: Readonly<Record<SnapshotKind, TreeSource['compare']>> = {
  directory: 'content',
  subvolume: 'inode',
  image: 'inode',
  archive: 'content',
}

/** As `SnapshotCapability.open`. */
export async function openSnapshot(
  storage: Storage,
  ctx: DriverContext,
  volume: Volume,
  snapshot: Snapshot,
  target: string,
): Promise<TreeSource> {
  await mountSnapshot(storage, ctx, volume, snapshot, target)
  const kind = await snapshotKindIn(await snapshotFolder(storage.layout, volume, snapshot))
  return { kind: 'tree', root: target, compare: comparisons[kind ?? 'archive'] }
}

/**
 * As `SnapshotCapability.mount`: trees by a read-only bind mount, images by a read-only loop device; from the archive they are
 * restored first, which takes as long and as much room as a copy.
 */
export async function mountSnapshot(
  storage: Storage,
  ctx: DriverContext,
  volume: Volume,
  snapshot: Snapshot,
  target: string,
): Promise<void> {
  const folder = await snapshotFolder(storage.layout, volume, snapshot)
  const kind = await snapshotKindIn(folder)
  if (kind === 'image') await mountImage(await imageOf(folder), target, 'snapshot', ctx.signal)
  else if (kind === 'archive') await inView(storage, ctx, snapshot, (data) => mountTree(data, target, ctx.signal))
  else await mountTree(await dataOf(folder), target, ctx.signal)
}

async function mountTree(data: string, target: string, signal: AbortSignal): Promise<void> {
  await mkdir(target, { recursive: true, mode: 0o700 })
  const place = await realpath(target)
  const entry = mountAt(place)
  if (!entry) return mountReadOnly(data, place, signal)
  const source = locate(data)
  if (entry.device !== source.device || entry.root !== source.root) {
    throw new AppError('FAILED_PRECONDITION', `${entry.source} is mounted at ${target}, not ${data}; unmount it`)
  }
  if (!entry.options.includes('ro')) await remountReadOnly(place, signal)
}

/** As `SnapshotCapability.unmount`. */
export async function unmountSnapshot(
  layout: Layout,
  cleaner: Cleaner,
  ctx: DriverContext,
  volume: Volume,
  snapshot: Snapshot,
  target: string,
): Promise<void> {
  await unmountImage(`${layout.volumes}/${volume.name}/snapshots/${snapshot.name}/image`, target, ctx.signal)
  await dropView(layout, cleaner, snapshot)
}
