/** What stands complete on the storage, told from its content alone: for recovery, which has no record of it yet. */

import type { DriverContext, SnapshotTaken } from '../../src/driver.ts'
import type { Snapshot, Volume } from '../../src/model.ts'
import { lstatOrNothing } from '../../src/system/files.ts'
import { type Adoptions, adoptable } from './adoptions.ts'
import { findSnapshot, ownerOf } from './layout.ts'
import type { VfsState } from './options.ts'
import { stateIn } from './places.ts'
import { takenIn } from './snapshots.ts'
import type { Storage } from './storage.ts'

/** As `Driver.findVolume`. An adopted directory is the volume's again. */
export async function findStandingVolume(
  storage: Storage,
  adoptions: Adoptions,
  volume: Volume,
): Promise<VfsState | null> {
  const folder = `${storage.layout.volumes}/${volume.name}`
  if ((await ownerOf(folder)) !== volume.id) return null
  const { adopt } = volume.options
  if (adopt === undefined) return stateIn(storage, folder)
  if (!(await lstatOrNothing(adopt))) return null
  const directory = await adoptable(storage.layout, adopt)
  adoptions.claim(directory, volume)
  return { kind: 'directory', limit: null, adopt: directory, trashed: false }
}

/** As `SnapshotCapability.find`. */
export async function findStandingSnapshot(
  storage: Storage,
  ctx: DriverContext,
  volume: Volume,
  snapshot: Snapshot,
): Promise<SnapshotTaken | null> {
  const folder = await findSnapshot(storage.layout, volume, snapshot)
  return folder ? takenIn(storage, ctx, folder, snapshot) : null
}
