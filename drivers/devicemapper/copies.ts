/**
 * Clones, reverts and replacements. A volume's thin device cannot be given another content, so the volume gets another thin
 * device; the old one goes last, when nothing can fail any more.
 */

import type { DriverContext } from '../../src/driver.ts'
import { AppError, isAppError } from '../../src/errors.ts'
import type { Snapshot, Volume, VolumeSpec } from '../../src/model.ts'
import { applyAttributes, hasAttributes } from '../../src/system/attributes.ts'
import { formatSize } from '../../src/units.ts'
import { withLabel } from './devices.ts'
import { growFileSystem, volumeMountOptions, withMounted } from './filesystem.ts'
import { writeLabel } from './label.ts'
import { drop, isLeftover, lookAt, ownCandidates } from './made.ts'
import { checkSize, parseOptions, snapshotStateOf, stateOf, type VolumeState } from './options.ts'
import { copyThin } from './snapshots.ts'
import { ensureRoom, gone, type Storage, snapshotSubject } from './storage.ts'
import { makeVolume, takeDown, withActive } from './volumes.ts'

/** As `CloneCapability.create`. */
export async function createClone(
  storage: Storage,
  ctx: DriverContext,
  spec: VolumeSpec,
  source: Volume,
  snapshot: Snapshot,
): Promise<VolumeState> {
  const from = snapshotStateOf(snapshot)
  const { fs } = from
  const options = parseOptions(spec)
  if (!fs) throw new AppError('FAILED_PRECONDITION', `snapshot ${source.name}@${snapshot.name} has no file system`)
  if (options.fs && options.fs !== fs) {
    throw new AppError(
      'INVALID_ARGUMENT',
      `volume ${spec.name} begins as a copy with ${fs}; leave fs=${options.fs} out`,
    )
  }
  const size = checkSize(fs, spec.size ?? from.size)
  if (size < from.size) {
    throw new AppError(
      'INVALID_ARGUMENT',
      `volume ${spec.name} begins as a copy of ${formatSize(from.size)}; give at least that, or leave the size out`,
    )
  }
  const subject = snapshotSubject(source, snapshot)
  return makeVolume(storage, ctx, {
    spec,
    size,
    fs,
    make: (thin) => copyThin(storage, thin, from.thin, subject),
    fill: async (device) => {
      if (size === from.size && !hasAttributes(options)) return
      await withMounted(storage.scratch, device, volumeMountOptions(fs, storage.settings), async (root) => {
        if (size > from.size) await growFileSystem(fs, device, root, size)
        await applyAttributes(root, options)
      })
    },
  }).catch((error: unknown) => {
    throw isAppError(error, 'NOT_FOUND') ? gone(`snapshot ${subject.name}`) : error
  })
}

/** As `RevertCapability.revert`. The volume keeps its size. */
export async function revertVolume(
  storage: Storage,
  ctx: DriverContext,
  volume: Volume,
  snapshot: Snapshot,
): Promise<VolumeState> {
  const [state, from] = [stateOf(volume), snapshotStateOf(snapshot)]
  const subject = snapshotSubject(volume, snapshot)
  return storage.turns.with(volume.id, ctx.signal, async () => {
    await takeDown(volume)
    const generation = state.generation + 1
    const thin = await copyAnew(storage, volume, generation, (number) => copyThin(storage, number, from.thin, subject))
    const reverted = { ...state, thin, generation, fs: from.fs }
    try {
      await growTo(storage, ctx, volume, reverted, from.size)
      ctx.signal.throwIfAborted()
    } catch (error) {
      await takeDown(volume)
      await drop(storage, thin)
      throw error
    }
    await drop(storage, state.thin)
    storage.registry.putVolume(volume.id, volume.name, reverted)
    storage.settled.delete(volume.id)
    return reverted
  })
}

/** At a number of the volume's that is free; what an interrupted call has left there goes before. */
async function copyAnew(
  storage: Storage,
  volume: Volume,
  generation: number,
  make: (thin: number) => Promise<void>,
): Promise<number> {
  for (const thin of ownCandidates(storage, volume.id, generation)) {
    try {
      await make(thin)
      return thin
    } catch (error) {
      if (isAppError(error, 'NOT_FOUND')) throw gone(`the snapshot of volume ${volume.name}`)
      if (!isAppError(error, 'ALREADY_EXISTS')) throw error
    }
    const found = await lookAt(storage, thin)
    if (found && !isLeftover(storage, found, volume.id)) continue
    await drop(storage, thin)
    await make(thin)
    return thin
  }
  throw new AppError(
    'INTERNAL',
    `volume ${volume.name} finds no free number in thin pool ${storage.pool.name}; try again`,
  )
}

async function growTo(storage: Storage, ctx: DriverContext, volume: Volume, state: VolumeState, from: number) {
  const { fs, size } = state
  if (size <= from || !fs) return
  await withActive(storage, volume, state, ctx.signal, (root, device) => growFileSystem(fs, device, root, size))
  // Nothing but the new device may be found under the volume's name.
  await takeDown(volume)
}

/**
 * As `ReplaceCapability.replace`: the volume gets the thin device of `from`. With the label that says so it is decided.
 * It keeps its size, or has that of `from` when that is larger.
 */
export async function replaceVolume(
  storage: Storage,
  ctx: DriverContext,
  volume: Volume,
  from: Volume,
): Promise<VolumeState> {
  const [state, content] = [stateOf(volume), stateOf(from)]
  const { registry, turns } = storage
  return turns.with(volume.id, ctx.signal, async () => {
    const { label } = (await lookAt(storage, content.thin, ctx.signal)) ?? {}
    if (label?.volume !== from.id && label?.from !== from.id) throw gone(`volume ${from.name}`)
    await takeDown(from)
    await takeDown(volume)
    const replaced = { ...state, thin: content.thin, fs: content.fs, size: Math.max(state.size, content.size) }
    if (label.volume === from.id) await moveOver(storage, ctx, volume, from, replaced)
    if (state.thin !== content.thin) await drop(storage, state.thin)
    registry.dropVolume(from.id)
    registry.putVolume(volume.id, volume.name, replaced)
    storage.settled.delete(volume.id)
    return replaced
  })
}

async function moveOver(storage: Storage, ctx: DriverContext, volume: Volume, from: Volume, replaced: VolumeState) {
  const { size } = stateOf(from)
  if (replaced.size > size) await ensureRoom(storage, replaced.size, volume.id)
  await growTo(storage, ctx, from, replaced, size)
  ctx.signal.throwIfAborted()
  const label = { volume: volume.id, name: volume.name, size: replaced.size, complete: true, from: from.id }
  await withLabel(storage.pool.name, replaced.thin, undefined, (device) => writeLabel(device, label))
}
