/**
 * What stands in the pool at the numbers that a volume or snapshot may have, whatever the records say: what an interrupted call
 * has left, or has finished without its being written down. Nothing is taken for ours that a label does not say so of.
 */

import { isAppError } from '../../src/errors.ts'
import type { Bytes } from '../../src/model.ts'
import { readSuperBlock, type SuperBlock } from '../../src/system/superblock.ts'
import { deleteThin, withLabel } from './devices.ts'
import { statusOf } from './dmsetup.ts'
import { type Label, readLabel } from './label.ts'
import { candidates } from './registry.ts'
import { parseMapped } from './status.ts'
import type { Storage } from './storage.ts'

/** A thin device, looked at. */
export interface Found {
  readonly thin: number
  readonly label: Label | null
  readonly superBlock: SuperBlock | null
  /** Null when the device cannot tell; not asked of one that has a label. */
  readonly mapped: Bytes | null
}

/** Looks at a thin device; null when there is none of this number. */
export async function lookAt(storage: Storage, thin: number, signal?: AbortSignal): Promise<Found | null> {
  try {
    return await withLabel(storage.pool.name, thin, signal, async (device) => {
      const label = await readLabel(device)
      const mapped = label ? null : parseMapped(await statusOf(device, signal))
      return { thin, label, superBlock: await readSuperBlock(device), mapped }
    })
  } catch (error) {
    if (isAppError(error, 'NOT_FOUND')) return null
    throw error
  }
}

/** The thin device that was made for this volume, complete or not. */
export async function findMade(storage: Storage, id: string, signal?: AbortSignal): Promise<Found | null> {
  for (const thin of ownCandidates(storage, id)) {
    const found = await lookAt(storage, thin, signal)
    if (found?.label?.volume === id) return found
  }
  return null
}

/** Numbers that no record gives to anybody else. */
export function ownCandidates({ registry }: Storage, id: string, generation = 0): number[] {
  return candidates(id, generation).filter((thin) => (registry.ownerOf(thin) ?? id) === id)
}

/** Removes what an interrupted call has left at a volume's numbers. */
export async function removeLeftovers(storage: Storage, id: string, generation = 0): Promise<void> {
  for (const thin of ownCandidates(storage, id, generation)) {
    const found = await lookAt(storage, thin)
    if (found && isLeftover(storage, found, id)) await deleteThin(storage.pool.name, thin)
  }
}

/**
 * Whether a device that no record names, at a number that this volume may have, is what was left of making it: nothing was
 * written to it yet, or its label is the volume's, or still that of the volume whose copy it is. When the volume's content has
 * become another's, it is not.
 */
export function isLeftover({ registry }: Storage, { label, mapped }: Found, id: string): boolean {
  if (!label) return mapped === 0
  if (label.volume === id) return true
  return label.from !== id && registry.hasSeen(label.volume)
}

/** Removes a thin device unless there is none. @throws IN_USE */
export async function drop({ pool, registry }: Storage, thin: number): Promise<void> {
  await deleteThin(pool.name, thin)
  registry.release(thin)
}
