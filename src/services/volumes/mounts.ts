/**
 * Who holds which volume, and mounting what is held. Counts Docker's ids as a multiset, because `docker cp` on a running
 * container comes with the container's own id; unmounts only what neither an id nor the kernel holds any more.
 */

import { dropAllHolds, dropHold, putHold, putSetting, resetHolds } from '../../catalog/changes.ts'
import type { Driver } from '../../driver.ts'
import { AppError } from '../../errors.ts'
import { mountKey } from '../../locks.ts'
import type { MountHold, Volume } from '../../model.ts'
import { mount, mountAt, readMounts, unmount } from '../../system/mount.ts'
import { type Core, findVolume, mountsFolder, requireDirectory, requireVolume, volumeTarget } from '../core.ts'
import type { DockerVolume, MountService } from './contract.ts'
import { backupPrefix, bindPrefix, cliMountId, isCliHold, kernelUses, newHold } from './use.ts'
import { nodesWith, volumeMountpoint, volumeTrouble } from './views.ts'

/** Volumes looked at in one sweep: each look reads the mount tables of the whole host. */
const sweepLimit = 20

export class Mounts implements MountService {
  readonly #core: Core

  constructor(core: Core) {
    this.#core = core
  }

  get generation(): number {
    return this.#core.catalog.generation
  }

  get(name: string): DockerVolume | undefined {
    const volume = this.#core.catalog.volume(name)
    if (!volume) return undefined
    const holds = this.#core.catalog.holds(volume.id)
    const trouble = volumeTrouble(this.#core, volume)
    const nodes = nodesWith(this.#core, volume)
    const status = {
      driver: volume.driver,
      ...(volume.size !== null && { size: volume.size }),
      onRemove: volume.onRemove,
      mounts: holds.filter((hold) => hold.snapshotId === null).length,
      ...(nodes.length > 0 && { nodes: nodes.map((node) => node.name) }),
      status: trouble === undefined ? 'ok' : 'degraded',
      ...(trouble !== undefined && { statusDetail: trouble }),
    }
    return { name, mountpoint: volumeMountpoint(this.#core, volume) ?? '', createdAt: volume.createdAt, status }
  }

  async find(name: string): Promise<DockerVolume | undefined> {
    if (!this.#core.catalog.volume(name)) await this.#core.shared.discover(name)
    return this.get(name)
  }

  list(): { name: string; mountpoint: string }[] {
    return this.#core.catalog
      .volumes()
      .map((volume) => ({ name: volume.name, mountpoint: volumeMountpoint(this.#core, volume) ?? '' }))
  }

  mount(name: string, mountId: string): Promise<string> {
    if (mountId === '') throw new AppError('INVALID_ARGUMENT', `mount of volume ${name}: the mount id is missing`)
    return this.#locked(name, 'mounted', async () => {
      if (!this.#core.catalog.volume(name)) await this.#core.shared.discover(name)
      const volume = requireVolume(this.#core, name)
      const driver = await this.#core.drivers.ready(volume.driver)
      const target = volumeTarget(this.#core, name)
      await driver.mount(this.#core.operations.plainContext(), volume, target)
      const before = this.#hold(volume, mountId)
      // A stale count is of an earlier life of dockerd: its Unmount will not come besides the one for this Mount.
      const count = before && !before.stale ? before.count + 1 : 1
      await this.#core.catalog.write(putHold({ ...newHold(volume, mountId), count }))
      return driver.mountpoint(volume, target)
    })
  }

  /** As `mount`, but a second call for the same id changes nothing. */
  keep(name: string, mountId: string): Promise<string> {
    return this.#locked(name, 'mounted', async () => {
      const volume = requireVolume(this.#core, name)
      const driver = await this.#core.drivers.ready(volume.driver)
      const target = volumeTarget(this.#core, name)
      await driver.mount(this.#core.operations.plainContext(), volume, target)
      await this.#core.catalog.write(putHold(newHold(volume, mountId)))
      return driver.mountpoint(volume, target)
    })
  }

  unmount(name: string, mountId: string): Promise<void> {
    return this.#locked(name, 'unmounted', async () => {
      const volume = findVolume(this.#core, name)
      if (mountId === cliMountId) await this.#unbind(volume)
      const hold = this.#hold(volume, mountId)
      if (hold)
        await this.#core.catalog.write(hold.count > 1 ? putHold({ ...hold, count: hold.count - 1 }) : dropHold(hold))
      await this.#unmountUnheld(volume)
    })
  }

  async bind(name: string, directory: string): Promise<void> {
    const at = requireDirectory(directory)
    return this.#locked(name, 'mounted', async () => {
      const volume = requireVolume(this.#core, name)
      const mountpoint = volumeMountpoint(this.#core, volume)
      if (!mountpoint || !this.#hold(volume, cliMountId)) {
        throw new AppError(
          'FAILED_PRECONDITION',
          `volume ${name} is not mounted by the CLI; run: holdfast volume mount ${name}`,
        )
      }
      if (this.#hold(volume, bindPrefix + at)) return
      if (mountAt(at))
        throw new AppError('FAILED_PRECONDITION', `something is mounted at ${at}; choose another directory`)
      const hold = newHold(volume, bindPrefix + at)
      await this.#core.catalog.write(putHold(hold)) // First, so that umount finds it whatever happens.
      await mount(mountpoint, at, { options: ['bind'] }).catch(async (error: unknown) => {
        await this.#core.catalog.write(dropHold(hold))
        throw error
      })
    })
  }

  resetCounts(): Promise<void> {
    return this.#core.catalog.write(resetHolds(cliMountId, [bindPrefix, backupPrefix]))
  }

  /** At the daemon's start: what a reboot has ended is forgotten, everything else is taken over as stale. */
  async takeOver(bootId: string): Promise<void> {
    const { catalog } = this.#core
    if (catalog.setting('boot-id') === bootId) return this.resetCounts()
    await catalog.write(dropAllHolds(), putSetting('boot-id', bootId))
  }

  /**
   * Unmounts and forgets what only stale ids hold and the kernel shows nowhere: left by containers whose Unmount never came.
   * A few at a time; failures are left for the next sweep.
   */
  async sweep(): Promise<void> {
    for (const volume of this.#leftOver().slice(0, sweepLimit)) {
      await this.#locked(volume.name, 'tidied up', () => this.#release(volume)).catch((error: Error) =>
        this.#core.log.warn({ subject: volume.name, error: error.message }, 'could not tidy up a left-over mount'),
      )
    }
  }

  #leftOver(): Volume[] {
    const holds = Map.groupBy(this.#core.catalog.allHolds(), (hold) => hold.volumeId)
    const mounted = new Set(readMounts().map(({ mountpoint }) => mountpoint))
    return this.#core.catalog.volumes().filter((volume) => {
      if (volume.damage !== undefined) return false
      const own = (holds.get(volume.id) ?? []).filter((hold) => hold.snapshotId === null)
      if (own.length === 0) return mounted.has(volumeTarget(this.#core, volume.name))
      return own.every((hold) => hold.stale)
    })
  }

  async #release(before: Volume): Promise<void> {
    const volume = this.#core.catalog.volume(before.name)
    if (!volume || volume.id !== before.id || (await kernelUses(this.#core, volume)) > 0) return
    const holds = this.#core.catalog.holds(volume.id).filter((hold) => hold.snapshotId === null)
    if (!holds.every((hold) => hold.stale)) return
    await this.#core.catalog.write(...holds.map(dropHold))
    await this.#unmountUnheld(volume)
  }

  /** Nothing is unmounted that an id holds, or that shows in another mount namespace (a lost id of a running container). */
  async #unmountUnheld(volume: Volume): Promise<void> {
    const held = this.#core.catalog.holds(volume.id).some((hold) => hold.snapshotId === null)
    if (held || volume.damage !== undefined) return
    const driver = await this.#core.drivers.ready(volume.driver)
    if (needsUnmount(this.#core, driver, volume) && (await kernelUses(this.#core, volume)) > 0) return
    await driver.unmount(this.#core.operations.plainContext(), volume, volumeTarget(this.#core, volume.name))
  }

  async #unbind(volume: Volume): Promise<void> {
    const binds = this.#core.catalog.holds(volume.id).filter((hold) => hold.snapshotId === null && isBind(hold))
    for (const hold of binds) {
      const at = hold.mountId.slice(bindPrefix.length)
      if (mountAt(at)) await unmount(at)
      await this.#core.catalog.write(dropHold(hold))
    }
  }

  #hold(volume: Volume, mountId: string): MountHold | undefined {
    return this.#core.catalog.holds(volume.id).find((hold) => hold.snapshotId === null && hold.mountId === mountId)
  }

  #locked<T>(name: string, participle: string, work: () => Promise<T>): Promise<T> {
    return this.#core.locks.with([mountKey(name)], `volume ${name} is being ${participle}`, work)
  }
}

function isBind(hold: MountHold): boolean {
  return isCliHold(hold) && hold.mountId !== cliMountId
}

/** False for a volume that is its own directory: there is nothing to detach, so nothing to look for. */
function needsUnmount(core: Core, driver: Driver, volume: Volume): boolean {
  return driver.mountpoint(volume, volumeTarget(core, volume.name)).startsWith(`${mountsFolder(core)}/`)
}
