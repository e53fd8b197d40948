/**
 * Snapshots: a copy beside the volume, made in the best way that the storage has. A btrfs subvolume and a frozen image are copied
 * as they are at one instant; a tree of plain files is copied file by file, and says so.
 */

import { mkdir, realpath } from 'node:fs/promises'
import type { DriverContext, SnapshotSpec, SnapshotTaken } from '../../src/driver.ts'
import { AppError } from '../../src/errors.ts'
import type { Snapshot, Volume } from '../../src/model.ts'
import { copyTree } from '../../src/system/copy-tree.ts'
import { exec } from '../../src/system/exec.ts'
import { ensureDirectory, syncFileSystem, syncPath } from '../../src/system/files.ts'
import { copyFrozen } from '../../src/system/freeze.ts'
import { isAttached } from '../../src/system/loop.ts'
import { locate, mountAt, mountReadOnly, remountReadOnly, usesOf } from '../../src/system/mount.ts'
import { buildFolder, discardDraft, draftOf, removeByDraft } from './drafts.ts'
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
import { type Kind, stateOf } from './options.ts'
import { kindIn } from './places.ts'
import type { Storage } from './storage.ts'
import { ensureNoneInside } from './subvolumes.ts'
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
  const { kind } = stateOf(volume)
  const folder = await volumeFolder(storage.layout, volume)
  await ensureDirectory(`${folder}/snapshots`, 0o700)
  const place = `${folder}/snapshots/${snapshot.name}`
  if ((await ownerOf(place)) !== snapshot.id) {
    await ensureFree(place, `snapshot ${volume.name}@${snapshot.name}`)
    await buildFolder(storage.layout, snapshot.id, place, async (draft) => {
      await takers[kind](storage, ctx, volume, snapshot, draft)
      ctx.signal.throwIfAborted()
    })
  }
  return takenIn(storage, place, kind, kind !== 'directory' || snapshot.frozen)
}

/** The finished snapshot in a folder of ours. */
export async function takenIn(storage: Storage, folder: string, kind: Kind, atomic: boolean): Promise<SnapshotTaken> {
  const own = kind === 'image' && !(await storage.reflink()) // A reflink shares what it holds with the volume.
  return { state: { kind }, atomic, used: own ? (await imageUsage(`${folder}/image`)).used : null }
}

type Taker = (storage: Storage, ctx: DriverContext, volume: Volume, spec: SnapshotSpec, draft: string) => Promise<void>

const takers: Readonly<Record<Kind, Taker>> = {
  subvolume: async (storage, ctx, volume, _spec, draft) => {
    const data = await treeOf(storage.layout, volume)
    await ensureNoneInside(data, volume, 'a snapshot leaves out', ctx.signal)
    await exec('btrfs', ['subvolume', 'snapshot', '-r', data, `${draft}/data`], { signal: ctx.signal })
  },
  directory: async (storage, ctx, volume, _spec, draft) => {
    const data = await treeOf(storage.layout, volume)
    await mkdir(`${draft}/data`)
    await copyTree(data, `${draft}/data`, `volume ${volume.name}`, ctx.signal)
    await syncFileSystem(`${draft}/data`, ctx.signal)
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
  },
}

/** As `SnapshotCapability.delete`. @throws IN_USE when the snapshot is mounted on this host */
export async function deleteSnapshot(storage: Storage, ctx: DriverContext, volume: Volume, snapshot: Snapshot) {
  const { layout } = storage
  await discardDraft(draftOf(layout, snapshot.id), ctx.signal)
  const folder = await findSnapshot(layout, volume, snapshot)
  if (!folder) return
  if (await isSnapshotUsed(folder)) {
    throw new AppError('IN_USE', `snapshot ${volume.name}@${snapshot.name} is mounted; unmount it first`)
  }
  await removeByDraft(layout, snapshot.id, folder, ctx.signal)
}

async function isSnapshotUsed(folder: string): Promise<boolean> {
  const kind = await kindIn(folder)
  if (kind === 'image') return isAttached(`${folder}/image`)
  return kind !== undefined && (await usesOf(await dataOf(folder), [])).length > 0
}

/** As `SnapshotCapability.mount`: trees by a read-only bind mount, images by a read-only loop device. */
export async function mountSnapshot(
  storage: Storage,
  ctx: DriverContext,
  volume: Volume,
  snapshot: Snapshot,
  target: string,
): Promise<void> {
  const folder = await snapshotFolder(storage.layout, volume, snapshot)
  if ((await kindIn(folder)) === 'image') await mountImage(await imageOf(folder), target, 'snapshot', ctx.signal)
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
  ctx: DriverContext,
  volume: Volume,
  snapshot: Snapshot,
  target: string,
): Promise<void> {
  await unmountImage(`${layout.volumes}/${volume.name}/snapshots/${snapshot.name}/image`, target, ctx.signal)
}
