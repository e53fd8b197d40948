/** Snapshots: create, list, remove, revert, mount read-only, compare. Lock, journal, driver, catalog: always in this order. */

import { randomUUID } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { dropHold, dropSnapshot, putHold, putSnapshot, putVolume } from '../../catalog/changes.ts'
import type { Driver, SnapshotCapability } from '../../driver.ts'
import { AppError } from '../../errors.ts'
import { mountKey, volumeKey } from '../../locks.ts'
import type { MountHold, Snapshot, Volume } from '../../model.ts'
import type { DockerApi } from '../../system/docker.ts'
import { mount, mountAt, readMounts, unmount } from '../../system/mount.ts'
import { diffTrees } from '../../system/tree-diff.ts'
import { parseSnapshotName, parseSnapshotRef } from '../../units.ts'
import {
  type Core,
  findVolume,
  mountsFolder,
  requireDirectory,
  requireSnapshot,
  requireVolume,
  snapshotTarget,
  volumeTarget,
} from '../core.ts'
import type { CallOptions } from '../journal/contract.ts'
import { now } from '../now.ts'
import { type Turn, withVolume } from '../shared/turn.ts'
import {
  beingBackedUp,
  bindPrefix,
  cliMountId,
  isBackupHold,
  isCliHold,
  newHold,
  requireUnused,
} from '../volumes/use.ts'
import { snapshotView } from '../volumes/views.ts'
import type { SnapshotService, SnapshotView } from './contract.ts'
import { parseHookTimeout } from './hook-command.ts'
import { type HookPlan, type HookRoom, planHooks, whileHooked } from './hooks.ts'
import { whilePaused } from './pause.ts'
import { timedName } from './timed-name.ts'

type CreateRequest = Parameters<SnapshotService['create']>[1]

/** What keeps writers still while a snapshot is made. */
interface Stillness {
  /** All of them are. */
  readonly frozen: boolean
  /** Containers to pause. */
  readonly paused: readonly string[]
  readonly hooks: HookPlan | null
}

/** What a call on one snapshot works with. */
interface Place {
  readonly volume: Volume
  readonly snapshot: Snapshot
  readonly driver: Driver
  readonly capability: SnapshotCapability
}

export class Snapshots implements SnapshotService {
  readonly #core: Core
  readonly #docker: DockerApi

  constructor(core: Core, docker: DockerApi) {
    this.#core = core
    this.#docker = docker
  }

  create(name: string, request: CreateRequest, call: CallOptions = {}): Promise<SnapshotView> {
    const wanted = request.name === undefined ? undefined : parseSnapshotName(request.name)
    const hookMs = request.hookTimeout === undefined ? undefined : parseHookTimeout(request.hookTimeout)
    return this.#changed(name, `a snapshot of volume ${name} is being created`, async (turn, volume) => {
      const draft = draftSnapshot(volume, wanted ?? timedName(this.#core, volume, 'auto'), request.labels ?? {})
      if (this.#core.catalog.snapshot(volume.id, draft.name)) {
        throw new AppError(
          'ALREADY_EXISTS',
          `snapshot ${name}@${draft.name} exists; choose another name or remove it first`,
        )
      }
      const hooks = await planHooks(this.#hookRoom, volume, draft.name, hookMs)
      const paused = request.pause ? await this.#docker.containersUsing(name) : []
      const frozen = request.pause === true && !this.#hasOtherWriters(volume)
      const snapshot = await this.#make(turn, volume, draft, { frozen, paused, hooks }, call)
      return snapshotView(this.#core, volume, snapshot, [])
    })
  }

  list(name?: string): SnapshotView[] {
    const volumes = name === undefined ? this.#core.catalog.volumes() : [findVolume(this.#core, name)]
    const byId = new Map(volumes.map((volume) => [volume.id, volume]))
    const holds = this.#core.catalog.allHolds().filter((hold) => hold.snapshotId !== null)
    const snapshots =
      name === undefined
        ? this.#core.catalog.allSnapshots()
        : volumes.flatMap(({ id }) => this.#core.catalog.snapshots(id))
    return snapshots.map((snapshot) => snapshotView(this.#core, byId.get(snapshot.volumeId) as Volume, snapshot, holds))
  }

  inspect(name: string, snapshotName: string): SnapshotView {
    const volume = findVolume(this.#core, name)
    const snapshot = requireSnapshot(this.#core, volume, snapshotName)
    return snapshotView(this.#core, volume, snapshot, this.#core.catalog.holds(volume.id))
  }

  remove(name: string, snapshotName: string, call: CallOptions = {}): Promise<void> {
    return this.#changed(name, `snapshot ${name}@${snapshotName} is being removed`, async (turn) => {
      const { volume, snapshot, capability } = await this.#place(name, snapshotName)
      const holds = this.#holds(volume, snapshot)
      const backup = holds.find(isBackupHold)
      if (backup) throw beingBackedUp(`snapshot ${name}@${snapshotName}`, backup)
      if (holds.length > 0) {
        throw new AppError(
          'IN_USE',
          `snapshot ${name}@${snapshotName} is mounted; run: holdfast snapshot umount ${name}@${snapshotName}`,
        )
      }
      await capability.unmount(
        this.#core.operations.plainContext(),
        volume,
        snapshot,
        snapshotTarget(this.#core, name, snapshotName),
      )
      const payload = { volumeId: volume.id, snapshotId: snapshot.id, name: snapshotName }
      const work = { kind: 'snapshot.delete', subject: `${name}@${snapshotName}`, payload, id: call.operationId }
      await this.#core.operations.run(work, async (ctx) => {
        await capability.delete(turn.within(ctx), volume, snapshot)
        return { result: undefined, changes: dropSnapshot(snapshot.id) }
      })
    })
  }

  revert(name: string, snapshotName: string, call: CallOptions = {}): Promise<void> {
    const keys = [volumeKey(name), mountKey(name)]
    return this.#core.locks.with(keys, `volume ${name} is being reverted to ${snapshotName}`, () =>
      withVolume(this.#core, name, (turn) => this.#revertLocked(turn, name, snapshotName, call)),
    )
  }

  async #revertLocked(turn: Turn, name: string, snapshotName: string, call: CallOptions): Promise<void> {
    const { volume, snapshot, driver } = await this.#place(name, snapshotName)
    const { revert } = driver
    if (!revert) throw new AppError('NOT_SUPPORTED', `volume ${name}: driver ${driver.name} cannot revert`)
    await requireUnused(this.#core, volume)
    await driver.unmount(this.#core.operations.plainContext(), volume, volumeTarget(this.#core, name))
    const payload = { volumeId: volume.id, snapshotName }
    const work = { kind: 'snapshot.revert', subject: `${name}@${snapshotName}`, payload, id: call.operationId }
    await this.#core.operations.run(work, async (outer) => {
      const ctx = turn.within(outer)
      const reverted = { ...volume, state: await revert.revert(ctx, volume, snapshot) }
      const { size } = await driver.usage(ctx, reverted, false)
      await turn.publish(ctx, { ...reverted, size })
      return { result: undefined, changes: [putVolume({ ...reverted, size })] }
    })
  }

  mount(name: string, snapshotName: string, at?: string): Promise<string> {
    return this.#locked(name, `snapshot ${name}@${snapshotName} is being mounted`, async () => {
      const place = await this.#place(name, snapshotName)
      const mountpoint = await this.#show(place)
      await this.#hold(place, cliMountId)
      if (at === undefined) return mountpoint
      const directory = requireDirectory(at)
      await this.#bindReadOnly(place, mountpoint, directory)
      return directory
    })
  }

  unmount(name: string, snapshotName: string): Promise<void> {
    return this.#locked(name, `snapshot ${name}@${snapshotName} is being unmounted`, async () => {
      const place = await this.#place(name, snapshotName)
      for (const hold of this.#holds(place.volume, place.snapshot).filter((it) => !isBackupHold(it))) {
        const at = hold.mountId.startsWith(bindPrefix) ? hold.mountId.slice(bindPrefix.length) : undefined
        if (at !== undefined) await unmount(at)
        await this.#core.catalog.write(dropHold(hold))
      }
      await this.#hideUnheld(place)
    })
  }

  /** Unmounts a snapshot, or closes its device, when nobody but `mountId` holds it. */
  close(name: string, snapshotName: string, mountId: string): Promise<void> {
    return this.#locked(name, `snapshot ${name}@${snapshotName} is being closed`, async () => {
      const place = await this.#place(name, snapshotName)
      if (this.#holds(place.volume, place.snapshot).every((hold) => hold.mountId === mountId)) await this.#hide(place)
    })
  }

  async diff(from: string, to: string): Promise<{ path: string; change: 'added' | 'removed' | 'modified' }[]> {
    const refs = [parseSnapshotRef(from), parseSnapshotRef(to)] as const
    const keys = refs.map(({ volume }) => volumeKey(volume))
    return this.#core.locks.with(keys, `${from} and ${to} are being compared`, async () => {
      const places = [
        await this.#place(refs[0].volume, refs[0].snapshot),
        await this.#place(refs[1].volume, refs[1].snapshot),
      ] as const
      try {
        const [before, after] = [await this.#show(places[0]), await this.#show(places[1])]
        return await diffTrees(before, after, {})
      } finally {
        for (const place of places) await this.#hideUnheld(place)
      }
    })
  }

  /** Unmounts snapshots that nobody holds: a crash has left them, such as one while they were compared. */
  async sweep(): Promise<void> {
    for (const { volume, snapshot } of this.#leftOver()) {
      await this.#locked(volume, `volume ${volume} is being tidied up`, async () =>
        this.#hideUnheld(await this.#place(volume, snapshot)),
      ).catch((error: Error) =>
        this.#core.log.warn(
          { subject: `${volume}@${snapshot}`, error: error.message },
          'could not tidy up a left-over mount',
        ),
      )
    }
  }

  get #hookRoom(): HookRoom {
    return { core: this.#core, docker: this.#docker }
  }

  #leftOver(): { volume: string; snapshot: string }[] {
    const folder = `${mountsFolder(this.#core)}/`
    return readMounts().flatMap(({ mountpoint }) => {
      const [name = '', snapshotName = ''] = mountpoint.startsWith(folder)
        ? mountpoint.slice(folder.length).split('@')
        : []
      const volume = this.#core.catalog.volume(name)
      const snapshot = volume && this.#core.catalog.snapshot(volume.id, snapshotName)
      return snapshot && this.#holds(volume, snapshot).length === 0 ? [{ volume: name, snapshot: snapshotName }] : []
    })
  }

  async #make(
    turn: Turn,
    volume: Volume,
    draft: Snapshot,
    { frozen, paused, hooks }: Stillness,
    call: CallOptions,
  ): Promise<Snapshot> {
    const capability = snapshotsOf(turn.driver, volume)
    const work = {
      kind: 'snapshot.create',
      subject: `${volume.name}@${draft.name}`,
      payload: { snapshot: { ...draft }, paused, hooks },
      id: call.operationId,
      onStarted: call.onStarted,
    }
    const spec = { id: draft.id, name: draft.name, frozen }
    return this.#core.operations.run(
      work,
      async (outer) => {
        const ctx = turn.within(outer)
        const before = this.#core.catalog.holds(volume.id)
        const take = () => capability.create(ctx, volume, spec)
        const pausing = () => whilePaused(this.#docker, paused, this.#core.log, take)
        const made = await whileHooked(this.#hookRoom, hooks, ctx.signal, pausing)
        // A container that was started during the copy was not paused.
        const disturbed = frozen && !isDeepStrictEqual(before, this.#core.catalog.holds(volume.id))
        const snapshot = { ...draft, ...made, atomic: made.atomic && !disturbed }
        await turn.publish(ctx, volume, [snapshot])
        return { result: snapshot, changes: [putSnapshot(snapshot)] }
      },
      (ctx) => capability.delete(ctx, volume, draft),
    )
  }

  /** Docker can pause its containers, but not who uses a CLI mount or a directory that is not ours. */
  #hasOtherWriters(volume: Volume): boolean {
    return 'adopt' in volume.options || this.#core.catalog.holds(volume.id).some(isCliHold)
  }

  async #place(name: string, snapshotName: string): Promise<Place> {
    const volume = requireVolume(this.#core, name)
    const snapshot = requireSnapshot(this.#core, volume, snapshotName)
    const driver = await this.#core.drivers.ready(volume.driver)
    return { volume, snapshot, driver, capability: snapshotsOf(driver, volume) }
  }

  async #show({ volume, snapshot, capability }: Place): Promise<string> {
    const target = snapshotTarget(this.#core, volume.name, snapshot.name)
    await capability.mount(this.#core.operations.plainContext(), volume, snapshot, target)
    return capability.mountpoint(volume, snapshot, target)
  }

  async #hide({ volume, snapshot, capability }: Place): Promise<void> {
    const target = snapshotTarget(this.#core, volume.name, snapshot.name)
    await capability.unmount(this.#core.operations.plainContext(), volume, snapshot, target)
  }

  async #hideUnheld(place: Place): Promise<void> {
    if (this.#holds(place.volume, place.snapshot).length === 0) await this.#hide(place)
  }

  async #bindReadOnly(place: Place, mountpoint: string, at: string): Promise<void> {
    if (mountAt(at))
      throw new AppError('FAILED_PRECONDITION', `${at} is a mountpoint already; choose another directory`)
    await mount(mountpoint, at, { options: ['bind', 'ro', 'nosuid', 'nodev'] })
    await this.#hold(place, bindPrefix + at)
  }

  async #hold({ volume, snapshot }: Place, mountId: string): Promise<void> {
    await this.#core.catalog.write(putHold(newHold(volume, mountId, snapshot)))
  }

  #holds(volume: Volume, snapshot: Snapshot): MountHold[] {
    return this.#core.catalog.holds(volume.id).filter((hold) => hold.snapshotId === snapshot.id)
  }

  #changed<T>(name: string, doing: string, work: (turn: Turn, volume: Volume) => Promise<T>): Promise<T> {
    return this.#locked(name, doing, () => withVolume(this.#core, name, work))
  }

  #locked<T>(name: string, doing: string, work: () => Promise<T>): Promise<T> {
    return this.#core.locks.with([volumeKey(name)], doing, work)
  }
}

function snapshotsOf(driver: Driver, volume: Volume): SnapshotCapability {
  if (driver.snapshots) return driver.snapshots
  throw new AppError('NOT_SUPPORTED', `volume ${volume.name}: driver ${driver.name} has no snapshots`)
}

function draftSnapshot(volume: Volume, name: string, labels: Readonly<Record<string, string>>): Snapshot {
  return {
    id: randomUUID(),
    volumeId: volume.id,
    name,
    createdAt: now(),
    labels,
    atomic: false,
    size: volume.size,
    used: null,
    state: null,
  }
}
