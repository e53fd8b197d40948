/**
 * The vfs driver: volumes in a file system that is there already, as directories, btrfs subvolumes or images (see layout.ts).
 * This file only puts its parts together; it needs nothing but the storage itself to find everything again.
 */

import { mkdir, realpath } from 'node:fs/promises'
import { isAbsolute, join } from 'node:path'
import type { Driver, DriverContext, DriverEnvironment, DriverModule, OptionHelp } from '../../src/driver.ts'
import { AppError, fromErrno } from '../../src/errors.ts'
import type { Volume } from '../../src/model.ts'
import { ensureDirectory, lstatOrNothing } from '../../src/system/files.ts'
import { type FileLock, lockPath } from '../../src/system/lock-file.ts'
import { type Adoptions, adoptionsOf } from './adoptions.ts'
import { checkStorage, describeStorage } from './check.ts'
import { type Cleaner, startCleaner } from './cleaner.ts'
import { createClone, revertVolume } from './copies.ts'
import { layoutOf } from './layout.ts'
import { type ImageFileSystem, parseFileSystem, volumeOptions } from './options.ts'
import { type PrunedArchive, startPruned } from './pruned.ts'
import { replaceVolume } from './replace.ts'
import {
  createSnapshot,
  deleteSnapshot,
  isSnapshotCheap,
  mountSnapshot,
  openSnapshot,
  unmountSnapshot,
} from './snapshots.ts'
import { findStandingSnapshot, findStandingVolume } from './standing.ts'
import { openStorage, type Storage } from './storage.ts'
import { discardVolume, restoreVolume } from './trash.ts'
import { dropUnusedViews } from './views.ts'
import {
  createVolume,
  deleteVolume,
  mountpointOf,
  mountVolume,
  resizeVolume,
  trimVolume,
  unmountVolume,
  usageOf,
} from './volumes.ts'

const settings: Readonly<Record<string, OptionHelp>> = {
  path: { description: 'directory that holds the volumes; default ROOT/vfs', example: '/srv/volumes' },
  fs: { description: 'file system of volumes that are images, ext4 or xfs; default ext4', example: 'xfs' },
}

/** The module that `drivers/index.ts` loads. */
export const vfs: DriverModule = {
  name: 'vfs',
  summary: 'directories, btrfs subvolumes and thin images in a local file system',
  settings,
  create: (given, environment) => createDriver(parseSettings(given, environment), environment),
}

interface Settings {
  readonly path: string
  readonly fs: ImageFileSystem
}

function parseSettings(given: Readonly<Record<string, string>>, { root }: DriverEnvironment): Settings {
  const path = given.path ?? join(root, 'vfs')
  if (!isAbsolute(path)) throw new AppError('INVALID_ARGUMENT', `vfs.path '${path}' is not absolute; begin it with /`)
  return { path, fs: parseFileSystem('vfs.fs', given.fs ?? 'ext4') }
}

/** What the driver has between `start` and `stop`. */
interface Opened {
  readonly storage: Storage
  readonly adoptions: Adoptions
  readonly lock: FileLock
  readonly archive: PrunedArchive
  readonly cleaner: Cleaner
}

async function open(
  given: Settings,
  environment: DriverEnvironment,
  ctx: DriverContext,
  known: readonly Volume[],
): Promise<Opened> {
  if (known.length > 0) await ensureMounted(given.path)
  const layout = layoutOf(await makeBase(given.path))
  const lock = await lockPath(layout.base, "the vfs driver's storage")
  try {
    await ensureDirectory(layout.volumes, 0o700)
    await ensureDirectory(layout.trash, 0o700)
    await ensureDirectory(layout.tmp, 0o700)
    await ensureDirectory(layout.views, 0o700)
    const archive = await startPruned(environment.archive(layout.repository), layout.pruneDue, ctx.log)
    const cleaner = await startCleaner(layout, archive, ctx)
    await dropUnusedViews(layout, cleaner)
    return { storage: openStorage(layout, given.fs, archive), adoptions: adoptionsOf(known), lock, archive, cleaner }
  } catch (error) {
    lock.release()
    throw fromErrno(error, `open the vfs driver's storage ${layout.base}`)
  }
}

/** A disk that is not mounted must not look like a storage that has lost everything. @throws UNAVAILABLE */
async function ensureMounted(path: string): Promise<void> {
  if (await lstatOrNothing(join(path, 'volumes'))) return
  throw new AppError(
    'UNAVAILABLE',
    `${path} has no volumes directory although volumes are known; mount the disk that belongs there`,
  )
}

/** @returns the directory, symlinks that lead to it resolved */
async function makeBase(path: string): Promise<string> {
  try {
    await mkdir(path, { recursive: true, mode: 0o700 })
    return await realpath(path)
  } catch (error) {
    throw fromErrno(error, `open the vfs driver's storage ${path}`)
  }
}

function createDriver(given: Settings, environment: DriverEnvironment): Driver {
  let opened: Opened | undefined
  const now = (): Opened => {
    if (opened) return opened
    throw new AppError('UNAVAILABLE', 'the vfs driver is not started yet; try again in a moment')
  }
  const storage = (): Storage => now().storage
  const layout = () => storage().layout
  return {
    name: 'vfs',
    scope: 'local',
    volumeOptions,
    start: async (ctx, known) => {
      opened ??= await open(given, environment, ctx, known)
    },
    stop: async () => {
      const last = opened
      opened = undefined
      await last?.cleaner.stop()
      await last?.archive.stop()
      last?.lock.release()
    },
    describe: () => describeStorage(storage()),
    check: (ctx, known) => checkStorage(storage(), ctx, known),
    createVolume: (ctx, spec) => createVolume(storage(), now().adoptions, ctx, spec),
    findVolume: (_ctx, volume) => findStandingVolume(storage(), now().adoptions, volume),
    deleteVolume: (ctx, volume) => deleteVolume(storage(), now().adoptions, ctx, volume),
    // Docker asks before the driver has started, too.
    mountpoint: (volume, target) => mountpointOf(opened?.storage.layout ?? layoutOf(given.path), volume, target),
    mount: (ctx, volume, target) => mountVolume(layout(), ctx, volume, target),
    unmount: (ctx, volume, target) => unmountVolume(layout(), ctx, volume, target),
    usage: (ctx, volume, exact) => usageOf(layout(), ctx, volume, exact),
    trash: {
      discard: (_ctx, volume) => discardVolume(layout(), now().adoptions, volume),
      restore: (_ctx, volume, name) => restoreVolume(layout(), now().adoptions, volume, name),
    },
    snapshots: {
      create: (ctx, volume, snapshot) => createSnapshot(storage(), ctx, volume, snapshot),
      find: (ctx, volume, snapshot) => findStandingSnapshot(storage(), ctx, volume, snapshot),
      delete: (ctx, volume, snapshot) => deleteSnapshot(storage(), ctx, volume, snapshot),
      mountpoint: (_volume, _snapshot, target) => target,
      mount: (ctx, volume, snapshot, target) => mountSnapshot(storage(), ctx, volume, snapshot, target),
      unmount: (ctx, volume, snapshot, target) =>
        unmountSnapshot(layout(), now().cleaner, ctx, volume, snapshot, target),
      isCheap: (_ctx, volume) => isSnapshotCheap(storage(), volume),
      // Changed blocks are not known here, so the base is of no use.
      open: (ctx, volume, snapshot, target, _base) => openSnapshot(storage(), ctx, volume, snapshot, target),
    },
    clone: { create: (ctx, spec, source, snapshot) => createClone(storage(), ctx, spec, source, snapshot) },
    revert: { revert: (ctx, volume, snapshot) => revertVolume(storage(), now().cleaner, ctx, volume, snapshot) },
    replace: { replace: (ctx, volume, from) => replaceVolume(storage(), now().cleaner, ctx, volume, from) },
    resize: { resize: (ctx, volume, size) => resizeVolume(storage(), ctx, volume, size) },
    trim: { trim: (ctx, volume) => trimVolume(layout(), ctx, volume) },
  }
}
