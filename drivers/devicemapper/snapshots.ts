/** Snapshots: thin devices that share their blocks with the volume. Taken at one instant, in no time, whatever the size. */

import { readFile, realpath } from 'node:fs/promises'
import type { BlockSource, DriverContext, SnapshotSpec, SnapshotTaken } from '../../src/driver.ts'
import { AppError, isAppError } from '../../src/errors.ts'
import type { Snapshot, Volume } from '../../src/model.ts'
import { syncFileSystem } from '../../src/system/files.ts'
import { readMounts } from '../../src/system/mount.ts'
import { changesOf } from './delta.ts'
import { activate, deactivateWhenUnused, findDevice, nodeOf, type Subject } from './devices.ts'
import { message, whileSuspended } from './dmsetup.ts'
import { snapshotMountOptions } from './filesystem.ts'
import { drop, type Found, lookAt, ownCandidates } from './made.ts'
import { type SnapshotState, snapshotStateOf, stateOf } from './options.ts'
import { gone, type Storage, snapshotSubject, thinOf } from './storage.ts'
import type { ActiveDevice } from './sysfs.ts'
import { mountPlace, mountThin, unmountThin, withActive } from './volumes.ts'

/** As `SnapshotCapability.create`. */
export async function createSnapshot(
  storage: Storage,
  ctx: DriverContext,
  volume: Volume,
  spec: SnapshotSpec,
): Promise<SnapshotTaken> {
  const { registry, turns } = storage
  const { thin: origin, size, fs } = stateOf(volume)
  return turns
    .with(volume.id, ctx.signal, async () => {
      const same = registry.snapshotsOf(volume.id).find(({ name }) => name === spec.name)
      if (same?.id === spec.id) return taken(same.state)
      if (same) throw new AppError('ALREADY_EXISTS', `snapshot ${volume.name}@${spec.name} exists; choose another name`)
      await settle(storage, volume, ctx.signal)
      const thin = await copyTo(storage, ownCandidates(storage, spec.id), spec.id, origin, volume)
      const state: SnapshotState = { thin, size, fs }
      registry.putSnapshot({ id: spec.id, volumeId: volume.id, name: spec.name, state })
      return taken(state)
    })
    .catch((error: unknown) => {
      throw isAppError(error, 'NOT_FOUND') ? gone(`volume ${volume.name}`) : error
    })
}

function taken(state: SnapshotState): SnapshotTaken {
  return { state, atomic: true, used: null }
}

/** After a crash the log of a volume is to be replayed; nobody could do that in a snapshot, which is read-only. */
async function settle(storage: Storage, volume: Volume, signal: AbortSignal): Promise<void> {
  const state = stateOf(volume)
  if (state.fs === null || storage.settled.has(volume.id) || findDevice(volume)) return
  await withActive(storage, volume, state, signal, async () => undefined)
  storage.settled.add(volume.id)
}

/**
 * Makes a thin device that begins as another, at the first of `numbers` that is free. What stands there and shows the label of
 * this volume is what an earlier call for the same id has made.
 * @param id whose it is to be, which its number is claimed for @param from whose device `origin` is @throws NOT_FOUND when `origin` is gone
 */
async function copyTo(storage: Storage, numbers: number[], id: string, origin: number, from: Volume): Promise<number> {
  const { registry } = storage
  for (const thin of numbers) {
    registry.claim(thin, id)
    try {
      await copyThin(storage, thin, origin, from)
      return thin
    } catch (error) {
      if (isAppError(error, 'ALREADY_EXISTS') && isOurs(await lookAt(storage, thin), from)) return thin
      registry.release(thin)
      if (!isAppError(error, 'ALREADY_EXISTS')) throw error
    }
  }
  throw new AppError('INTERNAL', `${id} finds no free number in thin pool ${storage.pool.name}; try again`)
}

/** Copies a thin device, at one instant when it is active. @throws ALREADY_EXISTS, NOT_FOUND */
export async function copyThin({ pool }: Storage, thin: number, origin: number, subject: Subject): Promise<void> {
  const copy = () => message(pool.name, `create_snap ${thin} ${origin}`)
  const device = findDevice(subject)
  if (!device) return copy()
  await writeOut(device)
  await whileSuspended(device.name, copy)
}

/** Writers wait as long as their file system is suspended, which begins with writing all of it out: most of that is done before. */
async function writeOut({ number }: ActiveDevice): Promise<void> {
  const place = readMounts().find((entry) => entry.device === number)?.mountpoint
  const [, kibibytes] = /^Dirty: +(\d+) kB$/m.exec(await readFile('/proc/meminfo', 'utf8')) ?? []
  if (place === undefined || Number(kibibytes) < worthWriting) return
  // What cannot be written now will not be then, and the copy is what was written.
  await syncFileSystem(place, AbortSignal.timeout(mostWritingMs)).catch(() => undefined)
}

/** Of all the machine's memory, in KiB. */
const worthWriting = 16_384
/** The snapshot does not wait for longer: others may write on. */
const mostWritingMs = 60_000

function isOurs(found: Found | null, volume: Volume): found is Found {
  return found?.label?.volume === volume.id
}

/** As `SnapshotCapability.find`. */
export async function findSnapshot(
  storage: Storage,
  ctx: DriverContext,
  volume: Volume,
  snapshot: Snapshot,
): Promise<SnapshotTaken | null> {
  if (snapshot.state) {
    const state = snapshotStateOf(snapshot)
    return (await lookAt(storage, state.thin, ctx.signal)) ? taken(state) : null
  }
  for (const thin of ownCandidates(storage, snapshot.id)) {
    if (!isOurs(await lookAt(storage, thin, ctx.signal), volume)) continue
    // Since then nothing was done to the volume: its lock is held for whoever asks.
    const { size, fs } = stateOf(volume)
    const state = { thin, size, fs }
    storage.registry.putSnapshot({ id: snapshot.id, volumeId: volume.id, name: snapshot.name, state })
    return taken(state)
  }
  return null
}

/** As `SnapshotCapability.delete`. */
export async function deleteSnapshot(
  storage: Storage,
  ctx: DriverContext,
  volume: Volume,
  snapshot: Snapshot,
): Promise<void> {
  const { registry, turns } = storage
  const subject = snapshotSubject(volume, snapshot)
  await turns.with(volume.id, ctx.signal, async () => {
    if (findDevice(subject)) throw new AppError('IN_USE', `snapshot ${subject.name} is in use; unmount it first`)
    if (snapshot.state) await drop(storage, snapshotStateOf(snapshot).thin)
    else {
      for (const thin of ownCandidates(storage, snapshot.id)) {
        if (isOurs(await lookAt(storage, thin), volume)) await drop(storage, thin)
      }
    }
    registry.dropSnapshot(snapshot.id)
  })
}

/** As `SnapshotCapability.mount`. */
export async function mountSnapshot(
  storage: Storage,
  ctx: DriverContext,
  volume: Volume,
  snapshot: Snapshot,
  target: string,
): Promise<void> {
  const subject = snapshotSubject(volume, snapshot)
  const state = snapshotStateOf(snapshot)
  const { fs } = state
  if (!fs) throw new AppError('FAILED_PRECONDITION', `snapshot ${subject.name} is of a volume without a file system`)
  await storage.turns.with(volume.id, ctx.signal, async () => {
    const place = await mountPlace(subject, target)
    if (place) await mountThin(subject, thinOf(storage, state), 'ro', place, snapshotMountOptions(fs), ctx.signal)
  })
}

/** As `SnapshotCapability.unmount`: closes what `open` has opened, too. */
export async function unmountSnapshot(
  storage: Storage,
  ctx: DriverContext,
  volume: Volume,
  snapshot: Snapshot,
  target: string,
): Promise<void> {
  await storage.turns.with(volume.id, ctx.signal, async () => {
    await unmountThin(snapshotSubject(volume, snapshot), target, ctx.signal)
  })
}

/** As `SnapshotCapability.open`: a read-only device, with what of it the pool holds. */
export async function openSnapshot(
  storage: Storage,
  ctx: DriverContext,
  volume: Volume,
  snapshot: Snapshot,
  base: Snapshot | null,
): Promise<BlockSource> {
  const subject = snapshotSubject(volume, snapshot)
  const state = snapshotStateOf(snapshot)
  const name = await storage.turns
    .with(volume.id, ctx.signal, () => activate(subject, thinOf(storage, state), 'ro', ctx.signal))
    .catch((error: unknown) => {
      throw isAppError(error, 'NOT_FOUND') ? gone(`snapshot ${subject.name}`) : error
    })
  try {
    const changes = await changesOf(storage.pool, state, base ? snapshotStateOf(base) : null, ctx)
    // With udev it is a symlink there, which who reads a device does not follow.
    return { kind: 'block', device: await realpath(nodeOf(name)), size: state.size, ...changes }
  } catch (error) {
    await deactivateWhenUnused(subject)
    throw error
  }
}
