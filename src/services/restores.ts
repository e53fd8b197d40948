/**
 * Restores: to a new volume, which shows under its name only when it is complete, and in place, by a hidden volume that is filled and then takes
 * the place of the content. Resumed by the same steps; an error or a cancel leaves what was there before. The caller's locks, and recovery's, keep
 * everybody else away from the name meanwhile.
 */

import { randomUUID } from 'node:crypto'
import { amendOperation, dropSnapshot, insertSnapshot, putVolume } from '../catalog/changes.ts'
import type { CloneCapability, Driver, DriverContext, ReplaceCapability, SnapshotCapability } from '../driver.ts'
import { AppError, toAppError } from '../errors.ts'
import { mountKey, volumeKey } from '../locks.ts'
import type { Json, Operation, Snapshot, StoreAccess, Volume, VolumeSpec } from '../model.ts'
import { syncFileSystem } from '../system/files.ts'
import { parseVolumeName } from '../units.ts'
import type { CallOptions, RestoreRequest, VolumeView } from './contract.ts'
import { type Core, hiddenTarget, now, requireVolume, volumeTarget } from './core.ts'
import { timedName } from './names.ts'
import { leftOpen, type Outcome } from './operations.ts'
import { backupUrl, type FoundRepository, findBackup, parseBackup, placeOf, type WantedBackup } from './repositories.ts'
import { putInPlace, stagingIn } from './restore-path.ts'
import type { RepositoryTurns } from './turns.ts'
import { requireUnused } from './use.ts'
import { volumeView } from './views.ts'

/** What is restored, as the journal keeps it. */
type Source = {
  readonly url: string
  readonly access: StoreAccess
  readonly backup: string
  /** '' for all. */
  readonly path: string
}

type NewPlan = { readonly source: Source; readonly volume: Volume }

type InPlacePlan = {
  readonly source: Source
  readonly volumeId: string
  readonly safety: Snapshot
  /** Filled, and then the volume's content. */
  readonly hidden: VolumeSpec
  /** Set when it is filled: from then on it is finished, and not undone. */
  readonly filled: Volume | null
}

/** What a restore in place needs of the driver. */
interface Tools {
  readonly driver: Driver
  readonly snapshots: SnapshotCapability
  readonly replace: ReplaceCapability
  /** Undefined when all is restored. */
  readonly clone: CloneCapability | undefined
}

export class Restores {
  readonly #core: Core
  readonly #turns: RepositoryTurns

  constructor(core: Core, turns: RepositoryTurns) {
    this.#core = core
    this.#turns = turns
  }

  async restore(request: RestoreRequest, call: CallOptions = {}): Promise<VolumeView> {
    const name = parseVolumeName(request.to)
    const wanted = parseBackup(this.#core, request.from)
    const path = checkPath(request.path ?? '')
    if (request.inPlace) return this.#inPlace(name, wanted, path, call)
    const driver = request.driver ?? this.#core.config.defaultDriver
    this.#core.drivers.required(driver)
    return this.#core.locks.with([volumeKey(name)], `volume ${name} is being restored`, async () => {
      if (this.#core.catalog.volume(name)) {
        const remedy = 'restore to another name, or replace its content: --in-place'
        throw new AppError('ALREADY_EXISTS', `volume ${name} exists; ${remedy}`)
      }
      const draft = { ...emptyVolume(name, driver), createdAt: now() }
      return volumeView(this.#core, await this.fill(draft, wanted, path, call))
    })
  }

  /**
   * Makes `draft` a volume with the content of a backup. The caller holds its lock and knows that its name is free.
   * @throws NOT_FOUND, NOT_SUPPORTED for a backup that the driver cannot take, and what the driver and the engine throw
   */
  async fill(draft: Volume, wanted: WantedBackup, path: string, call: CallOptions): Promise<Volume> {
    const driver = await this.#core.drivers.ready(draft.driver)
    const source = await this.#source(wanted, path, driver)
    const plan: NewPlan = { source, volume: { ...draft, origin: backupUrl(source.url, source.backup) } }
    const work = workOf(plan, draft.name, call)
    return this.#core.operations.run(
      work,
      (ctx) => this.#makeNew(ctx, plan, driver),
      (ctx) => this.#discard(ctx, driver, plan.volume),
    )
  }

  /** Goes on with one that an earlier life has begun, whose locks the caller holds; its failure is written down, and no error. */
  async resume(operation: Operation): Promise<void> {
    const plan = operation.payload as unknown as NewPlan | InPlacePlan
    const result = 'volume' in plan ? this.#resumeNew(operation, plan) : this.#resumeInPlace(operation, plan)
    await result.catch(() => undefined)
  }

  async #resumeNew(operation: Operation, plan: NewPlan): Promise<void> {
    const driver = await this.#core.drivers.started(plan.volume.driver)
    await this.#core.operations.resume(
      operation,
      (ctx) => this.#makeNew(ctx, plan, driver),
      (ctx) => this.#discard(ctx, driver, plan.volume),
    )
  }

  async #makeNew(ctx: DriverContext, plan: NewPlan, driver: Driver): Promise<Outcome<Volume>> {
    const volume = { ...plan.volume, state: await driver.createVolume(ctx, plan.volume) }
    await this.#shown(driver, volume, (root) => this.#restoreInto(ctx, plan.source, root))
    return { result: volume, changes: [putVolume(volume)] }
  }

  #inPlace(name: string, wanted: WantedBackup, path: string, call: CallOptions): Promise<VolumeView> {
    const keys = [volumeKey(name), mountKey(name)]
    return this.#core.locks.with(keys, `volume ${name} is being restored in place`, async () => {
      const volume = requireVolume(this.#core, name)
      const driver = await this.#core.drivers.ready(volume.driver)
      const tools = toolsOf(driver, volume, path)
      await requireUnused(this.#core, volume)
      const plan = this.#planInPlace(volume, await this.#source(wanted, path, driver))
      await driver.unmount(this.#core.operations.plainContext(), volume, volumeTarget(this.#core, name))
      const id = call.operationId ?? randomUUID()
      const replaced = await this.#core.operations.run(
        { ...workOf(plan, name, call), id },
        (ctx) => this.#replaceContent(ctx, id, plan, volume, tools),
        (ctx) => this.#undoInPlace(ctx, id, plan, volume, tools),
      )
      this.#core.log.info(
        { subject: name, snapshot: plan.safety.name },
        'restored in place; what was before is in the snapshot',
      )
      return volumeView(this.#core, replaced)
    })
  }

  async #resumeInPlace(operation: Operation, plan: InPlacePlan): Promise<void> {
    const volume = this.#core.catalog.volumeById(plan.volumeId)
    if (!volume) {
      const gone = new AppError('NOT_FOUND', 'the volume is gone')
      return this.#core.operations.close(operation, 'failed', [], gone)
    }
    const tools = toolsOf(await this.#core.drivers.started(volume.driver), volume, plan.source.path)
    await this.#core.operations.resume(
      operation,
      (ctx) => this.#goOnInPlace(ctx, operation.id, plan, volume, tools),
      (ctx) => this.#undoInPlace(ctx, operation.id, plan, volume, tools),
    )
  }

  async #goOnInPlace(ctx: DriverContext, id: string, plan: InPlacePlan, volume: Volume, tools: Tools) {
    if (!plan.filled) {
      await requireUnused(this.#core, volume)
      // Of a path that was half put in its place nobody knows how far that had come.
      if (plan.source.path !== '') await this.#discard(ctx, tools.driver, asVolume(volume, plan.hidden))
      return this.#replaceContent(ctx, id, plan, volume, tools)
    }
    try {
      // The content may be half replaced: no cancel can undo that.
      await requireUnused(this.#core, volume)
      return await this.#replaceContent(this.#core.operations.plainContext(), id, plan, volume, tools)
    } catch (error) {
      throw leftOpen(toAppError(error))
    }
  }

  #planInPlace(volume: Volume, source: Source): InPlacePlan {
    const id = randomUUID()
    const { size, options } = volume
    return {
      source,
      volumeId: volume.id,
      safety: {
        id: randomUUID(),
        volumeId: volume.id,
        name: timedName(this.#core, volume, 'before-restore'),
        createdAt: now(),
        labels: {},
        atomic: true,
        size,
        used: null,
        state: null,
      },
      hidden: { id, name: `restore-${id.replaceAll('-', '').slice(0, 12)}`, size, options },
      filled: null,
    }
  }

  async #replaceContent(
    ctx: DriverContext,
    id: string,
    plan: InPlacePlan,
    volume: Volume,
    tools: Tools,
  ): Promise<Outcome<Volume>> {
    const filled = plan.filled ?? (await this.#fillHidden(ctx, plan, volume, tools))
    if (!plan.filled) await this.#noteFilled(id, plan, filled)
    const result = await replaceBy(ctx, volume, filled, tools)
    return { result, changes: [putVolume(result)] }
  }

  #noteFilled(id: string, plan: InPlacePlan, filled: Volume | null): Promise<void> {
    return this.#core.catalog.write(amendOperation(id, { ...plan, filled } as unknown as Json))
  }

  async #fillHidden(ctx: DriverContext, plan: InPlacePlan, volume: Volume, tools: Tools): Promise<Volume> {
    const { driver, clone } = tools
    const { hidden, source } = plan
    const safety = await this.#takeSafety(ctx, plan, volume, tools)
    const state = await (clone ? clone.create(ctx, hidden, volume, safety) : driver.createVolume(ctx, hidden))
    const filled = { ...asVolume(volume, hidden), state }
    await this.#shown(driver, filled, async (root) => {
      if (!clone) return this.#restoreInto(ctx, source, root)
      const staging = await stagingIn(root)
      await this.#restoreInto(ctx, source, staging)
      await putInPlace(root, staging, source.path, ctx.signal)
      await syncFileSystem(root, ctx.signal)
    })
    return filled
  }

  /** The snapshot of what is there now; kept, so that a restore of the wrong backup can be undone. */
  async #takeSafety(
    ctx: DriverContext,
    { safety }: InPlacePlan,
    volume: Volume,
    { snapshots }: Tools,
  ): Promise<Snapshot> {
    const existing = this.#core.catalog.snapshot(volume.id, safety.name)
    if (existing) return existing
    const taken = await snapshots.create(ctx, volume, { id: safety.id, name: safety.name, frozen: true })
    const snapshot = { ...safety, ...taken }
    await this.#core.catalog.write(insertSnapshot(snapshot))
    return snapshot
  }

  /**
   * What was there is still there, and the snapshot of it of no use; unless the content has left the hidden volume: then that snapshot may be
   * all that is left, and the replacing is ended.
   */
  async #undoInPlace(ctx: DriverContext, id: string, plan: InPlacePlan, volume: Volume, tools: Tools): Promise<void> {
    const { driver, snapshots } = tools
    const { filled } = (this.#core.catalog.operation(id)?.payload ?? plan) as unknown as InPlacePlan
    const { safety } = plan
    if (filled && !(await driver.findVolume(ctx, filled))) {
      await this.#core.catalog.write(putVolume(await replaceBy(ctx, volume, filled, tools)))
      const fields = { subject: volume.name, snapshot: safety.name }
      return this.#core.log.warn(fields, 'replaced all the same: it failed too late to be undone; see the snapshot')
    }
    // A hidden volume that is gone must not be taken for one whose content has moved.
    if (filled) await this.#noteFilled(id, plan, null)
    await this.#discard(ctx, driver, asVolume(volume, plan.hidden))
    await snapshots.delete(ctx, volume, this.#core.catalog.snapshot(volume.id, safety.name) ?? safety)
    await this.#core.catalog.write(...dropSnapshot(safety.id))
  }

  /** @throws NOT_FOUND, NOT_SUPPORTED */
  async #source(wanted: WantedBackup, path: string, driver: Driver): Promise<Source> {
    const backup = await findBackup(this.#core, wanted)
    // A driver that offers a device to restore onto would be asked here.
    if (backup.kind === 'block') {
      const fact = `is of a block device, and driver ${driver.name} keeps directories`
      throw new AppError('NOT_SUPPORTED', `backup ${backup.id} ${fact}; restore it with a driver of block devices`)
    }
    const { url, access } = wanted.repository as FoundRepository
    return { url, access, backup: backup.id, path }
  }

  async #restoreInto(ctx: DriverContext, source: Source, target: string): Promise<void> {
    const args = { backup: source.backup, target, path: source.path }
    const watch = { signal: ctx.signal, progress: ctx.progress }
    const work = () => this.#core.engine.run(placeOf(source), 'restoreTree', args, watch)
    await this.#turns.with(source.url, ctx.signal, work)
    await syncFileSystem(target, ctx.signal)
  }

  /** Mounts the volume where nobody looks while `work` runs. */
  async #shown(driver: Driver, volume: Volume, work: (root: string) => Promise<void>): Promise<void> {
    const ctx = this.#core.operations.plainContext()
    const target = hiddenTarget(this.#core, volume.id)
    await driver.mount(ctx, volume, target)
    try {
      await work(driver.mountpoint(volume, target))
    } finally {
      await driver.unmount(ctx, volume, target)
    }
  }

  /** Removes what was being made, mounted by an earlier life or not. */
  async #discard(ctx: DriverContext, driver: Driver, volume: Volume): Promise<void> {
    const state = await driver.findVolume(ctx, volume)
    if (state) await driver.unmount(ctx, { ...volume, state }, hiddenTarget(this.#core, volume.id))
    await driver.deleteVolume(ctx, volume)
  }
}

/** Gives the volume the content of `filled`. Idempotent, as the driver's call is. */
async function replaceBy(
  ctx: DriverContext,
  volume: Volume,
  filled: Volume,
  { driver, replace }: Tools,
): Promise<Volume> {
  const replaced = { ...volume, state: await replace.replace(ctx, volume, filled) }
  const { size } = await driver.usage(ctx, replaced, false)
  return { ...replaced, size }
}

/** Volumes that restores are filling: a driver has them, and no record shows them. */
export function volumesBeingFilled({ catalog }: Core): Volume[] {
  return catalog.runningOperations().flatMap(({ kind, payload }) => {
    if (kind !== 'backup.restore' || payload === null) return []
    const plan = payload as unknown as NewPlan | InPlacePlan
    if ('volume' in plan) return [plan.volume]
    const volume = catalog.volumeById(plan.volumeId)
    return volume ? [asVolume(volume, plan.hidden)] : []
  })
}

/** @returns the path without slashes that mean nothing @throws INVALID_ARGUMENT */
function checkPath(path: string): string {
  const parts = path.split('/').filter((part) => part !== '')
  if (!parts.some((part) => part === '.' || part === '..')) return parts.join('/')
  throw new AppError('INVALID_ARGUMENT', `'${path}' is not a path within a backup; leave out '.' and '..'`)
}

/** @throws NOT_SUPPORTED, with what is missing */
function toolsOf(driver: Driver, volume: Volume, path: string): Tools {
  const lacks = (what: string): AppError =>
    new AppError('NOT_SUPPORTED', `volume ${volume.name} cannot be restored in place: ${what}; restore to a new volume`)
  if ('adopt' in volume.options) throw lacks('it is an adopted directory, whose content is not replaced')
  const { snapshots, replace, clone } = driver
  if (!snapshots) throw lacks(`driver ${driver.name} has no snapshots`)
  if (!replace) throw lacks(`driver ${driver.name} cannot replace a volume's content`)
  if (path !== '' && !clone) throw lacks(`driver ${driver.name} has no clones, which --path needs`)
  return { driver, snapshots, replace, clone: path === '' ? undefined : clone }
}

function workOf(plan: NewPlan | InPlacePlan, subject: string, { operationId, onStarted }: CallOptions) {
  const payload = { ...plan } as unknown as Json
  return { kind: 'backup.restore', subject, payload, id: operationId, onStarted, resumable: true }
}

function emptyVolume(name: string, driver: string): Omit<Volume, 'createdAt'> {
  const plain = {
    size: null,
    options: {},
    labels: {},
    hooks: {},
    onRemove: 'trash',
    origin: null,
    state: null,
  } as const
  return { id: randomUUID(), name, driver, ...plain }
}

/** The hidden volume, before it is made. */
function asVolume(volume: Volume, hidden: VolumeSpec): Volume {
  return { ...emptyVolume(hidden.name, volume.driver), ...hidden, createdAt: volume.createdAt }
}
