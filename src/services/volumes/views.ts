/** Turns what the catalog keeps into what users see. Reads the catalog only. */

import { toAppError } from '../../errors.ts'
import type { LastBackup, MountHold, Snapshot, TrashedVolume, Volume } from '../../model.ts'
import { type Core, snapshotTarget, volumeTarget } from '../core.ts'
import type { SnapshotView } from '../snapshots/contract.ts'
import type { TrashView, VolumeView } from './contract.ts'
import { isBackupHold } from './use.ts'

/** A volume's holds and snapshots, from the catalog. */
interface Belongings {
  readonly holds: readonly MountHold[]
  readonly snapshots: readonly Snapshot[]
  /** Oldest first. */
  readonly backups: readonly LastBackup[]
}

/** One volume's view; `used` is unknown. O(1). */
export function volumeView(core: Core, volume: Volume): VolumeView {
  const { id } = volume
  const { catalog } = core
  return view(core, volume, {
    holds: catalog.holds(id),
    snapshots: catalog.snapshots(id),
    backups: catalog.lastBackups(id),
  })
}

/** Views of many, with three queries in all. */
export function volumeViews(core: Core, volumes: readonly Volume[]): VolumeView[] {
  const holds = Map.groupBy(core.catalog.allHolds(), (hold) => hold.volumeId)
  const snapshots = Map.groupBy(core.catalog.allSnapshots(), (snapshot) => snapshot.volumeId)
  const backups = Map.groupBy(core.catalog.allLastBackups(), (backup) => backup.volumeId)
  return volumes.map((volume) =>
    view(core, volume, {
      holds: holds.get(volume.id) ?? [],
      snapshots: snapshots.get(volume.id) ?? [],
      backups: backups.get(volume.id) ?? [],
    }),
  )
}

function view(core: Core, volume: Volume, { holds, snapshots, backups }: Belongings): VolumeView {
  const driver = core.drivers.get(volume.driver)
  const mounts = holds.filter((hold) => hold.snapshotId === null)
  const detail = volumeTrouble(core, volume)
  const last = backups.at(-1)
  return {
    name: volume.name,
    driver: volume.driver,
    size: volume.size,
    used: null,
    createdAt: volume.createdAt,
    labels: volume.labels,
    options: volume.options,
    mountpoint: mounts.length > 0 ? volumeMountpoint(core, volume) : null,
    mounts: mounts.map((hold) => ({ id: hold.mountId, since: hold.since, stale: hold.stale })),
    onRemove: volume.onRemove,
    origin: volume.origin,
    hooks: volume.hooks,
    scope: driver?.scope ?? 'local',
    nodes: nodesWith(core, volume),
    status: detail === undefined ? 'ok' : 'degraded',
    ...(detail !== undefined && { statusDetail: detail }),
    snapshots: snapshots.map(({ name, createdAt }) => ({ name, createdAt })),
    lastBackup: last ? { url: last.url, createdAt: last.createdAt } : null,
  }
}

/** Other nodes that have the volume mounted. */
export function nodesWith({ drivers, shared }: Core, volume: Volume): VolumeView['nodes'] {
  return drivers.get(volume.driver)?.shared ? shared.views.nodesWith(volume) : []
}

/** Where the volume is for containers; null when its record or driver cannot tell. */
export function volumeMountpoint(core: Core, volume: Volume): string | null {
  if (volume.damage !== undefined) return null
  const driver = core.drivers.get(volume.driver)
  return answerOf(() => driver?.mountpoint(volume, volumeTarget(core, volume.name)))
}

/** Where its data is by itself, whether it is mounted or not: of a driver that keeps directories. Null for all others. */
export function volumeDirectory(core: Core, volume: Volume): string | null {
  const place = volumeMountpoint(core, volume)
  return place === null || place === volumeTarget(core, volume.name) ? null : place
}

/** Why the volume cannot be used as it should be, as far as local state tells. */
export function volumeTrouble(core: Core, volume: Volume): string | undefined {
  const trouble = recordTrouble(core, volume)
  if (trouble !== undefined || !core.drivers.get(volume.driver)?.shared) return trouble
  return core.shared.views.trouble(volume)
}

/** Why nothing can be done with its record on this node. */
export function recordTrouble(core: Core, volume: Volume): string | undefined {
  if (volume.damage !== undefined) return volume.damage
  const driver = core.drivers.get(volume.driver)
  if (!driver) return `its driver ${volume.driver} is not started on this node`
  try {
    driver.mountpoint(volume, volumeTarget(core, volume.name))
    return undefined
  } catch (error) {
    return toAppError(error).message
  }
}

/** A driver throws for a state that it cannot read: one such volume must not hide all others. */
function answerOf(ask: () => string | undefined): string | null {
  try {
    return ask() ?? null
  } catch {
    return null
  }
}

export function snapshotView(
  core: Core,
  volume: Volume,
  snapshot: Snapshot,
  holds: readonly MountHold[],
): SnapshotView {
  const mounted = holds.some((hold) => hold.snapshotId === snapshot.id && !isBackupHold(hold))
  const { name, createdAt, size, used, labels, atomic } = snapshot
  const mountpoint = mounted ? snapshotMountpoint(core, volume, snapshot) : null
  return { volume: volume.name, name, createdAt, size, used, labels, atomic, mountpoint }
}

function snapshotMountpoint(core: Core, volume: Volume, snapshot: Snapshot): string | null {
  const target = snapshotTarget(core, volume.name, snapshot.name)
  return answerOf(() => core.drivers.get(volume.driver)?.snapshots?.mountpoint(volume, snapshot, target))
}

export function trashView(core: Core, volume: TrashedVolume): TrashView {
  const { id, name, driver, size, createdAt, deletedAt, purgeAt } = volume
  return { id, name, driver, size, createdAt, deletedAt, purgeAt, snapshots: core.catalog.snapshots(id).length }
}
