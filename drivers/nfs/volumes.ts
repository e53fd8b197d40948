/**
 * The driver's calls as they are made in the process of an export: vfs does the work, by the view that suits the
 * volume; around it nodes are kept apart, told, and looked after. Mounting is not vfs's: containers get a bind mount of
 * the data mount.
 */

import { constants } from 'node:fs'
import { mkdir, open, rename } from 'node:fs/promises'
import type { DriverContext, SnapshotSpec, TreeSource, Usage } from '../../src/driver.ts'
import { AppError } from '../../src/errors.ts'
import type { Bytes, Snapshot, Volume, VolumeSpec } from '../../src/model.ts'
import { ignoring, lstatOrNothing, readdirOrNothing, syncFileSystem } from '../../src/system/files.ts'
import { mountAt } from '../../src/system/mount.ts'
import { adoptionsOf } from '../vfs/adoptions.ts'
import { createClone, revertVolume } from '../vfs/copies.ts'
import { ownerOf, snapshotFolder, trashFolder } from '../vfs/layout.ts'
import type { VfsState } from '../vfs/options.ts'
import { replaceVolume } from '../vfs/replace.ts'
import { createSnapshot, deleteSnapshot, mountSnapshot, openSnapshot, unmountSnapshot } from '../vfs/snapshots.ts'
import { findStandingSnapshot, findStandingVolume } from '../vfs/standing.ts'
import { discardVolume, restoreVolume } from '../vfs/trash.ts'
import {
  createVolume,
  deleteVolume,
  mountVolume,
  resizeVolume,
  treeOf,
  trimVolume,
  unmountVolume,
  usageOf,
} from '../vfs/volumes.ts'
import { letGo, makeOurs, takeImageRight, withImageRight } from './image-right.ts'
import { isSameDirectory, type Mounted, ownerKey } from './mounted.ts'
import { bind, placeOf, unbind } from './mounting.ts'
import { parseOptions } from './options.ts'
import { keyOf, readAll, readVolume, trashKeyOf, writeRecords } from './records.ts'
import type { Room, Share } from './share.ts'
import { fromVfs, isImage, isSingle, type NfsState, toVfs, toVfsSpec } from './states.ts'
import { turnKey } from './turns.ts'

/** What the calls work on. */
export interface Desk {
  readonly share: Share
  readonly mounted: Mounted
}

/**
 * The view that a volume is worked on by. The client remembers names that other nodes have changed, but by the data
 * mount only.
 */
async function roomOf({ share }: Desk, volume: Pick<Volume, 'name' | 'state' | 'size'>): Promise<Room> {
  if (!isImage(volume)) return share.work
  const { data } = share
  const folders = [`${data.layout.volumes}/${volume.name}`, data.layout.trash]
  for (const folder of folders) await ignoring(refresh(data.root, `${folder.slice(data.root.length)}/*`), 'ENOENT')
  return data
}

/** Runs a change of a volume while no other node changes it. */
function inTurn<T>({ share }: Desk, ctx: DriverContext, key: string, work: () => Promise<T>): Promise<T> {
  return share.turns.with(key, ctx.signal, work)
}

/** No name and no id of a volume. */
function swapKey({ id }: Volume): string {
  return `~swap.${id}`
}

/** Of the live volume its name; of one in the trash its id. */
function turnOf({ id, name, state }: Volume): string {
  return state?.trashed === true ? id : name
}

async function requireUnused({ share, mounted }: Desk, volume: Volume): Promise<void> {
  mounted.requireUnmounted(`volume ${volume.name}`, volume.id)
  await share.nodes.requireUnused(`volume ${volume.name}`, volume.id)
}

/** Other volumes that are directories of the export: which ones only the records on the share say. */
async function adoptions(desk: Desk, room: Room, isNeeded: boolean) {
  const all = isNeeded ? [...(await readAll(desk.share.work.layout)).values()] : []
  return adoptionsOf(all.flatMap(({ volume }) => (volume.damage === undefined ? [toVfs(volume, room.root)] : [])))
}

/** As `Driver.createVolume`. */
export async function create(desk: Desk, ctx: DriverContext, spec: VolumeSpec): Promise<NfsState> {
  const { subdir } = parseOptions(spec)
  const room = await roomOf(desk, { ...spec, state: null })
  return inTurn(desk, ctx, spec.name, async () => {
    await setAside(desk, spec)
    const others = await adoptions(desk, room, subdir !== null)
    if (subdir !== null) await makeSubdir(room.root, subdir)
    return fromVfs(await createVolume(room.storage, others, ctx, toVfsSpec(spec, room.root)), room.root)
  })
}

/**
 * What stands at the place and was never published is what a node has left half-made, when this call is part of a
 * service's whole turn: nobody is at it. It is moved into the trash, where doctor finds it; its node, when it comes
 * back, removes it.
 */
async function setAside({ share }: Desk, { id, name }: VolumeSpec): Promise<void> {
  if (!share.turns.isHeld(name)) return
  const { layout } = share.work
  const folder = `${layout.volumes}/${name}`
  const owner = await ownerOf(folder)
  if (owner === undefined || owner === id || (await lstatOrNothing(`${folder}/record.json`))) return
  await rename(folder, `${layout.trash}/${name}~${owner}`)
}

/** Makes the directories on the way, following no symlink. @throws INVALID_ARGUMENT */
async function makeSubdir(root: string, subdir: string): Promise<void> {
  let path = root
  for (const part of subdir.split('/')) {
    path = `${path}/${part}`
    await ignoring(mkdir(path, { mode: 0o755 }), 'EEXIST')
    if ((await lstatOrNothing(path))?.isDirectory()) continue
    throw new AppError('INVALID_ARGUMENT', `subdir=${subdir}: ${part} is there and is no directory; choose another one`)
  }
}

/** As `Driver.findVolume`. */
export async function find(desk: Desk, _ctx: DriverContext, volume: Volume): Promise<NfsState | null> {
  const room = await roomOf(desk, volume)
  const state = await findStandingVolume(room.storage, adoptionsOf([]), toVfs(volume, room.root))
  return state && fromVfs(state, room.root)
}

/** As `Driver.deleteVolume`. */
export async function remove(desk: Desk, ctx: DriverContext, volume: Volume): Promise<void> {
  const room = await roomOf(desk, volume)
  await inTurn(desk, ctx, turnOf(volume), async () => {
    if (volume.state !== null) await requireUnused(desk, volume)
    await deleteVolume(room.storage, adoptionsOf([]), ctx, toVfs(volume, room.root))
    await Promise.all([ownerKey(volume.id), turnKey(swapKey(volume))].map((key) => desk.share.claims.forget(key)))
    await desk.share.own.tell(keyOf(volume.name), trashKeyOf(volume))
  })
}

/** As `Driver.mount`. */
export async function mount(desk: Desk, ctx: DriverContext, volume: Volume, target: string): Promise<void> {
  const { share, mounted } = desk
  const place = await placeOf(target)
  const room = await roomOf(desk, volume)
  const claim = isImage(volume)
    ? await takeImageRight(desk, ctx, volume)
    : isSingle(volume)
      ? await mounted.claim(volume)
      : null
  const show = () =>
    room === share.data
      ? mountVolume(room.layout, ctx, toVfs(volume, room.root), target)
      : mountTree(share, volume, place)
  const confirm = async () => {
    await Promise.all([share.turns.requireFree(swapKey(volume), volume.name), requireLive(share.work, volume)])
    if (room !== share.data) await requireShown(share, volume, place)
  }
  await mounted.show(volume.id, { place, name: volume.name, claim }, show, confirm)
}

/** Another node may have put it into the trash. @throws NOT_FOUND */
async function requireLive({ layout }: Room, { id, name }: Volume): Promise<void> {
  if ((await ownerOf(`${layout.volumes}/${name}`)) === id) return
  throw new AppError('NOT_FOUND', `the data of volume ${name} is not at ${layout.volumes}/${name} any more`)
}

/** Shows the directory of a volume by the data mount. What is there already is taken over when it is that directory. */
async function mountTree({ work, data }: Share, volume: Volume, place: string): Promise<void> {
  const original = await treeOf(work.layout, toVfs(volume, work.root))
  const device = mountAt(data.root)?.device ?? ''
  if (mountAt(place)) {
    if (await isSameDirectory(place, original, device)) return
    await removeOutdated(place, device, volume)
  }
  const path = original.slice(work.root.length)
  await refresh(data.root, path)
  await bind(data.root + path, place)
}

/** What is mounted may have been replaced meanwhile. @throws ABORTED */
async function requireShown({ work, data }: Share, volume: Volume, place: string): Promise<void> {
  const original = await treeOf(work.layout, toVfs(volume, work.root))
  if (await isSameDirectory(place, original, mountAt(data.root)?.device ?? '')) return
  await unbind(place)
  throw new AppError('ABORTED', `volume ${volume.name} was replaced by another node while it was mounted; try again`)
}

/**
 * Takes away a mount of ours that shows what a node has replaced.
 * @throws FAILED_PRECONDITION when it is somebody else's
 */
async function removeOutdated(place: string, device: string, volume: Volume): Promise<void> {
  const entry = mountAt(place)
  if (entry?.device === device) return unbind(place)
  throw new AppError(
    'FAILED_PRECONDITION',
    `${entry?.source} is mounted at ${place}, not volume ${volume.name}; unmount it`,
  )
}

/**
 * The client believes for a minute what it has seen of a directory, but not when that is opened: other nodes rename.
 */
async function refresh(root: string, path: string): Promise<void> {
  const parents = path.split('/').slice(1, -1)
  let directory = root
  for (const name of ['', ...parents]) {
    if (name !== '') directory = `${directory}/${name}`
    await (await open(directory, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW)).close()
  }
}

/** As `Driver.unmount`. */
export async function unmount(desk: Desk, ctx: DriverContext, volume: Volume, target: string): Promise<void> {
  if (isImage(volume)) {
    const { data } = desk.share
    await unmountVolume(data.layout, ctx, toVfs(volume, data.root), target)
  }
  const after = async () => {
    if (isImage(volume)) await letGo(desk, volume).catch(() => undefined)
  }
  await desk.mounted.hide(volume.id, await placeOf(target), after)
}

/**
 * As `SharedCapability.takeover`; the image of the volume is made this node's at once, which may take as long as a
 * copy.
 */
export async function takeover(desk: Desk, ctx: DriverContext, volume: Volume, force: boolean) {
  const taken = await desk.mounted.takeover(volume, force)
  if (isImage(volume)) await makeOurs(desk, ctx, volume)
  return taken
}

/** As `Driver.usage`. */
export async function usage(desk: Desk, ctx: DriverContext, volume: Volume, exact: boolean): Promise<Usage> {
  const room = await roomOf(desk, volume)
  return usageOf(room.layout, ctx, toVfs(volume, room.root), exact)
}

/** As `TrashCapability.discard`. */
export async function discard(desk: Desk, ctx: DriverContext, volume: Volume): Promise<NfsState> {
  const room = await roomOf(desk, volume)
  const own = toVfs(volume, room.root)
  return inTurn(desk, ctx, volume.name, async () => {
    if ((await ownerOf(trashFolder(room.layout, volume))) !== volume.id) await requireUnused(desk, volume)
    const state = await discardVolume(room.layout, adoptionsOf([]), own)
    try {
      await requireUnused(desk, volume) // Who mounts says so before it looks for the volume.
    } catch (error) {
      await restoreVolume(room.layout, adoptionsOf([]), own, volume.name)
      throw error
    }
    await desk.share.own.tell(keyOf(volume.name), trashKeyOf(volume))
    return fromVfs(state, room.root)
  })
}

/** As `TrashCapability.restore`. */
export async function restore(desk: Desk, ctx: DriverContext, volume: Volume, name: string): Promise<NfsState> {
  const room = await roomOf(desk, volume)
  const own = toVfs(volume, room.root)
  return inTurn(desk, ctx, volume.id, () =>
    inTurn(desk, ctx, name, async () => {
      const others = await adoptions(desk, room, typeof own.options.adopt === 'string')
      const state = await restoreVolume(room.layout, others, own, name)
      await desk.share.own.tell(trashKeyOf(volume), keyOf(name))
      return fromVfs(state, room.root)
    }),
  )
}

/** As `SnapshotCapability.create`. */
export async function takeSnapshot(desk: Desk, ctx: DriverContext, volume: Volume, snapshot: SnapshotSpec) {
  const room = await roomOf(desk, volume)
  return inTurn(desk, ctx, volume.name, async () => {
    // What containers of this node have written may not have reached the server yet.
    const place = desk.mounted.placeOf(volume.id)
    if (place !== undefined && room === desk.share.work) await syncFileSystem(place, ctx.signal)
    return withImageRight(desk, ctx, volume, () =>
      createSnapshot(room.storage, ctx, toVfs(volume, room.root), snapshot),
    )
  })
}

/** As `SnapshotCapability.find`. */
export async function findSnapshot(desk: Desk, ctx: DriverContext, volume: Volume, snapshot: Snapshot) {
  const room = await roomOf(desk, volume)
  return findStandingSnapshot(room.storage, ctx, toVfs(volume, room.root), snapshot)
}

/** As `SnapshotCapability.delete`. */
export async function dropSnapshot(desk: Desk, ctx: DriverContext, volume: Volume, snapshot: Snapshot): Promise<void> {
  const room = await roomOf(desk, volume)
  await inTurn(desk, ctx, turnOf(volume), async () => {
    await desk.share.nodes.requireUnused(`snapshot ${volume.name}@${snapshot.name}`, snapshot.id)
    await deleteSnapshot(room.storage, ctx, toVfs(volume, room.root), snapshot)
    await desk.share.own.tell(keyOf(volume.name))
  })
}

/** As `SnapshotCapability.mount`. */
export async function showSnapshot(desk: Desk, ctx: DriverContext, volume: Volume, snapshot: Snapshot, target: string) {
  const room = await roomOf(desk, volume)
  const shown = { place: await placeOf(target), name: `${volume.name}@${snapshot.name}`, claim: null }
  const show = () => mountSnapshot(room.storage, ctx, toVfs(volume, room.root), snapshot, target)
  const confirm = async () => {
    await snapshotFolder(room.layout, volume, snapshot)
  }
  await desk.mounted.show(snapshot.id, shown, show, confirm)
}

/** As `SnapshotCapability.open`. */
export async function openForBackup(
  desk: Desk,
  ctx: DriverContext,
  volume: Volume,
  snapshot: Snapshot,
  target: string,
): Promise<TreeSource> {
  await showSnapshot(desk, ctx, volume, snapshot, target)
  const room = await roomOf(desk, volume)
  return openSnapshot(room.storage, ctx, toVfs(volume, room.root), snapshot, target)
}

/** As `SnapshotCapability.unmount`. */
export async function hideSnapshot(desk: Desk, ctx: DriverContext, volume: Volume, snapshot: Snapshot, target: string) {
  const room = await roomOf(desk, volume)
  if (room === desk.share.data) await unmountSnapshot(room.layout, room.cleaner, ctx, volume, snapshot, target)
  await desk.mounted.hide(snapshot.id, await placeOf(target))
}

/** Only where the server shares the data of two files: otherwise a snapshot is a copy. */
export function isCheap({ share }: Desk): Promise<boolean> {
  return share.work.storage.reflink()
}

/** As `CloneCapability.create`. */
export async function clone(desk: Desk, ctx: DriverContext, spec: VolumeSpec, source: Volume, snapshot: Snapshot) {
  const { subdir } = parseOptions({ ...spec, size: null })
  if (subdir !== null)
    throw new AppError('INVALID_ARGUMENT', `volume ${spec.name} cannot both be a subdir and begin as a snapshot`)
  const room = isImage(source) || spec.size !== null ? desk.share.data : desk.share.work
  if (room === desk.share.data && spec.options.access === 'multi') refuseMulti(spec)
  return inTurn(desk, ctx, spec.name, async () => {
    await setAside(desk, spec)
    const state = await createClone(room.storage, ctx, toVfsSpec(spec, room.root), toVfs(source, room.root), snapshot)
    return fromVfs(state, room.root)
  })
}

function refuseMulti({ name }: VolumeSpec): never {
  throw new AppError(
    'NOT_SUPPORTED',
    `volume ${name} would be kept in an image, which one node at a time can mount; leave access=multi out`,
  )
}

/** As `RevertCapability.revert`. */
export async function revert(desk: Desk, ctx: DriverContext, volume: Volume, snapshot: Snapshot): Promise<NfsState> {
  const { storage, cleaner, root } = await roomOf(desk, volume)
  return inTurn(desk, ctx, volume.name, async () => {
    const reverted = () => revertVolume(storage, cleaner, ctx, toVfs(volume, root), snapshot)
    return fromVfs(await swapping(desk, ctx, volume, reverted), root)
  })
}

/** As `ReplaceCapability.replace`. */
export async function replace(desk: Desk, ctx: DriverContext, volume: Volume, from: Volume): Promise<NfsState> {
  const { storage, cleaner, root } = await roomOf(desk, volume)
  return inTurn(desk, ctx, volume.name, async () => {
    const replaced = () => replaceVolume(storage, cleaner, ctx, toVfs(volume, root), toVfs(from, root))
    return fromVfs(await swapping(desk, ctx, volume, replaced), root)
  })
}

/**
 * Exchanges the content of a volume that is mounted nowhere: who mounts it says so, and then looks whether this is
 * going on.
 */
function swapping<T>(desk: Desk, ctx: DriverContext, volume: Volume, work: () => Promise<T>): Promise<T> {
  return inTurn(desk, ctx, swapKey(volume), async () => {
    await requireUnused(desk, volume)
    return withImageRight(desk, ctx, volume, work)
  })
}

/** As `ResizeCapability.resize`. */
export async function resize(desk: Desk, ctx: DriverContext, volume: Volume, size: Bytes): Promise<NfsState> {
  const { storage, root } = await roomOf(desk, volume)
  return inTurn(desk, ctx, volume.name, async () => {
    const resized = () => resizeVolume(storage, ctx, toVfs(volume, root), size)
    return fromVfs((await withImageRight(desk, ctx, volume, resized)) as VfsState, root)
  })
}

/** As `TrimCapability.trim`. */
export async function trim(desk: Desk, ctx: DriverContext, volume: Volume): Promise<Bytes> {
  const room = await roomOf(desk, volume)
  return inTurn(desk, ctx, volume.name, () =>
    withImageRight(desk, ctx, volume, () => trimVolume(room.layout, ctx, toVfs(volume, room.root))),
  )
}

/** As `SharedCapability.publish`. */
export async function publish(desk: Desk, volume: Volume, snapshots: readonly Snapshot[]): Promise<void> {
  await desk.share.own.tell(await writeRecords(desk.share.work.layout, volume, snapshots))
}

/** The published volume of a name, or in the trash under an id. */
export async function look({ share }: Desk, key: string) {
  const { layout } = share.work
  const live = await readVolume(layout, keyOf(key))
  if (live || !/^[0-9a-f-]{36}$/.test(key)) return live
  const trashed = (await readdirOrNothing(layout.trash)).find((name) => name.endsWith(`~${key}`))
  return trashed === undefined ? null : readVolume(layout, `trash/${trashed}`)
}
