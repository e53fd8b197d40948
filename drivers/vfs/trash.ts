/** The trash: a discarded volume is renamed, snapshots included, so that its name is free again. Adopted data stays where it is. */

import { rename } from 'node:fs/promises'
import { AppError } from '../../src/errors.ts'
import type { Volume } from '../../src/model.ts'
import { syncPath } from '../../src/system/files.ts'
import type { Adoptions } from './adoptions.ts'
import { ensureFree, type Layout, ownerOf, trashFolder } from './layout.ts'
import { stateOf, type VfsState } from './options.ts'
import { detached } from './volumes.ts'

async function move(layout: Layout, from: string, to: string): Promise<void> {
  await rename(from, to)
  // One rename is one change to the file system's own journal: it is in both directories or in none.
  await syncPath(layout.volumes)
}

/** As `TrashCapability.discard`. @throws NOT_FOUND when the data is gone, IN_USE when an image is mounted */
export async function discardVolume(layout: Layout, adoptions: Adoptions, volume: Volume): Promise<VfsState> {
  const [here, there] = [`${layout.volumes}/${volume.name}`, trashFolder(layout, volume)]
  if ((await ownerOf(there)) !== volume.id) {
    if ((await ownerOf(here)) !== volume.id) {
      throw new AppError('NOT_FOUND', `the data of volume ${volume.name} is not at ${here} any more`)
    }
    await detached(volume, here, () => move(layout, here, there))
  }
  adoptions.release(volume.id)
  return { ...stateOf(volume), trashed: true }
}

/** As `TrashCapability.restore`. @throws NOT_FOUND when the data is gone from the trash */
export async function restoreVolume(
  layout: Layout,
  adoptions: Adoptions,
  volume: Volume,
  name: string,
): Promise<VfsState> {
  const state = stateOf(volume)
  const [here, there] = [trashFolder(layout, volume), `${layout.volumes}/${name}`]
  if (state.adopt !== null) adoptions.claim(state.adopt, { id: volume.id, name })
  if ((await ownerOf(there)) !== volume.id) {
    try {
      await ensureFree(there, `volume ${name}`)
      if ((await ownerOf(here)) !== volume.id) {
        throw new AppError('NOT_FOUND', `the data of volume ${volume.name} is not at ${here} any more`)
      }
      await move(layout, here, there)
    } catch (error) {
      adoptions.release(volume.id)
      throw error
    }
  }
  return { ...state, trashed: false }
}
