/**
 * Restores: to a new volume, which shows under its name only when it is complete, and in place, by a hidden volume that is filled and then takes
 * the place of the content. Resumed by the same steps; an error or a cancel leaves what was there before. The caller's locks, and recovery's, keep
 * everybody else away from the name meanwhile.
 */

import { randomUUID } from 'node:crypto'
import { amendOperation, dropSnapshot, putSnapshot, putVolume } from '../../catalog/changes.ts'
import type { CloneCapability, Driver, DriverContext, ReplaceCapability, SnapshotCapability } from '../../driver.ts'
import { AppError, isAppError, toAppError } from '../../errors.ts'
import { mountKey, volumeKey } from '../../locks.ts'
import type { Json, Operation, Snapshot, Volume } from '../../model.ts'
import { parseVolumeName } from '../../units.ts'
import { type Core, requireVolume, volumeTarget } from '../core.ts'
import type { CallOptions } from '../journal/contract.ts'
import { leftOpen, type Outcome } from '../journal/operations.ts'
import { now } from '../now.ts'
import { inTurn, type Turn, withVolume } from '../shared/turn.ts'
import { requireHooksAllowed } from '../snapshots/hooks.ts'
import { timedName } from '../snapshots/timed-name.ts'
import type { NewVolume } from '../volumes/contract.ts'
import { draftVolume, planCreate } from '../volumes/create-plan.ts'
import { requireUnused } from '../volumes/use.ts'
import { volumeView } from '../volumes/views.ts'
import { findBackup } from './backup-choice.ts'
import { limitOf } from './backup-limit.ts'
import type { RestoredView, RestoreRequest } from './contract.ts'
import { backupUrl, backupView, parseBackup, type WantedBackup } from './repositories.ts'
import type { RepositoryTurns } from './repository-turns.ts'
import { Filler } from './restore-fill.ts'
import { hiddenVolume, type InPlacePlan, isNewPlan, type NewPlan, type RestorePlan } from './restore-plan.ts'
import {
  checkPath,
  type Found,
  isOfDevice,
  requireNothingAsked,
  requireOwn,
  type Source,
  sizeFor,
  sourceOf,
} from './restore-source.ts'

/** What a restore in place needs of the driver. */
interface Tools {
  readonly turn: Turn
  readonly driver: Driver
  readonly snapshots: SnapshotCapability
  readonly replace: ReplaceCapability
  /** Undefined when all is restored. */
  readonly clone: CloneCapability | undefined
}

export class Restores {
  readonly #core: Core
  readonly #filler: Filler

  constructor(core: Core, turns: RepositoryTurns) {
    this.#core = core
    this.#filler = new Filler(core, turns)
  }

  async restore({ from, to, path, inPlace, ...asked }: RestoreRequest, call: CallOptions = {}): Promise<RestoredView> {
    const name = parseVolumeName(to)
    const wanted = parseBackup(this.#core, from)
    const within = checkPath(path ?? '')
    if (!inPlace) return this.#toNew(name, wanted, within, asked, call)
    requireNothingAsked(name, asked)
    return this.#inPlace(name, wanted, within, call)
  }

  async #toNew(name: string, wanted: WantedBackup, path: string, asked: NewVolume, call: CallOptions) {
    const { config, drivers } = this.#core
    const driverOf = (volume: string): string => requireVolume(this.#core, volume).driver
    const plan = planCreate({ ...asked, name }, config.defaultDriver, (driver) => drivers.required(driver), driverOf)
    requireHooksAllowed(config.hostHooks, plan.hooks)
    return this.#core.locks.with([volumeKey(name)], `volume ${name} is being restored`, async () => {
      const driver = await drivers.ready(plan.driver)
      return inTurn(this.#core, driver, { key: name, options: plan.options }, async (turn) => {
        if (this.#core.catalog.volume(name)) {
          const remedy = 'restore to another name, or replace its content: --in-place'
          throw new AppError('ALREADY_EXISTS', `volume ${name} exists; ${remedy}`)
        }
        const found = await this.#find(wanted, name)
        return this.#restored(await this.fill(draftVolume(plan), found, path, turn, call), found)
      })
    })
  }

  async #find(wanted: WantedBackup, meant: string): Promise<Found> {
    return { repository: wanted.repository, backup: await findBackup(this.#core, wanted, { meant }) }
  }

  #restored(volume: Volume, { repository, backup }: Found): RestoredView {
    return { ...volumeView(this.#core, volume), restoredFrom: backupView(repository.url, backup) }
  }

  /**
   * Makes `draft` a volume with the content of a backup. The caller holds its lock, has its turn, and knows that its name is free.
   * Without a size it gets the limit that the backed up volume had, where its driver can keep that, else the driver's default.
   * @throws NOT_SUPPORTED for a backup that the driver cannot take, and what the driver and the engine throw
   */
  async fill(draft: Volume, found: Found, path: string, turn: Turn, call: CallOptions): Promise<Volume> {
    const driver = await this.#core.drivers.ready(draft.driver)
    const plan = planNew(draft, sourceOf(found, path, driver), found, driver)
    const id = call.operationId ?? randomUUID()
    return this.#core.operations.run(
      { ...workOf(plan, draft.name, call), id },
      (ctx) => this.#makeNew(turn.within(ctx), id, plan, turn),
      (ctx) => this.#undoNew(ctx, plan, turn),
    )
  }

  /** Goes on with one that an earlier life has begun, whose locks the caller holds. @throws what it fails with, once that is written down */
  async resume(operation: Operation): Promise<void> {
    const plan = operation.payload as unknown as RestorePlan
    await (isNewPlan(plan) ? this.#resumeNew(operation, plan) : this.#resumeInPlace(operation, plan))
  }

  async #resumeNew(operation: Operation, plan: NewPlan): Promise<void> {
    const { name, options } = plan.volume
    const driver = await this.#core.drivers.started(plan.volume.driver)
    await inTurn(this.#core, driver, { key: name, options }, (turn) =>
      this.#core.operations.resume(
        operation,
        (ctx) => this.#makeNew(turn.within(ctx), operation.id, plan, turn),
        (ctx) => this.#undoNew(ctx, plan, turn),
      ),
    )
  }

  async #makeNew(ctx: DriverContext, id: string, plan: NewPlan, turn: Turn): Promise<Outcome<Volume>> {
    const { driver } = turn
    // An earlier life may have come as far as to publish it.
    const known = this.#core.catalog.volumeById(plan.volume.id)
    if (known) return { result: known, changes: [] }
    const made = await this.#fromImage(ctx, id, plan, plan.volume, driver)
    const volume = made ?? (await this.#createFor(ctx, plan, driver))
    if (!made) await this.#filler.fill(ctx, driver, volume, plan.source)
    await turn.publish(ctx, volume)
    return { result: volume, changes: [putVolume(volume)] }
  }

  async #undoNew(ctx: DriverContext, { volume }: NewPlan, turn: Turn): Promise<void> {
    if (!(await turn.isPublished(ctx, volume))) await this.#filler.discard(ctx, turn.driver, volume)
  }

  /** The volume, made from the backup of a device; undefined when the backup is of files. */
  async #fromImage(ctx: DriverContext, id: string, plan: RestorePlan, volume: Volume, driver: Driver) {
    const { source, isWritten = false } = plan
    const { device } = driver
    if (!device || !isOfDevice(source)) return undefined
    const noteWritten = () => this.#amend(id, { ...plan, isWritten: true })
    return this.#filler.makeFromImage(ctx, { driver, device }, volume, source, { isWritten, noteWritten })
  }

  /** Storage that cannot keep a limit which only the backup knows does without. */
  async #createFor(ctx: DriverContext, { volume, isLimitCopied }: NewPlan, driver: Driver): Promise<Volume> {
    try {
      return { ...volume, state: await driver.createVolume(ctx, volume) }
    } catch (error) {
      if (!isLimitCopied || !isAppError(error, 'NOT_SUPPORTED')) throw error
      await driver.deleteVolume(ctx, volume)
      const fields = { subject: volume.name, size: volume.size, error: error.message }
      this.#core.log.warn(fields, 'is restored without the limit that the backed up volume had')
      const unlimited = { ...volume, size: driver.defaultSize ?? null }
      return { ...unlimited, state: await driver.createVolume(ctx, unlimited) }
    }
  }

  #inPlace(name: string, wanted: WantedBackup, path: string, call: CallOptions): Promise<RestoredView> {
    const keys = [volumeKey(name), mountKey(name)]
    return this.#core.locks.with(keys, `volume ${name} is being restored in place`, () =>
      withVolume(this.#core, name, (turn, volume) => this.#inPlaceLocked(turn, volume, wanted, path, call)),
    )
  }

  async #inPlaceLocked(turn: Turn, volume: Volume, wanted: WantedBackup, path: string, call: CallOptions) {
    const { driver } = turn
    const { name } = volume
    const tools = toolsOf(turn, volume, path)
    await requireUnused(this.#core, volume)
    this.#requireNoneOpen(volume)
    const found = await this.#find(wanted, name)
    if (wanted.id === null) requireOwn(volume, found)
    const plan = this.#planInPlace(volume, sourceOf(found, path, driver))
    await driver.unmount(this.#core.operations.plainContext(), volume, volumeTarget(this.#core, name))
    const id = call.operationId ?? randomUUID()
    const replaced = await this.#core.operations.run(
      { ...workOf(plan, name, call), id },
      (ctx) => this.#replaceContent(turn.within(ctx), id, plan, volume, tools),
      (ctx) => this.#undoInPlace(ctx, id, plan, volume, tools),
    )
    const fields = { subject: name, snapshot: plan.safety.name }
    this.#core.log.info(fields, 'restored in place; what was before is in the snapshot')
    return this.#restored(replaced, found)
  }

  /** One that could neither be ended nor undone: only the next start of the daemon knows how far it came. */
  #requireNoneOpen(volume: Volume): void {
    const isOfVolume = ({ kind, payload }: Operation): boolean =>
      kind === 'backup.restore' && (payload as Partial<InPlacePlan> | null)?.volumeId === volume.id
    const open = this.#core.catalog.runningOperations().find(isOfVolume)
    if (!open) return
    throw new AppError(
      'FAILED_PRECONDITION',
      `volume ${volume.name} has a restore in place that could not be ended (${open.id}); see the log, make room, and restart the daemon, which ends it`,
    )
  }

  async #resumeInPlace(operation: Operation, plan: InPlacePlan): Promise<void> {
    const volume = this.#core.catalog.volumeById(plan.volumeId)
    if (!volume) {
      const gone = new AppError('NOT_FOUND', 'the volume is gone')
      return this.#core.operations.close(operation, 'failed', [], gone)
    }
    const driver = await this.#core.drivers.started(volume.driver)
    await inTurn(this.#core, driver, { key: volume.name, options: volume.options }, async (turn) => {
      const tools = toolsOf(turn, volume, plan.source.path)
      await this.#core.operations.resume(
        operation,
        (ctx) => this.#goOnInPlace(turn.within(ctx), operation.id, plan, volume, tools),
        (ctx) => this.#undoInPlace(ctx, operation.id, plan, volume, tools),
      )
    })
  }

  async #goOnInPlace(ctx: DriverContext, id: string, plan: InPlacePlan, volume: Volume, tools: Tools) {
    if (!plan.filled) {
      await requireUnused(this.#core, volume)
      // Of a path that was half put in its place nobody knows how far that had come.
      if (plan.source.path !== '') await this.#filler.discard(ctx, tools.driver, hiddenVolume(volume, plan.hidden))
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
    const filled = plan.filled ?? (await this.#fillHidden(ctx, id, plan, volume, tools))
    if (!plan.filled) await this.#amend(id, { ...plan, filled })
    const result = await replaceBy(ctx, volume, filled, tools)
    return { result, changes: [putVolume(result)] }
  }

  #amend(id: string, plan: RestorePlan): Promise<void> {
    return this.#core.catalog.write(amendOperation(id, plan as unknown as Json))
  }

  async #fillHidden(ctx: DriverContext, id: string, plan: InPlacePlan, volume: Volume, tools: Tools): Promise<Volume> {
    const { driver, clone } = tools
    const { hidden, source } = plan
    const safety = await this.#takeSafety(ctx, plan, volume, tools)
    const draft = hiddenVolume(volume, hidden)
    const made = await this.#fromImage(ctx, id, plan, draft, driver)
    if (made) return made
    const state = await (clone ? clone.create(ctx, hidden, volume, safety) : driver.createVolume(ctx, hidden))
    const filled = { ...draft, state }
    await (clone ? this.#filler.fillPath(ctx, driver, filled, source) : this.#filler.fill(ctx, driver, filled, source))
    return filled
  }

  /** The snapshot of what is there now; kept, so that a restore of the wrong backup can be undone. */
  async #takeSafety(
    ctx: DriverContext,
    { safety }: InPlacePlan,
    volume: Volume,
    { snapshots, turn }: Tools,
  ): Promise<Snapshot> {
    const existing = this.#core.catalog.snapshot(volume.id, safety.name)
    if (existing) return existing
    const taken = await snapshots.create(ctx, volume, { id: safety.id, name: safety.name, frozen: true })
    const snapshot = { ...safety, ...taken }
    await turn.publish(ctx, volume, [snapshot])
    await this.#core.catalog.write(putSnapshot(snapshot))
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
    if (filled) await this.#amend(id, { ...plan, filled: null })
    await this.#filler.discard(ctx, driver, hiddenVolume(volume, plan.hidden))
    await snapshots.delete(ctx, volume, this.#core.catalog.snapshot(volume.id, safety.name) ?? safety)
    await this.#core.catalog.write(...dropSnapshot(safety.id))
  }
}

/** Gives the volume the content of `filled`. Idempotent, as the driver's call is. */
async function replaceBy(
  ctx: DriverContext,
  volume: Volume,
  filled: Volume,
  { turn, driver, replace }: Tools,
): Promise<Volume> {
  const state = await replace.replace(ctx, volume, filled)
  const { size } = await driver.usage(ctx, { ...volume, state }, false)
  const replaced = { ...volume, state, size }
  await turn.publish(ctx, replaced)
  return replaced
}

/** @throws INVALID_ARGUMENT, NOT_SUPPORTED for a size that a backup of a device does not fit into */
function planNew(draft: Volume, source: Source, { backup }: Found, driver: Driver): NewPlan {
  const volume = { ...draft, origin: backupUrl(source.url, source.backup) }
  if (isOfDevice(source)) {
    const size = sizeFor(draft.size, source.device, { backup: backup.id, driver })
    return { source, volume: { ...volume, size } }
  }
  const limit = draft.size ?? limitOf(backup)
  const isLimitCopied = draft.size === null && limit !== null
  return { source, volume: { ...volume, size: limit ?? driver.defaultSize ?? null }, isLimitCopied }
}

/** @throws NOT_SUPPORTED, with what is missing */
function toolsOf(turn: Turn, volume: Volume, path: string): Tools {
  const { driver } = turn
  const lacks = (what: string): AppError =>
    new AppError('NOT_SUPPORTED', `volume ${volume.name} cannot be restored in place: ${what}; restore to a new volume`)
  if ('adopt' in volume.options) throw lacks('it is an adopted directory, whose content is not replaced')
  const { snapshots, replace, clone } = driver
  if (!snapshots) throw lacks(`driver ${driver.name} has no snapshots`)
  if (!replace) throw lacks(`driver ${driver.name} cannot replace a volume's content`)
  if (path !== '' && !clone) throw lacks(`driver ${driver.name} has no clones, which --path needs`)
  return { turn, driver, snapshots, replace, clone: path === '' ? undefined : clone }
}

function workOf(plan: RestorePlan, subject: string, { operationId, onStarted }: CallOptions) {
  const payload = { ...plan } as unknown as Json
  return { kind: 'backup.restore', subject, payload, id: operationId, onStarted, resumable: true }
}
