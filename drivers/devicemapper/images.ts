/** Volumes that are filled with the image of another device: as `DeviceCapability`. */

import { open } from 'node:fs/promises'
import type { DriverContext } from '../../src/driver.ts'
import { AppError, isAppError } from '../../src/errors.ts'
import type { Bytes, Volume, VolumeSpec } from '../../src/model.ts'
import { readSuperBlock } from '../../src/system/superblock.ts'
import { activate, nodeOf } from './devices.ts'
import { message } from './dmsetup.ts'
import { checkSize, fileSystems, parseOptions, stateOf, type VolumeState } from './options.ts'
import { gone, type Storage, thinOf } from './storage.ts'
import { makeVolume, takeDown } from './volumes.ts'

/** As `DeviceCapability.create`. */
export async function createImage(
  storage: Storage,
  ctx: DriverContext,
  spec: VolumeSpec,
  asked: Bytes,
): Promise<VolumeState> {
  parseOptions(spec)
  return makeVolume(storage, ctx, {
    spec,
    size: checkSize(fileSystems[0], asked),
    fs: null,
    make: (thin) => message(storage.pool.name, `create_thin ${thin}`),
    fill: async () => undefined,
  })
}

/** As `DeviceCapability.open`. */
export async function openImage(storage: Storage, ctx: DriverContext, volume: Volume): Promise<string> {
  const thin = thinOf(storage, stateOf(volume))
  return storage.turns.with(volume.id, ctx.signal, async () => {
    try {
      return nodeOf(await activate(volume, thin, 'rw', ctx.signal))
    } catch (error) {
      throw isAppError(error, 'NOT_FOUND') ? gone(`volume ${volume.name}`) : error
    }
  })
}

/** As `DeviceCapability.close`. Copies of a file system are mounted beside each other as they are (see filesystem.ts). */
export async function closeImage(storage: Storage, ctx: DriverContext, volume: Volume): Promise<VolumeState> {
  const device = await openImage(storage, ctx, volume)
  return storage.turns.with(volume.id, ctx.signal, async () => {
    await flush(device)
    const superBlock = await readSuperBlock(device)
    await takeDown(volume)
    const state = stateOf(volume)
    if (superBlock && superBlock.size <= state.size) {
      const filled = { ...state, fs: superBlock.fs }
      storage.registry.putVolume(volume.id, volume.name, filled)
      return filled
    }
    throw new AppError(
      'FAILED_PRECONDITION',
      `what was restored to volume ${volume.name} is no ${fileSystems.join(' or ')} file system of its size; restore another backup`,
    )
  })
}

async function flush(device: string): Promise<void> {
  const file = await open(device, 'r+')
  try {
    await file.sync()
  } finally {
    await file.close()
  }
}
