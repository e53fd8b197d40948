/**
 * The device-mapper driver: volumes are thin devices in a thin pool, each with a file system. Snapshots take no time and no
 * room; backups read what has changed since the last one. This file only puts its parts together; it needs nothing but the pool
 * and the records to find everything again.
 *
 *   opening, pool, pool-devices, watch, check   the pool             label, made, registry   whose a thin device is
 *   devices, sysfs, dmsetup, status             the kernel's side    volumes, snapshots, copies, images, delta
 */

import { join } from 'node:path'
import type { Driver, DriverEnvironment, DriverModule } from '../../src/driver.ts'
import { AppError } from '../../src/errors.ts'
import { checkPool, describePool } from './check.ts'
import { createClone, replaceVolume, revertVolume } from './copies.ts'
import { closeImage, createImage, openImage } from './images.ts'
import { type Opened, openStorage } from './opening.ts'
import { parseSettings, type Settings, settingsHelp, stateOf, volumeOptions } from './options.ts'
import {
  createSnapshot,
  deleteSnapshot,
  findSnapshot,
  mountSnapshot,
  openSnapshot,
  unmountSnapshot,
} from './snapshots.ts'
import type { Storage } from './storage.ts'
import {
  createVolume,
  deleteVolume,
  discardVolume,
  findVolume,
  mountVolume,
  resizeVolume,
  restoreVolume,
  trimVolume,
  unmountVolume,
  usageOf,
} from './volumes.ts'

/** The module that `drivers/index.ts` loads. */
export const devicemapper: DriverModule = {
  name: 'devicemapper',
  summary: 'thin devices of a device-mapper pool, with ext4 or XFS; backups of changed blocks only',
  settings: settingsHelp,
  create: (given, environment) => createDriver(parseSettings(given), environment),
}

function createDriver(settings: Settings, { root }: DriverEnvironment): Driver {
  let opened: Opened | undefined
  const storage = (): Storage => {
    if (opened) return opened.storage
    throw new AppError('UNAVAILABLE', 'the devicemapper driver is not started yet; try again in a moment')
  }
  return {
    name: 'devicemapper',
    scope: 'local',
    volumeOptions,
    defaultSize: settings.defaultSize,
    start: async (ctx, known, snapshots) => {
      opened ??= await openStorage(settings, join(root, 'devicemapper'), ctx, known, snapshots)
    },
    stop: async () => {
      const last = opened
      opened = undefined
      await last?.watch.stop()
      last?.lock.release()
    },
    describe: () => describePool(storage()),
    check: (ctx, known) => checkPool(storage(), ctx, known),
    createVolume: (ctx, spec) => createVolume(storage(), ctx, spec),
    findVolume: (ctx, volume) => findVolume(storage(), ctx, volume),
    deleteVolume: (ctx, volume) => deleteVolume(storage(), ctx, volume),
    mountpoint: (volume, target) => {
      stateOf(volume)
      return target
    },
    mount: (ctx, volume, target) => mountVolume(storage(), ctx, volume, target),
    unmount: (ctx, volume, target) => unmountVolume(storage(), ctx, volume, target),
    usage: (ctx, volume) => usageOf(storage(), ctx, volume),
    trash: {
      discard: (_ctx, volume) => discardVolume(storage(), volume),
      restore: (ctx, volume, name) => restoreVolume(storage(), ctx, volume, name),
    },
    snapshots: {
      create: (ctx, volume, snapshot) => createSnapshot(storage(), ctx, volume, snapshot),
      find: (ctx, volume, snapshot) => findSnapshot(storage(), ctx, volume, snapshot),
      delete: (ctx, volume, snapshot) => deleteSnapshot(storage(), ctx, volume, snapshot),
      mountpoint: (_volume, _snapshot, target) => target,
      mount: (ctx, volume, snapshot, target) => mountSnapshot(storage(), ctx, volume, snapshot, target),
      unmount: (ctx, volume, snapshot, target) => unmountSnapshot(storage(), ctx, volume, snapshot, target),
      isCheap: () => Promise.resolve(true),
      open: (ctx, volume, snapshot, _target, base) => openSnapshot(storage(), ctx, volume, snapshot, base),
    },
    clone: { create: (ctx, spec, source, snapshot) => createClone(storage(), ctx, spec, source, snapshot) },
    revert: { revert: (ctx, volume, snapshot) => revertVolume(storage(), ctx, volume, snapshot) },
    replace: { replace: (ctx, volume, from) => replaceVolume(storage(), ctx, volume, from) },
    resize: { resize: (ctx, volume, size) => resizeVolume(storage(), ctx, volume, size) },
    trim: { trim: (ctx, volume) => trimVolume(storage(), ctx, volume) },
    device: {
      create: (ctx, spec, size) => createImage(storage(), ctx, spec, size),
      open: (ctx, volume) => openImage(storage(), ctx, volume),
      close: (ctx, volume) => closeImage(storage(), ctx, volume),
    },
  }
}
