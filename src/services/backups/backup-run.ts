/**
 * One backup of one volume, from the source that is held for it to the entry of what was stored; for a call, and again for one that a crash or a stop
 * of the daemon has interrupted. The volume's lock is held only while the source is being held, so that containers start and stop meanwhile.
 *
 * A volume whose snapshots are cheap is read from one that is made for it and removed after; from it, as from one that the user names, nothing
 * changes meanwhile. Any other volume is mounted like for a container, and read as it is.
 */

import { hostname } from 'node:os'
import { amendOperation, type Change, dropHold, putHold, putLastBackup } from '../../catalog/changes.ts'
import type { BackupSource, DriverContext, SnapshotCapability } from '../../driver.ts'
import type { JobResult } from '../../engine/jobs.ts'
import { AppError } from '../../errors.ts'
import { volumeKey } from '../../locks.ts'
import {
  type Bytes,
  type Json,
  type LastBackup,
  type Snapshot,
  type StoreAccess,
  type Timestamp,
  type Volume,
  volumeLabel,
} from '../../model.ts'
import type { DockerApi } from '../../system/docker.ts'
import { version } from '../../version.ts'
import { type Core, requireSnapshot, requireVolume, snapshotTarget } from '../core.ts'
import type { Outcome } from '../journal/operations.ts'
import { now } from '../now.ts'
import { finishHooks, type HookPlan, planHooks, whileHooked } from '../snapshots/hooks.ts'
import { unpauseAll, whilePaused } from '../snapshots/pause.ts'
import type { Snapshots } from '../snapshots/snapshots.ts'
import type { Mounts } from '../volumes/mounts.ts'
import { backupPrefix, newHold } from '../volumes/use.ts'
import { withLimit } from './backup-limit.ts'
import type { BackupView } from './contract.ts'
import { backupUrl, backupView, placeOf } from './repositories.ts'
import type { RepositoryTurns } from './repository-turns.ts'
import { settleTimes } from './settle-times.ts'

/** On a snapshot that was made for a backup: the id of its operation. */
export const backupLabel = 'holdfast.backup'

/** What is stopped while a volume itself is read. */
type Stilled = { readonly since: Timestamp; readonly paused: readonly string[]; readonly hooks: HookPlan | null }

/** What the journal keeps of a backup: all that a later life needs to go on. */
export type BackupPlan = {
  readonly volumeId: string
  readonly volume: string
  /** Null: the volume itself is read. `made`: by this backup, for itself. */
  readonly snapshot: { readonly name: string; readonly made: boolean } | null
  readonly url: string
  readonly access: StoreAccess
  /** When it is a target's. */
  readonly repositoryId?: string
  /** The limit of the volume. */
  readonly size?: Bytes | null
  readonly labels: Readonly<Record<string, string>>
  /** Pause the containers while the snapshot is made, or while the volume itself is read. */
  readonly pause: boolean
  /** Set when the turn to read the volume itself has come. */
  readonly stilled: Stilled | null
}

export interface BackupRooms {
  readonly core: Core
  readonly docker: DockerApi
  readonly snapshots: Snapshots
  readonly mounts: Mounts
  readonly turns: RepositoryTurns
}

/** What a backup is compared with, and what it may leave out. */
interface Base {
  readonly last: LastBackup | undefined
  readonly snapshot: Snapshot | null
}

type Stored = JobResult<'backupTree'>

/** A resumed one waits so long for its volume: until recovery has let go of it. */
const longWaitMs = 2 ** 31 - 1

export class BackupRun {
  readonly #rooms: BackupRooms
  readonly #id: string
  readonly #plan: BackupPlan
  readonly #isResumed: boolean

  /** @param id of the operation */
  constructor(rooms: BackupRooms, id: string, plan: BackupPlan, isResumed: boolean) {
    this.#rooms = rooms
    this.#id = id
    this.#plan = plan
    this.#isResumed = isResumed
  }

  /** As the journal keeps it. */
  static payload(plan: BackupPlan): Json {
    return { ...plan, access: { ...plan.access } as Json }
  }

  /** Makes the backup. @returns it, with the changes that end its holds */
  async run(ctx: DriverContext): Promise<Outcome<BackupView>> {
    const repositoryId = await this.#repositoryId(ctx)
    const done = this.#plan.snapshot ? await this.#fromSnapshot(ctx, repositoryId) : await this.#live(ctx, repositoryId)
    const { stored, last } = done
    return { result: backupView(this.#plan.url, stored), changes: [putLastBackup(last), ...this.#release()] }
  }

  /** A target's is known; opening any other one shows early what is wrong with it. */
  async #repositoryId(ctx: DriverContext): Promise<string> {
    const { repositoryId } = this.#plan
    if (repositoryId !== undefined) return repositoryId
    return (await this.#rooms.core.engine.run(this.#place, 'open', {}, { signal: ctx.signal })).repositoryId
  }

  /** Lets go of what is held. Idempotent. */
  async undo(): Promise<void> {
    if (this.#isResumed) await this.#setFree()
    await this.#rooms.core.catalog.write(...this.#release())
  }

  async #fromSnapshot(ctx: DriverContext, repositoryId: string): Promise<{ stored: Stored; last: LastBackup }> {
    const { core, turns } = this.#rooms
    const { volume, snapshot, capability } = await this.#holdSnapshot(ctx)
    const read = async () => {
      const base = await this.#holdBase(volume, repositoryId)
      const target = snapshotTarget(core, volume.name, snapshot.name)
      const source = await capability.open(ctx, volume, snapshot, target, base.snapshot)
      const stored = await this.#store(ctx, source, base, snapshot.createdAt)
      const isKept = !this.#plan.snapshot?.made || source.kind === 'block'
      return { stored, last: this.#entry(repositoryId, stored, isKept ? snapshot.id : null) }
    }
    try {
      return await turns.with(this.#plan.url, ctx.signal, read)
    } finally {
      // Not in its turn: a restore may hold the volume's lock and wait for one.
      await this.#close(volume, snapshot)
    }
  }

  /** A device would stay open with the snapshot that is kept; a mount is only tidied up early. */
  async #close({ name }: Volume, snapshot: Snapshot): Promise<void> {
    const { core, snapshots } = this.#rooms
    await snapshots.close(name, snapshot.name, this.#holdId).catch((error: Error) => {
      core.log.warn({ subject: `${name}@${snapshot.name}`, error: error.message }, 'could not be closed after a backup')
    })
  }

  async #live(ctx: DriverContext, repositoryId: string): Promise<{ stored: Stored; last: LastBackup }> {
    const { core, docker, mounts, turns } = this.#rooms
    if (this.#isResumed) await this.#setFree()
    // Not in its turn: a restore may hold the volume's lock and wait for one.
    const { volume, root } = await this.#volume(async (found) => {
      return { volume: found, root: await mounts.keep(found.name, this.#holdId) }
    })
    return turns.with(this.#plan.url, ctx.signal, async () => {
      const source = { kind: 'tree', root, compare: 'inode' } as const
      const { since, paused, hooks } = await this.#still(volume)
      const store = async () => {
        await settleTimes(root, ctx.signal)
        return this.#store(ctx, source, { last: undefined, snapshot: null }, since)
      }
      const pausing = () => whilePaused(docker, paused, core.log, store)
      const stored = await whileHooked(this.#rooms, hooks, ctx.signal, pausing)
      return { stored, last: this.#entry(repositoryId, stored, null) }
    })
  }

  /** What an earlier life has stopped goes on. */
  async #setFree(): Promise<void> {
    const { core, docker } = this.#rooms
    const { stilled } = this.#plan
    if (!stilled) return
    await unpauseAll(docker, stilled.paused, core.log)
    await finishHooks(this.#rooms, stilled.hooks)
  }

  /** Decided only now: containers come and go while a backup waits for its turn. In the journal before anything is stopped. */
  async #still(volume: Volume): Promise<Stilled> {
    const { core, docker } = this.#rooms
    const paused = this.#plan.pause ? await docker.containersUsing(volume.name) : []
    const stilled = { since: now(), paused, hooks: await planHooks(this.#rooms, volume, null) }
    await core.catalog.write(amendOperation(this.#id, BackupRun.payload({ ...this.#plan, stilled })))
    return stilled
  }

  /** The snapshot to read, made when need be, with a hold that keeps it. @throws NOT_FOUND when it or the volume is gone */
  async #holdSnapshot(ctx: DriverContext) {
    const { core } = this.#rooms
    const { name, made } = this.#plan.snapshot as NonNullable<BackupPlan['snapshot']>
    if (made) await this.#makeSnapshot(ctx, name)
    return this.#volume(async (volume) => {
      const snapshot = requireSnapshot(core, volume, name)
      const driver = await core.drivers.ready(volume.driver)
      await core.catalog.write(putHold(newHold(volume, this.#holdId, snapshot)))
      return { volume, snapshot, capability: driver.snapshots as SnapshotCapability }
    })
  }

  /** One that an earlier life has made for this backup is as good. A cancel reaches its hooks, too. */
  async #makeSnapshot(ctx: DriverContext, name: string): Promise<void> {
    const { core, snapshots } = this.#rooms
    // Recovery may be finishing it.
    const existing = await this.#volume(async (volume) => core.catalog.snapshot(volume.id, name))
    if (existing?.labels[backupLabel] === this.#id) return
    let id: string | undefined
    const cancel = (): void => void (id !== undefined && core.operations.cancel(id))
    ctx.signal.addEventListener('abort', cancel, { once: true })
    try {
      ctx.signal.throwIfAborted()
      const request = { name, labels: { [backupLabel]: this.#id }, pause: this.#plan.pause }
      await snapshots.create(this.#plan.volume, request, { onStarted: (started) => (id = started) })
    } finally {
      ctx.signal.removeEventListener('abort', cancel)
    }
  }

  /** The last backup to this repository, and its snapshot, held, if it is still there. */
  async #holdBase(volume: Volume, repositoryId: string): Promise<Base> {
    const { catalog } = this.#rooms.core
    const last = catalog.lastBackups(volume.id).find((backup) => backup.repositoryId === repositoryId)
    const snapshot = catalog.snapshots(volume.id).find(({ id }) => id === last?.snapshotId) ?? null
    if (snapshot) await catalog.write(putHold(newHold(volume, this.#holdId, snapshot)))
    return { last, snapshot }
  }

  async #store(ctx: DriverContext, source: BackupSource, base: Base, createdAt: Timestamp): Promise<Stored> {
    const { engine } = this.#rooms.core
    const { volume, snapshot } = this.#plan
    const watch = { signal: ctx.signal, progress: ctx.progress }
    const program = `holdfast ${version}`
    const about = {
      createdAt,
      host: hostname(),
      volume,
      snapshot: snapshot && !snapshot.made ? snapshot.name : null,
      labels: this.#labels,
      program,
    }
    const stored = this.#isResumed ? await this.#findStored(ctx, about.createdAt) : undefined
    if (stored) return stored
    if (source.kind === 'tree') {
      const parent = source.compare === 'content' ? null : 'auto'
      const args = { root: source.root, about, parent }
      return engine.run(this.#place, 'backupTree', args, watch)
    }
    const { device, size, allocated, changed } = source
    const parent = base.snapshot ? (base.last?.backupId ?? null) : null
    return engine.run(this.#place, 'backupBlock', { device, size, allocated, changed, parent, about }, watch)
  }

  /** What an earlier life has stored, and could not write down. */
  async #findStored(ctx: DriverContext, createdAt: Timestamp): Promise<Stored | undefined> {
    const { volume } = this.#plan
    const times = [createdAt, this.#plan.stilled?.since]
    const known = JSON.stringify(this.#labels)
    const { engine } = this.#rooms.core
    const backups = await engine.run(this.#place, 'listBackups', { volume }, { signal: ctx.signal })
    return backups.findLast(
      (it) =>
        it.host === hostname() && times.includes(it.createdAt) && JSON.stringify(it.labels) === known && !it.damaged,
    )
  }

  #entry(repositoryId: string, { id, createdAt }: Stored, snapshotId: string | null): LastBackup {
    const { volumeId, url } = this.#plan
    return { volumeId, repositoryId, backupId: id, url: backupUrl(url, id), snapshotId, createdAt }
  }

  /** Works on the volume with its lock held. @throws NOT_FOUND when it is not what it was */
  #volume<T>(work: (volume: Volume) => Promise<T>): Promise<T> {
    const { core } = this.#rooms
    const { volume: name, volumeId } = this.#plan
    const waitMs = this.#isResumed ? longWaitMs : undefined
    const held = async (): Promise<T> => {
      const volume = requireVolume(core, name)
      if (volume.id === volumeId) return work(volume)
      throw new AppError(
        'NOT_FOUND',
        `the volume ${name} that was to be backed up is gone; there is another of its name`,
      )
    }
    return core.locks.with([volumeKey(name)], `a backup of volume ${name} is being begun`, held, waitMs)
  }

  get #labels(): Readonly<Record<string, string>> {
    const { labels, volumeId, size = null } = this.#plan
    return withLimit({ ...labels, [volumeLabel]: volumeId }, size)
  }

  get #place() {
    return placeOf(this.#plan)
  }

  get #holdId(): string {
    return backupPrefix + this.#id
  }

  #release(): Change[] {
    const holds = this.#rooms.core.catalog.holds(this.#plan.volumeId)
    return holds.filter(({ mountId }) => mountId === this.#holdId).map(dropHold)
  }
}
