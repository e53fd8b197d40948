/** What every service works with, and the look-ups that they share. */

import { realpathSync, statSync } from 'node:fs'
import path from 'node:path'
import type { Catalog } from '../catalog/catalog.ts'
import type { Config } from '../config.ts'
import type { Log } from '../driver.ts'
import type { Engine } from '../engine/engine.ts'
import { AppError } from '../errors.ts'
import type { Locks } from '../locks.ts'
import type { Snapshot, Volume } from '../model.ts'
import type { Operations } from './journal/operations.ts'
import type { Drivers } from './node/drivers.ts'
import type { SharedCopies } from './shared/shared-copies.ts'

export interface Core {
  readonly config: Config
  readonly catalog: Catalog
  readonly locks: Locks
  readonly drivers: Drivers
  readonly operations: Operations
  readonly engine: Engine
  /** What this node knows of storage that other nodes use too. */
  readonly shared: SharedCopies
  readonly log: Log
}

/** The volume, damaged or not. @throws NOT_FOUND */
export function findVolume(core: Core, name: string): Volume {
  const volume = core.catalog.volume(name)
  if (volume) return volume
  throw new AppError('NOT_FOUND', `no such volume: ${name}`)
}

/** The volume, with a record that can be relied on. @throws NOT_FOUND, CORRUPT */
export function requireVolume(core: Core, name: string): Volume {
  const volume = findVolume(core, name)
  if (volume.damage === undefined) return volume
  throw new AppError(
    'CORRUPT',
    `volume ${name} cannot be used or changed: ${volume.damage}; its data is untouched, restore the catalog from a copy`,
  )
}

/** @throws NOT_FOUND, CORRUPT */
export function requireSnapshot(core: Core, volume: Volume, name: string): Snapshot {
  const snapshot = core.catalog.snapshot(volume.id, name)
  if (!snapshot) throw new AppError('NOT_FOUND', `no such snapshot: ${volume.name}@${name}`)
  if (snapshot.damage === undefined) return snapshot
  throw new AppError('CORRUPT', `snapshot ${volume.name}@${name} cannot be used: ${snapshot.damage}`)
}

/** Below it are the mountpoints that the service offers to drivers. */
export function mountsFolder(core: Core): string {
  return path.join(core.config.root, 'mounts')
}

export function volumeTarget(core: Core, name: string): string {
  return path.join(mountsFolder(core), name)
}

/** `@` cannot be part of a volume's name. */
export function snapshotTarget(core: Core, volume: string, snapshot: string): string {
  return path.join(mountsFolder(core), `${volume}@${snapshot}`)
}

/** Where a volume is while it is filled and nobody is to see it: no name begins with `~`. */
export function hiddenTarget(core: Core, id: string): string {
  return path.join(mountsFolder(core), `~${id}`)
}

/**
 * A directory of the host's that a command line names. @returns it with symlinks resolved, as the kernel's mount tables show it
 * @throws INVALID_ARGUMENT
 */
export function requireDirectory(directory: string): string {
  const fail = (fact: string): never => {
    throw new AppError('INVALID_ARGUMENT', `'${directory}' ${fact}`)
  }
  if (!path.isAbsolute(directory)) return fail('is not an absolute path')
  if (!statSync(directory, { throwIfNoEntry: false })?.isDirectory()) {
    return fail(`is not a directory; make it first: mkdir ${directory}`)
  }
  return realpathSync(directory)
}
