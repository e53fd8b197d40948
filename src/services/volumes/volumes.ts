/** Volumes: create, list, inspect, remove, resize, trim, usage. Lock, journal, driver, catalog: always in this order. */

import { isDeepStrictEqual } from 'node:util'
import { putVolume } from '../../catalog/changes.ts'
import type { Driver, DriverContext } from '../../driver.ts'
import { AppError, isAppError, toAppError } from '../../errors.ts'
import { mountKey, volumeKey } from '../../locks.ts'
import type { Bytes, DriverState, Volume, VolumeSpec } from '../../model.ts'
import { parseSize } from '../../units.ts'
import { findBackup } from '../backups/backup-choice.ts'
import { backupUrl, parseBackup, requireTarget, type WantedBackup } from '../backups/repositories.ts'
import type { Restores } from '../backups/restores.ts'
import { type Core, findVolume, requireSnapshot, requireVolume, volumeTarget } from '../core.ts'
import type { CallOptions } from '../journal/contract.ts'
import { isShared } from '../shared/shared-copies.ts'
import { takeOver } from '../shared/takeover.ts'
import { inTurn, type Turn, unshared, withVolume } from '../shared/turn.ts'
import { changeHooks } from '../snapshots/hook-command.ts'
import { requireHooksAllowed } from '../snapshots/hooks.ts'
import type {
  CreateVolumeRequest,
  TakeoverView,
  UpdateVolumeRequest,
  VolumeFilter,
  VolumeService,
  VolumeView,
} from './contract.ts'
import { type CreatePlan, checkLength, differences, draftVolume, planCreate } from './create-plan.ts'
import { matches } from './filter.ts'
import { isDue, type Trash } from './trash.ts'
import { trimVolume } from './trim.ts'
import { requireUnused } from './use.ts'
import { volumeView, volumeViews } from './views.ts'

type Created = { volume: VolumeView; existed: boolean }

export class Volumes implements VolumeService {
  readonly #core: Core
  readonly #trash: Trash
  readonly #restores: Restores
  /** Creations that run, so that Docker's second try joins the first. */
  readonly #creating = new Map<string, { plan: CreatePlan; result: Promise<Created> }>()

  constructor(core: Core, trash: Trash, restores: Restores) {
    this.#core = core
    this.#trash = trash
    this.#restores = restores
  }

  async create(request: CreateVolumeRequest, call: CallOptions = {}): Promise<Created> {
    const plan = this.#plan(request)
    const running = this.#creating.get(plan.name)
    if (running) {
      if (isDeepStrictEqual(running.plan, plan)) return running.result
      throw new AppError(
        'ABORTED',
        `volume ${plan.name} is being created with other options; try again when that is done`,
      )
    }
    const result = this.#createLocked(plan, call).finally(() => this.#creating.delete(plan.name))
    this.#creating.set(plan.name, { plan, result })
    return result
  }

  list(filter: VolumeFilter = {}): VolumeView[] {
    return volumeViews(this.#core, this.#core.catalog.volumes()).filter((volume) => matches(volume, filter))
  }

  async inspect(name: string): Promise<VolumeView> {
    if (!this.#core.catalog.volume(name)) await this.#core.shared.discover(name)
    const volume = findVolume(this.#core, name)
    const view = volumeView(this.#core, volume)
    if (view.status !== 'ok') return view
    try {
      const driver = await this.#core.drivers.ready(volume.driver)
      const { used, size } = await driver.usage(
        this.#core.operations.plainContext(AbortSignal.timeout(5_000)),
        volume,
        false,
      )
      return { ...view, used, size }
    } catch (error) {
      const status = isAppError(error, 'NOT_FOUND') ? 'missing' : 'degraded'
      return { ...view, status, statusDetail: toAppError(error).message }
    }
  }

  async remove(name: string, options: { readonly purge?: boolean } & CallOptions = {}): Promise<void> {
    const trashed = await this.#core.locks.with(
      [volumeKey(name), mountKey(name)],
      `volume ${name} is being removed`,
      () =>
        withVolume(this.#core, name, async (turn, volume) => {
          await requireUnused(this.#core, volume)
          await turn.driver.unmount(this.#core.operations.plainContext(), volume, volumeTarget(this.#core, name))
          return this.#trash.discard(turn, volume, options.purge === true, options.operationId)
        }),
    )
    if (!trashed || !isDue(trashed)) return
    const purged = this.#trash.purge(trashed)
    if (options.purge) return purged
    purged.catch((error: Error) =>
      this.#core.log.warn({ subject: name, error: error.message }, 'could not purge; tried again later'),
    )
  }

  async resize(name: string, text: string, call: CallOptions = {}): Promise<VolumeView> {
    const size = parseSize(text)
    await this.#change(name, 'resized', async (turn, volume) => {
      const { driver } = turn
      const { resize } = driver
      if (!resize)
        throw new AppError('NOT_SUPPORTED', `volume ${name} cannot be resized: driver ${driver.name} has no resize`)
      const work = { kind: 'volume.resize', subject: name, payload: { id: volume.id, size }, id: call.operationId }
      await this.#core.operations.run(work, async (outer) => {
        const ctx = turn.within(outer)
        const resized = { ...volume, size, state: await resize.resize(ctx, volume, size) }
        await turn.publish(ctx, resized)
        return { result: undefined, changes: [putVolume(resized)] }
      })
    })
    return this.inspect(name)
  }

  async update(name: string, request: UpdateVolumeRequest): Promise<VolumeView> {
    await this.#change(name, 'changed', async (turn, volume) => {
      const { all: hooks, set } = changeHooks(volume.hooks, request)
      requireHooksAllowed(this.#core.config.hostHooks, set)
      checkLength(name, volume.options, volume.labels, hooks)
      await turn.publish(turn.within(this.#core.operations.plainContext()), { ...volume, hooks })
      await this.#core.catalog.write(putVolume({ ...volume, hooks }))
    })
    return this.inspect(name)
  }

  takeover(name: string, { force }: { readonly force: boolean }): Promise<TakeoverView> {
    return takeOver(this.#core, name, force)
  }

  async trim(names: readonly string[]): Promise<{ name: string; trimmed: Bytes }[]> {
    const all = names.length === 0
    const trimmed: { name: string; trimmed: Bytes }[] = []
    for (const name of all ? this.#names() : names) {
      const bytes = await trimVolume(this.#core, this.#core.operations.plainContext(), name).catch((error: unknown) => {
        if (all && isAppError(error, 'NOT_SUPPORTED', 'FAILED_PRECONDITION')) return undefined
        throw error
      })
      if (bytes !== undefined) trimmed.push({ name, trimmed: bytes })
    }
    return trimmed
  }

  async usage(names: readonly string[]): Promise<{ name: string; used: Bytes | null; size: Bytes | null }[]> {
    const found: { name: string; used: Bytes | null; size: Bytes | null }[] = []
    for (const name of names.length > 0 ? names : this.#names()) {
      const volume = requireVolume(this.#core, name)
      const driver = await this.#core.drivers.ready(volume.driver)
      found.push({ name, ...(await driver.usage(this.#core.operations.plainContext(), volume, true)) })
    }
    return found
  }

  #names(): string[] {
    return this.#core.catalog.volumes().flatMap((volume) => (volume.damage === undefined ? [volume.name] : []))
  }

  #plan(request: CreateVolumeRequest): CreatePlan {
    const { config, drivers } = this.#core
    const driverOf = (name: string): string => findVolume(this.#core, name).driver
    return planCreate(request, config.defaultDriver, (name) => drivers.required(name), driverOf)
  }

  #createLocked(plan: CreatePlan, call: CallOptions): Promise<Created> {
    const keys = [volumeKey(plan.name), ...(plan.source ? [volumeKey(plan.source.volume)] : [])]
    return this.#core.locks.with(keys, `volume ${plan.name} is being created`, () =>
      this.#inTurns(plan, async (turn) => {
        const existing = this.#core.catalog.volume(plan.name)
        const backup = this.#backupOf(plan)
        if (existing) {
          if (turn.isMissing) throw missing(existing)
          return { volume: volumeView(this.#core, satisfied(plan, backup, existing)), existed: true }
        }
        const volume = await (backup ? this.#restore(plan, backup, turn, call) : this.#make(plan, turn, call))
        return { volume: volumeView(this.#core, volume), existed: false }
      }),
    )
  }

  /** In a turn for the name, and for what it is cloned from. One that is known while its storage is away needs none: it is there. */
  async #inTurns(plan: CreatePlan, work: (turn: Turn) => Promise<Created>): Promise<Created> {
    const { catalog, drivers, shared } = this.#core
    const { name, source } = plan
    const known = catalog.volume(name)
    const wanted = known ?? plan
    const driver = drivers.required(wanted.driver)
    if (!isShared(driver) || (known && shared.views.away(known) !== undefined)) {
      return work({ driver, ...unshared })
    }
    await drivers.ready(wanted.driver)
    const key = { key: name, options: wanted.options }
    return inTurn(this.#core, driver, key, (turn) => {
      if (!source || catalog.volume(name)) return work(turn)
      return withVolume(this.#core, source.volume, () => work(turn))
    })
  }

  async #make(plan: CreatePlan, turn: Turn, call: CallOptions): Promise<Volume> {
    const driver = await this.#core.drivers.ready(plan.driver)
    const fill = this.#filler(plan, driver)
    requireHooksAllowed(this.#core.config.hostHooks, plan.hooks)
    // A clone has the limit that its snapshot has.
    const draft = draftVolume(plan, plan.source ? null : driver.defaultSize)
    const work = { kind: 'volume.create', subject: plan.name, payload: { volume: { ...draft } }, id: call.operationId }
    return this.#core.operations.run(
      work,
      async (outer) => {
        const ctx = turn.within(outer)
        const made = { ...draft, state: await fill(ctx, draft) }
        const { size } = plan.source ? await driver.usage(ctx, made, false) : made
        const volume = { ...made, size }
        await turn.publish(ctx, volume)
        return { result: volume, changes: [putVolume(volume)] }
      },
      async (ctx) => {
        if (!(await turn.isPublished(ctx, draft))) await driver.deleteVolume(ctx, draft)
      },
    )
  }

  /** The backup to begin as. @throws INVALID_ARGUMENT, NOT_FOUND for a target */
  #backupOf({ backup }: CreatePlan): WantedBackup | undefined {
    if (!backup) return undefined
    const wanted = parseBackup(this.#core, { backup: backup.ref })
    if (backup.target === undefined) return wanted
    const { access } = requireTarget(this.#core, backup.target)
    return { ...wanted, repository: { ...wanted.repository, access } }
  }

  async #restore(plan: CreatePlan, wanted: WantedBackup, turn: Turn, call: CallOptions): Promise<Volume> {
    requireHooksAllowed(this.#core.config.hostHooks, plan.hooks)
    const backup = await findBackup(this.#core, wanted, { meant: plan.name })
    return this.#restores.fill(draftVolume(plan), { repository: wanted.repository, backup }, '', turn, call)
  }

  /** The driver's call that makes the volume: empty, or from a snapshot. */
  #filler(plan: CreatePlan, driver: Driver): (ctx: DriverContext, spec: VolumeSpec) => Promise<DriverState> {
    if (!plan.source) return (ctx, spec) => driver.createVolume(ctx, spec)
    const source = requireVolume(this.#core, plan.source.volume)
    const snapshot = requireSnapshot(this.#core, source, plan.source.snapshot)
    const { clone } = driver
    if (!clone || source.driver !== driver.name) {
      throw new AppError(
        'NOT_SUPPORTED',
        `driver ${driver.name} cannot clone a snapshot of ${source.name}, which is kept by driver ${source.driver}`,
      )
    }
    return (ctx, spec) => clone.create(ctx, spec, source, snapshot)
  }

  #change(name: string, participle: string, work: (turn: Turn, volume: Volume) => Promise<void>): Promise<void> {
    return this.#core.locks.with([volumeKey(name)], `volume ${name} is being ${participle}`, () =>
      withVolume(this.#core, name, work),
    )
  }
}

/** An empty volume in its place would be taken for the one that was there. */
function missing({ name }: Volume): AppError {
  return new AppError(
    'FAILED_PRECONDITION',
    `volume ${name} is known here, but its storage does not have it any more; see that the right disk is mounted on the server, ` +
      `or forget the volume: holdfast volume rm ${name} --purge`,
  )
}

/** @throws ALREADY_EXISTS when the volume is not what was asked for */
function satisfied(plan: CreatePlan, backup: WantedBackup | undefined, volume: Volume): Volume {
  const found = [
    ...differences(plan, volume),
    ...(backup && !isFrom(backup, volume) ? [backupDifference(plan, volume)] : []),
  ]
  if (found.length === 0) return volume
  throw new AppError(
    'ALREADY_EXISTS',
    `volume ${plan.name} exists, but not as asked for: ${found.join('; ')}; take another name or remove it first`,
    {
      details: { differences: found },
    },
  )
}

/** The latest backup of today may not be the latest of the day when it was restored. */
function isFrom({ repository, id }: WantedBackup, { origin }: Volume): boolean {
  return origin?.startsWith(backupUrl(repository.url, id ?? '')) === true
}

function backupDifference({ backup }: CreatePlan, { origin }: Volume): string {
  return `from-backup is ${origin ?? 'not set'}, asked for ${backup?.ref}`
}
