/**
 * Whether something really uses a volume. Docker's mount ids alone cannot say: they leak when dockerd crashes, and are lost with
 * live-restore; so the kernel's mount tables, of every mount namespace of the host, have the last word.
 */

import { AppError, isAppError } from '../../errors.ts'
import type { MountHold, Snapshot, Volume } from '../../model.ts'
import { usesOf } from '../../system/mount.ts'
import { type Core, volumeTarget } from '../core.ts'
import { now } from '../now.ts'

/** Held by the CLI's `volume mount`, not by a container. */
export const cliMountId = 'cli'
/** Prefix of the hold for a bind mount made by `--at`; the directory follows. */
export const bindPrefix = 'at:'

/** Prefix of the hold of a backup that reads; its operation's id follows. */
export const backupPrefix = 'backup:'

/** Docker gives a Mount 120 s; a container that is to show in the kernel's tables has done so by then. */
const startingMs = 130_000

/** A first hold on the volume, or on one of its snapshots. */
export function newHold({ id }: Volume, mountId: string, snapshot?: Snapshot): MountHold {
  return { volumeId: id, snapshotId: snapshot?.id ?? null, mountId, count: 1, stale: false, since: now() }
}

/** Made by this node's CLI: it lives until the CLI takes it back. */
export function isCliHold(hold: MountHold): boolean {
  return hold.mountId === cliMountId || hold.mountId.startsWith(bindPrefix)
}

/** Of a backup that runs, or that the daemon's end has interrupted: it goes with its operation. */
export function isBackupHold(hold: MountHold): boolean {
  return hold.mountId.startsWith(backupPrefix)
}

/** @param subject such as `volume db` */
export function beingBackedUp(subject: string, hold: MountHold): AppError {
  const id = hold.mountId.slice(backupPrefix.length)
  return new AppError('IN_USE', `${subject} is being backed up; wait, or: holdfast operation cancel ${id}`)
}

/** Its Mount was answered a moment ago: the container may just not show yet. */
function isStarting(hold: MountHold): boolean {
  return !hold.stale && Date.now() - Date.parse(hold.since) < startingMs
}

/**
 * How many mounts, anywhere on this host, show the volume besides the service's own. O(processes).
 * @throws what the driver throws for a state that it cannot read: then nobody knows
 */
export async function kernelUses(core: Core, volume: Volume): Promise<number> {
  const target = volumeTarget(core, volume.name)
  const mountpoint = core.drivers.required(volume.driver).mountpoint(volume, target)
  try {
    return (await usesOf(mountpoint, [target])).length
  } catch (error) {
    if (isAppError(error, 'NOT_FOUND')) return 0
    throw error
  }
}

/**
 * Passes when nothing uses the volume; ids that are merely left over do not count.
 * @throws IN_USE with who uses it and what to do
 */
export async function requireUnused(core: Core, volume: Volume): Promise<void> {
  // The driver has the last word, but only when the work is done.
  const other = core.shared.views.nodesWith(volume).find(({ alive }) => alive)
  if (other) {
    throw new AppError(
      'IN_USE',
      `volume ${volume.name} is mounted on node ${other.name}; stop the containers that use it there`,
    )
  }
  const holds = core.catalog.holds(volume.id)
  const backup = holds.find(isBackupHold)
  if (backup) throw beingBackedUp(`volume ${volume.name}`, backup)
  const cli = holds.find(isCliHold)
  if (cli) {
    const [what, ref] = cli.snapshotId === null ? ['volume', volume.name] : ['snapshot', snapshotRef(core, volume, cli)]
    throw new AppError('IN_USE', `${what} ${ref} is mounted by the CLI; run: holdfast ${what} umount ${ref}`)
  }
  const uses = await kernelUses(core, volume)
  if (uses > 0) throw inUse(volume, `${uses} mount${uses === 1 ? '' : 's'} on this host`)
  if (holds.some(isStarting)) throw inUse(volume, 'a container that was started a moment ago')
}

function inUse(volume: Volume, by: string): AppError {
  return new AppError(
    'IN_USE',
    `volume ${volume.name} is used by ${by}; stop the containers that use it (docker ps --filter volume=${volume.name})`,
  )
}

function snapshotRef(core: Core, volume: Volume, hold: MountHold): string {
  const snapshot = core.catalog.snapshots(volume.id).find(({ id }) => id === hold.snapshotId)
  return `${volume.name}@${snapshot?.name ?? hold.snapshotId}`
}
