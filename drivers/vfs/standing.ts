/** What stands complete on the storage, told from its content alone: for recovery, which has no record of it yet. */

import type { SnapshotTaken } from '../../src/driver.ts'
import type { Snapshot, Volume } from '../../src/model.ts'
import { lstatOrNothing } from '../../src/system/files.ts'
import { type Adoptions, adoptable } from './adoptions.ts'
import { findSnapshot, ownerOf } from './layout.ts'
import type { VfsState } from './options.ts'
import { kindIn, stateIn } from './places.ts'
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

/** As `SnapshotCapability.find`. A tree may have been copied while it was written to: it is not said to be atomic. */
export async function findStandingSnapshot(
  storage: Storage,
  volume: Volume,
  snapshot: Snapshot,
): Promise<SnapshotTaken | null> {
  const folder = await findSnapshot(storage.layout, volume, snapshot)
  const kind = folder && (await kindIn(folder))
  return folder && kind ? takenIn(storage, folder, kind, kind !== 'directory') : null
}
