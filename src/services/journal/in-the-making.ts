/**
 * What open operations are making: volumes and snapshots that a driver may have, whole or in part, while no record shows them
 * yet. Reads what the journal keeps of creations and of restores; changes nothing.
 */

import type { Catalog } from '../../catalog/catalog.ts'
import type { Operation, Snapshot, Volume } from '../../model.ts'
import { hiddenVolume, isNewPlan, type RestorePlan } from '../backups/restore-plan.ts'

/** Without state, as an undo of their making has them; not those that are recorded. */
export function volumesInTheMaking(catalog: Catalog): Volume[] {
  const found = openOnes(catalog).flatMap(({ kind, payload }) => {
    if (kind === 'volume.create') return (payload as unknown as { volume?: Volume }).volume ?? []
    return kind === 'backup.restore' ? volumesOf(catalog, payload as unknown as RestorePlan) : []
  })
  return found.filter(({ id }) => !catalog.volumeById(id))
}

function volumesOf(catalog: Catalog, plan: RestorePlan): Volume[] {
  if (isNewPlan(plan)) return [plan.volume]
  const volume = catalog.volumeById(plan.volumeId)
  return volume ? [hiddenVolume(volume, plan.hidden)] : []
}

/** As `volumesInTheMaking`. */
export function snapshotsInTheMaking(catalog: Catalog): Snapshot[] {
  const found = openOnes(catalog).flatMap(({ kind, payload }) => {
    if (kind === 'snapshot.create') return (payload as unknown as { snapshot?: Snapshot }).snapshot ?? []
    if (kind !== 'backup.restore') return []
    const plan = payload as unknown as RestorePlan
    return isNewPlan(plan) ? [] : plan.safety
  })
  return found.filter(({ volumeId, name }) => !catalog.snapshot(volumeId, name))
}

/** Those that can be read. */
function openOnes(catalog: Catalog): Operation[] {
  return catalog.runningOperations().filter(({ payload }) => payload !== null)
}
