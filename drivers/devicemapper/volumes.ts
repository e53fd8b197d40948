/** Volumes: making, deleting, mounting, measuring, growing, trimming. */

import { mkdir, realpath, rmdir } from 'node:fs/promises'
import type { DriverContext, Usage } from '../../src/driver.ts'
import { AppError, isAppError } from '../../src/errors.ts'
import type { Bytes, Volume, VolumeSpec } from '../../src/model.ts'
import { applyAttributes, hasAttributes } from '../../src/system/attributes.ts'
import { exec } from '../../src/system/exec.ts'
import { ignoring } from '../../src/system/files.ts'
import { type MountEntry, mount, mountAt, readMounts, unmount } from '../../src/system/mount.ts'
import { readSuperBlock } from '../../src/system/superblock.ts'
import { formatSize } from '../../src/units.ts'
import {
  activate,
  deactivate,
  deactivateWhenUnused,
  findDevice,
  isDeviceOf,
  mappedBytes,
  nodeOf,
  resizeDevice,
  type Subject,
  type Thin,
  withLabelled,
} from './devices.ts'
import { message } from './dmsetup.ts'
import { growFileSystem, makeFileSystem, removeLostFound, volumeMountOptions, withMounted } from './filesystem.ts'
import { writeLabel } from './label.ts'
import { drop, type Found, findMade, isLeftover, lookAt, ownCandidates, removeLeftovers } from './made.ts'
import { checkSize, type FileSystem, parseOptions, stateOf, type VolumeState } from './options.ts'
import { ensureRoom, gone, type Storage, snapshotSubject, thinOf } from './storage.ts'
import { deviceOf } from './sysfs.ts'

/** What a volume is made with. */
export interface Making {
  readonly spec: VolumeSpec
  readonly size: Bytes
  readonly fs: FileSystem | null
  readonly generation?: number
  /** Makes the thin device of this number. @throws ALREADY_EXISTS */
  readonly make: (thin: number) => Promise<void>
  /** Fills it. */
  readonly fill: (device: string, state: VolumeState) => Promise<void>
}

/** As `Driver.createVolume`. */
export async function createVolume(storage: Storage, ctx: DriverContext, spec: VolumeSpec): Promise<VolumeState> {
  const { settings, pool } = storage
  const options = parseOptions(spec)
  const fs = options.fs ?? settings.fs
  const size = checkSize(fs, spec.size ?? settings.defaultSize)
  return makeVolume(storage, ctx, {
    spec,
    size,
    fs,
    make: (thin) => message(pool.name, `create_thin ${thin}`),
    fill: async (device) => {
      await makeFileSystem(device, fs, settings, ctx.signal)
      if (hasAttributes(options)) {
        await withMounted(storage.scratch, device, volumeMountOptions(fs, settings), (root) =>
          applyAttributes(root, options),
        )
      }
    },
  })
}

/** Makes a volume's thin device and fills it; one that is there is success. Failed, it leaves nothing. */
export async function makeVolume(storage: Storage, ctx: DriverContext, making: Making): Promise<VolumeState> {
  const { registry, turns, makers } = storage
  const { spec } = making
  return turns.with(spec.id, ctx.signal, async () => {
    registry.ensureNameFree(spec)
    if (registry.hasVolume(spec.id)) {
      const found = await findMade(storage, spec.id, ctx.signal)
      if (found?.label?.complete) return stateFound(found)
    }
    await ensureRoom(storage, making.size, spec.id)
    return makers.with(ctx.signal, () => makeAt(storage, ctx, making))
  })
}

async function makeAt(storage: Storage, ctx: DriverContext, making: Making): Promise<VolumeState> {
  const { spec, size, fs } = making
  const { registry } = storage
  for (const thin of ownCandidates(storage, spec.id)) {
    registry.claim(thin, spec.id)
    const state: VolumeState = { thin, size, fs, generation: 0, trashed: false }
    const there = await makeThin(storage, making, thin)
    if (there === 'foreign') registry.release(thin)
    else if (there !== 'new') return there
    else {
      await filling(storage, ctx, making, state)
      registry.putVolume(spec.id, spec.name, state)
      return state
    }
  }
  throw new AppError(
    'INTERNAL',
    `volume ${spec.name} finds no free number in thin pool ${storage.pool.name}; try again`,
  )
}

/** What is there already is the finished volume, or another's, or removed. */
async function makeThin(
  storage: Storage,
  { spec, make }: Making,
  thin: number,
): Promise<'new' | 'foreign' | VolumeState> {
  try {
    await make(thin)
    return 'new'
  } catch (error) {
    if (!isAppError(error, 'ALREADY_EXISTS')) {
      storage.registry.release(thin)
      throw error
    }
  }
  const found = await lookAt(storage, thin)
  if (found?.label?.volume === spec.id && found.label.complete) {
    const state = stateFound(found)
    storage.registry.putVolume(spec.id, spec.name, state)
    return state
  }
  if (found && !isLeftover(storage, found, spec.id)) return 'foreign'
  await drop(storage, thin)
  storage.registry.claim(thin, spec.id)
  await make(thin)
  return 'new'
}

async function filling(storage: Storage, ctx: DriverContext, making: Making, state: VolumeState): Promise<void> {
  const { spec, size } = making
  const label = { volume: spec.id, name: spec.name, size }
  try {
    await withLabelled(spec, thinOf(storage, state), ctx.signal, async (paths) => {
      await writeLabel(paths.label, { ...label, complete: false })
      await making.fill(paths.device, state)
      ctx.signal.throwIfAborted()
      await writeLabel(paths.label, { ...label, complete: true })
    })
    storage.settled.add(spec.id)
  } catch (error) {
    await deactivate(spec)
    await drop(storage, state.thin)
    throw error
  }
}

/** The state of a volume of which nothing was written down. Since then it may have grown. */
function stateFound({ thin, label, superBlock }: Found): VolumeState {
  const size = Math.max(label?.size ?? 0, superBlock?.size ?? 0)
  return { thin, size, fs: superBlock?.fs ?? null, generation: 0, trashed: false }
}

/** As `Driver.findVolume`. */
export async function findVolume(storage: Storage, ctx: DriverContext, volume: Volume): Promise<VolumeState | null> {
  if (volume.state) {
    const state = stateOf(volume)
    return (await lookAt(storage, state.thin, ctx.signal))?.label?.volume === volume.id ? state : null
  }
  const found = await findMade(storage, volume.id, ctx.signal)
  if (!found?.label?.complete) return null
  const state = stateFound(found)
  storage.registry.putVolume(volume.id, volume.name, state)
  return state
}

/** As `Driver.deleteVolume`. */
export async function deleteVolume(storage: Storage, ctx: DriverContext, volume: Volume): Promise<void> {
  const { turns, makers } = storage
  await turns.with(volume.id, ctx.signal, async () => {
    await ensureUnused(storage, volume)
    await makers.with(ctx.signal, () => dropAll(storage, volume))
  })
}

async function dropAll(storage: Storage, volume: Volume): Promise<void> {
  const { registry } = storage
  for (const snapshot of registry.snapshotsOf(volume.id)) {
    await drop(storage, snapshot.state.thin)
    registry.dropSnapshot(snapshot.id)
  }
  if (!volume.state) await removeLeftovers(storage, volume.id)
  // A number whose content has become another volume's is that one's.
  else if ((registry.ownerOf(stateOf(volume).thin) ?? volume.id) === volume.id)
    await drop(storage, stateOf(volume).thin)
  registry.dropVolume(volume.id)
  storage.settled.delete(volume.id)
}

/** Takes the volume's device down. @throws IN_USE when it, or one of its snapshots, is mounted or open */
async function ensureUnused(storage: Storage, volume: Volume): Promise<void> {
  for (const snapshot of storage.registry.snapshotsOf(volume.id)) {
    if (!findDevice(snapshotSubject(volume, snapshot))) continue
    throw new AppError('IN_USE', `snapshot ${volume.name}@${snapshot.name} is in use; unmount it first`)
  }
  await takeDown(volume)
}

/** @throws IN_USE */
export async function takeDown(volume: Subject): Promise<void> {
  try {
    await deactivate(volume)
  } catch (error) {
    if (!isAppError(error, 'IN_USE')) throw error
    const device = findDevice(volume)
    const where = readMounts().find((entry) => entry.device === device?.number)?.mountpoint ?? 'another mount namespace'
    throw new AppError('IN_USE', `volume ${volume.name} is still mounted at ${where}; stop what uses it`)
  }
}

/** As `Driver.mount`. */
export async function mountVolume(storage: Storage, ctx: DriverContext, volume: Volume, target: string): Promise<void> {
  const { settings, turns } = storage
  const state = stateOf(volume)
  const fs = mountable(volume, state)
  await turns.with(volume.id, ctx.signal, async () => {
    const place = await mountPlace(volume, target)
    if (!place) return
    await mountThin(volume, thinOf(storage, state), 'rw', place, volumeMountOptions(fs, settings), ctx.signal)
    storage.settled.delete(volume.id)
    await removeLostFound(place)
  })
}

/** @throws FAILED_PRECONDITION when there is nothing to be mounted yet */
function mountable(volume: Volume, { fs }: VolumeState): FileSystem {
  if (fs) return fs
  throw new AppError(
    'FAILED_PRECONDITION',
    `volume ${volume.name} has no file system yet; restore it again, or remove it`,
  )
}

/**
 * Makes the directory `target`.
 * @returns where to mount, or null when the subject is mounted there @throws FAILED_PRECONDITION when something else is
 */
export async function mountPlace(subject: Subject, target: string): Promise<string | null> {
  await mkdir(target, { recursive: true, mode: 0o700 })
  const place = await realpath(target)
  const entry = mountAt(place)
  if (!entry) return place
  if (isMountOf(entry, subject)) return null
  throw new AppError('FAILED_PRECONDITION', `${entry.source} is mounted at ${target}, not ${subject.name}; unmount it`)
}

function isMountOf(entry: MountEntry, subject: Subject): boolean {
  return isDeviceOf(deviceOf(entry.device), subject)
}

/** Makes a thin device active and mounts it. @throws NOT_FOUND when it is gone */
export async function mountThin(
  subject: Subject,
  thin: Thin,
  access: 'rw' | 'ro',
  place: string,
  options: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  try {
    const name = await activate(subject, thin, access, signal)
    await mountPatiently(thin, name, place, options, signal)
  } catch (error) {
    await deactivate(subject).catch(() => undefined)
    await ignoring(rmdir(place), 'ENOTEMPTY', 'EBUSY')
    throw isAppError(error, 'NOT_FOUND') ? gone(subject.name) : error
  }
}

/** A resize that was interrupted may have left the file system larger than the record says. */
async function mountPatiently(
  thin: Thin,
  name: string,
  place: string,
  options: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  try {
    return await mount(nodeOf(name), place, { options }, signal)
  } catch (error) {
    if (!isAppError(error, 'INTERNAL')) throw error
    const size = (await readSuperBlock(nodeOf(name)))?.size ?? 0
    if (size <= thin.size) throw error
    await resizeDevice(name, { ...thin, size })
    await mount(nodeOf(name), place, { options }, signal)
  }
}

/** As `Driver.unmount`. @throws IN_USE */
export async function unmountVolume(
  storage: Storage,
  ctx: DriverContext,
  volume: Volume,
  target: string,
): Promise<void> {
  await storage.turns.with(volume.id, ctx.signal, async () => {
    if (await unmountThin(volume, target, ctx.signal)) storage.settled.add(volume.id)
  })
}

/** Unmounts a thin device and takes it down; not mounted is success. @returns whether it is down @throws IN_USE */
export async function unmountThin(subject: Subject, target: string, signal: AbortSignal): Promise<boolean> {
  const place = await ignoring(realpath(target), 'ENOENT')
  const entry = place === undefined ? undefined : mountAt(place)
  if (place !== undefined && entry && isMountOf(entry, subject)) await unmount(place, signal)
  if (place !== undefined) await ignoring(rmdir(place), 'ENOENT', 'ENOTEMPTY', 'EBUSY')
  await deactivateWhenUnused(subject)
  return findDevice(subject) === undefined
}

/** As `Driver.usage`. */
export async function usageOf(storage: Storage, ctx: DriverContext, volume: Volume): Promise<Usage> {
  const state = stateOf(volume)
  // A number whose content has become another volume's is that one's.
  if ((storage.registry.ownerOf(state.thin) ?? volume.id) !== volume.id) throw gone(`volume ${volume.name}`)
  try {
    return { used: await mappedBytes(volume, thinOf(storage, state), ctx.signal), size: state.size }
  } catch (error) {
    throw isAppError(error, 'NOT_FOUND') ? gone(`volume ${volume.name}`) : error
  }
}

/** As `ResizeCapability.resize`. */
export async function resizeVolume(
  storage: Storage,
  ctx: DriverContext,
  volume: Volume,
  asked: Bytes,
): Promise<VolumeState> {
  const state = stateOf(volume)
  const fs = mountable(volume, state)
  if (asked < state.size) {
    throw new AppError(
      'NOT_SUPPORTED',
      `volume ${volume.name} has ${formatSize(state.size)}, and can grow but not shrink; create a smaller volume and copy the data`,
    )
  }
  const size = checkSize(fs, asked)
  return storage.turns.with(volume.id, ctx.signal, async () => {
    await ensureRoom(storage, size, volume.id)
    const grown = { ...state, size }
    await withActive(storage, volume, grown, ctx.signal, (root, device) => growFileSystem(fs, device, root, size))
    storage.registry.putVolume(volume.id, volume.name, grown)
    return grown
  })
}

/** Calls `use` with the volume mounted for it, its device as large as `state` says; as active as before when it is done. */
export async function withActive<T>(
  storage: Storage,
  volume: Subject,
  state: VolumeState,
  signal: AbortSignal,
  use: (root: string, device: string) => Promise<T>,
): Promise<T> {
  const { scratch, settings } = storage
  const before = findDevice(volume)
  const thin = thinOf(storage, state)
  const name = await activate(volume, thin, 'rw', signal)
  try {
    if (before && before.size < state.size) await resizeDevice(name, thin)
    const options = volumeMountOptions(state.fs ?? settings.fs, settings)
    return await withMounted(scratch, nodeOf(name), options, (root) => use(root, nodeOf(name)))
  } finally {
    if (!before) await deactivateWhenUnused(volume)
  }
}

/** As `TrimCapability.trim`. */
export async function trimVolume(storage: Storage, ctx: DriverContext, volume: Volume): Promise<Bytes> {
  const state = stateOf(volume)
  mountable(volume, state)
  return storage.turns.with(volume.id, ctx.signal, async () => {
    const held = () => mappedBytes(volume, thinOf(storage, state), ctx.signal)
    const before = (await held()) ?? 0
    await withActive(storage, volume, state, ctx.signal, (root) =>
      exec('fstrim', [root], { signal: ctx.signal, timeoutMs: 0 }),
    )
    return Math.max(0, before - ((await held()) ?? 0))
  })
}

/** As `TrashCapability.discard`: the volume lies where it lay. */
export async function discardVolume(storage: Storage, volume: Volume): Promise<VolumeState> {
  const state = { ...stateOf(volume), trashed: true }
  await ensureUnused(storage, volume)
  storage.registry.putVolume(volume.id, null, state)
  return state
}

/** As `TrashCapability.restore`. */
export async function restoreVolume(
  storage: Storage,
  ctx: DriverContext,
  volume: Volume,
  name: string,
): Promise<VolumeState> {
  const state = { ...stateOf(volume), trashed: false }
  storage.registry.ensureNameFree({ id: volume.id, name })
  if (!(await lookAt(storage, state.thin, ctx.signal))) throw gone(`volume ${volume.name}`)
  storage.registry.putVolume(volume.id, name, state)
  return state
}
