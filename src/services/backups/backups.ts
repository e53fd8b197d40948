/**
 * Backups: creating them, and everything about those that are there. The engine works on repositories; here is decided what it works on, when,
 * and what the catalog remembers of it.
 */

import { randomUUID } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { dropLastBackup } from '../../catalog/changes.ts'
import type { DriverContext } from '../../driver.ts'
import type { JobResult } from '../../engine/jobs.ts'
import { AppError, isAppError } from '../../errors.ts'
import { isTrashed, type Operation, type Volume } from '../../model.ts'
import type { ListedFile } from '../../repository/list-files.ts'
import { parseRetention } from '../../repository/retention.ts'
import { orAborted } from '../../system/turns.ts'
import { parseSnapshotName, parseVolumeName } from '../../units.ts'
import { requireSnapshot, requireVolume } from '../core.ts'
import type { CallOptions } from '../journal/contract.ts'
import type { Outcome } from '../journal/operations.ts'
import { timedName } from '../snapshots/timed-name.ts'
import { findBackup, listed, wholeId } from './backup-choice.ts'
import { type BackupPlan, type BackupRooms, BackupRun, backupLabel } from './backup-run.ts'
import type {
  BackupFileView,
  BackupRef,
  BackupService,
  BackupView,
  CreateBackupRequest,
  ForgetDecision,
  ForgetRules,
  PruneView,
  RepositoryRef,
  RestoredView,
  RestoreRequest,
  VerifyView,
} from './contract.ts'
import {
  backupUrl,
  backupView,
  type FoundRepository,
  findRepository,
  parseBackup,
  placeOf,
  type WantedBackup,
} from './repositories.ts'
import { damageOf, lossOf } from './repository-damage.ts'
import type { Restores } from './restores.ts'
import { requireOutside } from './target-place.ts'

/** A backup that runs, so that the same request joins it. */
interface Running {
  /** Of the operation, once it is in the journal. */
  readonly started: Promise<string>
  readonly wanted: Wanted
  readonly result: Promise<BackupView>
}

type Wanted = Pick<BackupPlan, 'volumeId' | 'url' | 'labels' | 'pause'> & { readonly snapshot: string | null }

export class Backups implements BackupService {
  readonly #rooms: BackupRooms
  readonly #restores: Restores
  /** By volume and repository. */
  readonly #running = new Map<string, Running>()

  constructor(rooms: BackupRooms, restores: Restores) {
    this.#rooms = rooms
    this.#restores = restores
  }

  async create(request: CreateBackupRequest, call: CallOptions = {}): Promise<BackupView> {
    const { core } = this.#rooms
    const volume = requireVolume(core, parseVolumeName(request.volume))
    const snapshot = request.snapshot === undefined ? null : parseSnapshotName(request.snapshot)
    if (snapshot !== null) requireSnapshot(core, volume, snapshot)
    const repository = findRepository(core, request.to)
    await requireOutside(core, volume, repository)
    const { labels = {}, pause = false } = request
    const wanted: Wanted = { volumeId: volume.id, url: repository.url, snapshot, labels, pause }
    const running = this.#running.get(keyOf(wanted))
    if (running) return join(running, wanted, volume.name, call)
    return this.#track(wanted, async (started) => {
      const id = call.operationId ?? randomUUID()
      const plan = await this.#plan(id, volume, wanted, repository)
      const onStarted = (id: string): void => {
        started(id)
        call.onStarted?.(id)
      }
      const work = { kind: 'backup.create', subject: subjectOf(plan), payload: BackupRun.payload(plan), id, onStarted }
      const run = new BackupRun(this.#rooms, id, plan, false)
      return core.operations.run(
        { ...work, resumable: true },
        (ctx) => run.run(ctx),
        () => run.undo(),
      )
    })
  }

  /** Goes on with one that an earlier life has begun; its failure is written down, and no error. */
  async resume(operation: Operation): Promise<void> {
    const { core } = this.#rooms
    const plan = operation.payload as unknown as BackupPlan
    const snapshot = plan.snapshot && !plan.snapshot.made ? plan.snapshot.name : null
    const driver = core.catalog.volume(plan.volume)?.driver
    const result = this.#track({ ...plan, snapshot }, async (started) => {
      started(operation.id)
      const run = new BackupRun(this.#rooms, operation.id, plan, true)
      const body = async (ctx: DriverContext): Promise<Outcome<BackupView>> => {
        if (driver !== undefined) await orAborted(core.drivers.started(driver), ctx.signal)
        return run.run(ctx)
      }
      return core.operations.resume(operation, body, () => run.undo())
    })
    await result.catch(() => undefined)
  }

  async list(where: RepositoryRef, volume?: string): Promise<BackupView[]> {
    const { core } = this.#rooms
    const repository = findRepository(core, where)
    const found = await core.engine.run(placeOf(repository), 'listBackups', volume === undefined ? {} : { volume })
    return found.map((backup) => backupView(repository.url, backup))
  }

  async inspect(ref: BackupRef): Promise<BackupView> {
    const { repository, backup } = await this.#find(ref)
    return backupView(repository.url, backup)
  }

  async listFiles(
    ref: BackupRef,
    path: string,
    take: (files: readonly BackupFileView[]) => Promise<void>,
    signal?: AbortSignal,
  ): Promise<void> {
    const { repository, backup } = await this.#find(ref, signal)
    const args = { backup: backup.id, path, recursive: true }
    const hand = (files: readonly unknown[]) => take((files as readonly ListedFile[]).map(fileView))
    await this.#rooms.core.engine.run(placeOf(repository), 'listFiles', args, { signal, take: hand })
  }

  restore(request: RestoreRequest, call: CallOptions = {}): Promise<RestoredView> {
    return this.#restores.restore(request, call)
  }

  async remove(refs: readonly BackupRef[]): Promise<string[]> {
    const found: { repository: FoundRepository; id: string }[] = []
    const wanted = refs.map((ref) => {
      const one = parseBackup(this.#rooms.core, ref)
      requireNotMoving(ref.backup, one)
      return one
    })
    for (const one of wanted) found.push({ repository: one.repository, id: await this.#idToRemove(one) })
    for (const ofOne of Map.groupBy(found, ({ repository }) => repository.url).values()) {
      const [{ repository }] = ofOne as [(typeof ofOne)[number]]
      await this.#delete(
        repository,
        ofOne.map(({ id }) => id),
      )
    }
    return found.map(({ repository, id }) => backupUrl(repository.url, id))
  }

  /** One whose manifest cannot be read is found by its whole id. */
  async #idToRemove(wanted: WantedBackup): Promise<string> {
    try {
      return (await findBackup(this.#rooms.core, wanted)).id
    } catch (error) {
      if (wanted.id?.length !== wholeId || !isAppError(error, 'CORRUPT')) throw error
      return wanted.id
    }
  }

  async verify(
    where: RepositoryRef | BackupRef,
    { readData }: { readonly readData: boolean },
    call: CallOptions = {},
  ): Promise<VerifyView> {
    const one = 'backup' in where ? await this.#find(where) : undefined
    const repository = one?.repository ?? findRepository(this.#rooms.core, where as RepositoryRef)
    const args = { readData, backup: one?.backup.id ?? null }
    const verify = (ctx: DriverContext) => this.#rooms.core.engine.run(placeOf(repository), 'verify', args, watch(ctx))
    const found = await this.#heavy(repository, 'backup.verify', call, verify, damageOf)
    const damaged = found.damaged.map(({ id, volume, paths }) => ({
      url: backupUrl(repository.url, id),
      volume,
      paths,
    }))
    return { ...found, damaged }
  }

  repair(
    where: RepositoryRef,
    options: { readonly readData: boolean },
    call: CallOptions = {},
  ): Promise<JobResult<'repair'>> {
    const repository = findRepository(this.#rooms.core, where)
    const repair = (ctx: DriverContext) =>
      this.#rooms.core.engine.run(placeOf(repository), 'repair', options, watch(ctx))
    return this.#heavy(repository, 'backup.repair', call, repair, lossOf)
  }

  async forget(
    where: RepositoryRef,
    { volume, keep, labels = {}, host, timeZone, dryRun = false, prune = false }: ForgetRules,
    call: CallOptions = {},
  ): Promise<{ decisions: ForgetDecision[]; prune: PruneView | null }> {
    const { core } = this.#rooms
    const repository = findRepository(core, where)
    const zone = timeZone ?? Intl.DateTimeFormat().resolvedOptions().timeZone
    const args = { volume, host: host ?? null, labels, policy: parseRetention(keep), timeZone: zone, dryRun }
    return this.#heavy(repository, 'backup.forget', call, async (ctx) => {
      const decided = await core.engine.run(placeOf(repository), 'forget', args, watch(ctx))
      if (decided.length === 0) await this.#requireBackupsOf(repository, volume, ctx)
      const gone = dryRun ? [] : decided.filter((it) => !it.keep).map(({ backup }) => backup.id)
      await core.catalog.write(...gone.map(dropLastBackup))
      const pruned = prune && !dryRun ? await this.#prune(repository, false, ctx) : null
      return {
        decisions: decided.map((it) => ({ ...it, backup: backupView(repository.url, it.backup) })),
        prune: pruned,
      }
    })
  }

  prune(where: RepositoryRef, { dryRun }: { readonly dryRun: boolean }, call: CallOptions = {}): Promise<PruneView> {
    const repository = findRepository(this.#rooms.core, where)
    return this.#heavy(repository, 'backup.prune', call, (ctx) => this.#prune(repository, dryRun, ctx))
  }

  /**
   * Removes the snapshots that backups have made for themselves and that none needs any more, and unmounts what they have read. What fails is left
   * for the next time.
   */
  async sweep(): Promise<void> {
    const { core, snapshots } = this.#rooms
    const running = new Set(core.catalog.runningOperations().map(({ id }) => id))
    const bases = new Set(core.catalog.allLastBackups().map(({ snapshotId }) => snapshotId))
    for (const { id, volumeId, name, labels, damage } of core.catalog.allSnapshots()) {
      const owner = labels[backupLabel]
      if (owner === undefined || running.has(owner) || bases.has(id) || damage !== undefined) continue
      const volume = core.catalog.volumeById(volumeId)?.name ?? ''
      await snapshots.remove(volume, name).catch((error: Error) => {
        core.log.warn(
          { subject: `${volume}@${name}`, error: error.message },
          'could not remove the snapshot of a backup',
        )
      })
    }
    await snapshots.sweep()
  }

  /** Runs `work` as the one backup of its volume to its repository. */
  async #track(wanted: Wanted, work: (started: (id: string) => void) => Promise<BackupView>): Promise<BackupView> {
    const { promise: started, resolve } = Promise.withResolvers<string>()
    const result = work(resolve)
    const running = { started, wanted: pickWanted(wanted), result }
    this.#running.set(keyOf(wanted), running)
    try {
      return await result
    } finally {
      this.#running.delete(keyOf(wanted))
      if (!this.#rooms.core.operations.stopping) await this.#letGo(wanted)
    }
  }

  /** What a backup has mounted or made for itself; never its failure. */
  async #letGo({ volumeId }: Wanted): Promise<void> {
    const { core, mounts } = this.#rooms
    try {
      const volume = core.catalog.volumeById(volumeId)
      // Of an id that holds nothing any more: unmounts what nobody holds.
      if (volume && !isTrashed(volume)) await mounts.unmount(volume.name, '')
      await this.sweep()
    } catch (error) {
      core.log.warn({ error: (error as Error).message }, 'could not tidy up after a backup; tried again later')
    }
  }

  async #plan(id: string, volume: Volume, wanted: Wanted, repository: FoundRepository): Promise<BackupPlan> {
    const { core } = this.#rooms
    const { snapshot: named, labels, pause } = wanted
    const driver = await core.drivers.ready(volume.driver)
    const isCheap = named === null && (await driver.snapshots?.isCheap(core.operations.plainContext(), volume)) === true
    // Two backups of a volume, to two repositories, may begin in the same second.
    const made = isCheap ? { name: `${timedName(core, volume, 'backup')}-${id.slice(0, 8)}`, made: true } : null
    const snapshot = named === null ? made : { name: named, made: false }
    const { url, access, repositoryId } = repository
    const where = { url, access, ...(repositoryId !== undefined && { repositoryId }) }
    return {
      volumeId: volume.id,
      volume: volume.name,
      size: volume.size,
      snapshot,
      ...where,
      labels,
      pause,
      stilled: null,
    }
  }

  async #find(ref: BackupRef, signal?: AbortSignal) {
    const wanted = parseBackup(this.#rooms.core, ref)
    return { repository: wanted.repository, backup: await findBackup(this.#rooms.core, wanted, { signal }) }
  }

  async #delete(repository: FoundRepository, ids: readonly string[]): Promise<void> {
    const { core } = this.#rooms
    await core.engine.run(placeOf(repository), 'deleteBackups', { ids })
    await core.catalog.write(...ids.map(dropLastBackup))
  }

  /** Journalled work on a whole repository, when it is its turn. @param verdict what of its result the journal shows as an error */
  #heavy<T>(
    repository: FoundRepository,
    kind: string,
    call: CallOptions,
    work: (ctx: DriverContext) => Promise<T>,
    verdict: (result: T) => AppError | undefined = () => undefined,
  ): Promise<T> {
    const { core, turns } = this.#rooms
    const entry = { kind, subject: repository.name, payload: {}, id: call.operationId, onStarted: call.onStarted }
    return core.operations.run(entry, async (ctx) => {
      const result = await turns.with(repository.url, ctx.signal, () => work(ctx))
      return { result, changes: [], verdict: verdict(result) }
    })
  }

  /** @throws NOT_FOUND, with the volumes that there are backups of */
  async #requireBackupsOf(repository: FoundRepository, volume: string, { signal }: DriverContext): Promise<void> {
    const backups = await this.#rooms.core.engine.run(placeOf(repository), 'listBackups', {}, { signal })
    const volumes = new Set(backups.map((backup) => backup.volume))
    if (volumes.has(volume)) return
    const others = volumes.size === 0 ? 'nor any other' : `only of ${listed(volumes)}`
    throw new AppError('NOT_FOUND', `there is no backup of volume ${volume} in ${repository.name}, ${others}`)
  }

  async #prune(repository: FoundRepository, dryRun: boolean, ctx: DriverContext): Promise<PruneView> {
    const { engine } = this.#rooms.core
    const { deleted, condemned, copied, remaining } = await engine.run(
      placeOf(repository),
      'prune',
      { dryRun },
      watch(ctx),
    )
    return { deleted, condemned, copied, remaining }
  }
}

function watch({ signal, progress }: DriverContext): Pick<DriverContext, 'signal' | 'progress'> {
  return { signal, progress }
}

function keyOf({ volumeId, url }: Wanted): string {
  return `${volumeId} ${url}`
}

function pickWanted({ volumeId, url, snapshot, labels, pause }: Wanted): Wanted {
  return { volumeId, url, snapshot, labels, pause }
}

const noId = (): undefined => undefined

/** @throws ABORTED when the one that runs is another one, with its `operation` among the details */
async function join(running: Running, wanted: Wanted, name: string, call: CallOptions): Promise<BackupView> {
  if (!isDeepStrictEqual(running.wanted, wanted)) {
    // It may fail before it is in the journal.
    const operation = await Promise.race([running.started, running.result.then(noId, noId)])
    const message = `a backup of volume ${name} to ${wanted.url} runs already; try again when that is done`
    throw new AppError('ABORTED', message, { details: operation === undefined ? {} : { operation } })
  }
  void running.started.then((id) => call.onStarted?.(id))
  return running.result
}

/** @throws INVALID_ARGUMENT for what will be another backup's name tomorrow */
function requireNotMoving(text: string, { id, repository }: WantedBackup): void {
  if (id !== null) return
  const remedy = `give the id: holdfast backup ls ${repository.name}`
  throw new AppError('INVALID_ARGUMENT', `'${text}' is a moving name, and nothing is removed by one; ${remedy}`)
}

function subjectOf({ volume, snapshot }: BackupPlan): string {
  return snapshot && !snapshot.made ? `${volume}@${snapshot.name}` : volume
}

/** The farthest from the epoch that a date can be, in ms: a file may say any time. */
const farthestMs = 8_640_000_000_000_000n

function fileView(file: ListedFile): BackupFileView {
  const { path, type, mode, uid, gid, size, mtimeNs, target } = file
  const ms = mtimeNs / 1_000_000n
  const shownMs = ms > farthestMs ? farthestMs : ms < -farthestMs ? -farthestMs : ms
  const modifiedAt = new Date(Number(shownMs)).toISOString()
  return { path, type, mode: mode & 0o7777, uid, gid, size, modifiedAt, target }
}
