/** What the catalog has to change so that it says of a shared volume what its storage says. Reads the catalog; changes nothing. */

import { isDeepStrictEqual } from 'node:util'
import type { Catalog } from '../../catalog/catalog.ts'
import { type Change, dropHold, dropSnapshot, putSnapshot, putVolume } from '../../catalog/changes.ts'
import type { SharedVolume } from '../../driver.ts'
import { isTrashed, type Snapshot, type TrashedVolume, type Volume } from '../../model.ts'

/** What this node knows of a volume. */
export interface Known {
  readonly volume: Volume | TrashedVolume | undefined
  readonly snapshots: readonly Snapshot[]
}

export function knownOf(catalog: Catalog, id: string): Known {
  return { volume: catalog.volumeById(id), snapshots: catalog.snapshots(id) }
}

/** Whether the catalog says what the storage says. A record that cannot be read says nothing. */
export function isSame(known: Known, { volume, snapshots }: SharedVolume): boolean {
  return (
    isDeepStrictEqual(known.volume, volume) && goneOf(known, snapshots).length + newOf(known, snapshots).length === 0
  )
}

/** Whether something that this node knows, and may hold, would go: what was told may be older than that. */
export function takesAway(known: Known, { volume, snapshots }: SharedVolume): boolean {
  if (!known.volume) return false
  return (isTrashed(volume) && !isTrashed(known.volume)) || goneOf(known, snapshots).length > 0
}

/** @returns in the order to make them; none when all is so already */
export function recordChanges(catalog: Catalog, { volume, snapshots }: SharedVolume): Change[] {
  const known = knownOf(catalog, volume.id)
  const holds = isTrashed(volume) && known.volume && !isTrashed(known.volume) ? catalog.holds(volume.id) : []
  return [
    ...(isDeepStrictEqual(known.volume, volume) ? [] : [putVolume(volume)]),
    ...holds.map(dropHold),
    ...goneOf(known, snapshots).flatMap(({ id }) => dropSnapshot(id)),
    ...newOf(known, snapshots).map(putSnapshot),
  ]
}

function goneOf({ snapshots: known }: Known, told: readonly Snapshot[]): Snapshot[] {
  return known.filter(({ id }) => !told.some((snapshot) => snapshot.id === id))
}

/** The copy of one whose record is damaged now is the better one. */
function newOf({ snapshots: known }: Known, told: readonly Snapshot[]): Snapshot[] {
  const isKnown = (snapshot: Snapshot) => known.some((other) => isDeepStrictEqual(other, snapshot))
  return told.filter((snapshot) => snapshot.damage === undefined && !isKnown(snapshot))
}
