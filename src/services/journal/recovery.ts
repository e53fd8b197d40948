/**
 * What the daemon does at start with the operations that a crash interrupted: one function for each kind, which finishes or
 * undoes it. Until then its volume's lock is held, so that no request sees what is half-made.
 */

import { setTimeout } from 'node:timers/promises'
import { type Change, dropSnapshot, dropVolume, putSnapshot, putVolume } from '../../catalog/changes.ts'
import type { Driver, DriverContext } from '../../driver.ts'
import { AppError, type ErrorCode, toAppError } from '../../errors.ts'
import { mountKey, trashKey, volumeKey } from '../../locks.ts'
import {
  isTrashed,
  type Operation,
  type OperationState,
  type Snapshot,
  type TrashedVolume,
  type Volume,
} from '../../model.ts'
import type { DockerApi } from '../../system/docker.ts'
import type { Core } from '../core.ts'
import { isShared } from '../shared/shared-copies.ts'
import { inTurn, type Turn, unshared } from '../shared/turn.ts'
import { finishHooks, type HookPlan } from '../snapshots/hooks.ts'
import { unpauseAll } from '../snapshots/pause.ts'
import { putBack } from '../volumes/trash.ts'
import { kernelUses, requireUnused } from '../volumes/use.ts'

/** How an interrupted operation ended, and what the catalog has to say of it. */
interface Ending {
  readonly state: OperationState
  readonly changes: readonly Change[]
}

const undone: Ending = { state: 'interrupted', changes: [] }

interface Case {
  readonly core: Core
  readonly docker: DockerApi
  readonly ctx: DriverContext
  readonly operation: Operation
  readonly turn: Omit<Turn, 'driver'>
}

type Recover = (job: Case) => Promise<Ending>

/** Goes on with an operation that an earlier life has left open, and closes it; one that it leaves open is to be tried again. */
export type Resume = (operation: Operation) => Promise<void>

/** Work that may take long, and goes on where it was. */
export interface Resumers {
  /** By kind; with the volume's locks held. */
  readonly locked: Readonly<Record<string, Resume>>
  /** By kind; takes its locks itself, and is not waited for. */
  readonly free: Readonly<Record<string, Resume>>
}

const recoveries: Readonly<Record<string, Recover>> = {
  'volume.create': async ({ core, ctx, operation, turn }) => {
    const { volume } = operation.payload as unknown as { volume: Volume }
    const driver = await core.drivers.started(volume.driver)
    // Published, it is every node's, whatever this node's caller was told.
    if (driver.shared && core.catalog.volumeById(volume.id)) return { state: 'done', changes: [] }
    // Complete, it may even have been used since: the catalog may be a copy of earlier days.
    const state = wasAnswered(operation) ? null : await driver.findVolume(ctx, volume)
    if (state) {
      const made = { ...volume, state }
      const { size } = await driver.usage(ctx, made, false)
      const found = { ...made, size: volume.size ?? size }
      await turn.publish(ctx, found)
      return { state: 'done', changes: [putVolume(found)] }
    }
    await driver.deleteVolume(ctx, volume)
    return undone
  },

  'volume.delete': async (job) => {
    const { id, deletedAt } = job.operation.payload as { id: string; deletedAt?: string | null }
    const found = await find(job, id)
    if (!found || (deletedAt !== undefined && deletedAt !== deletedAtOf(found.volume))) return undone
    await found.driver.deleteVolume(job.ctx, found.volume)
    return { state: 'done', changes: [dropVolume(id)] }
  },

  'volume.discard': async (job) => {
    const { id, deletedAt, purgeAt } = job.operation.payload as {
      id: string
      deletedAt: string
      purgeAt: string | null
    }
    const found = await find(job, id)
    if (!found?.driver.trash) return undone
    const { volume, driver } = found
    // A later call, or another node, has removed it since.
    if (isTrashed(volume) && volume.deletedAt > deletedAt) return undone
    if (wasAnswered(job.operation) || (await kernelUses(job.core, volume)) > 0) {
      await putBack(job.ctx, driver, volume)
      return undone
    }
    const state = await found.driver.trash.discard(job.ctx, volume)
    const trashed: TrashedVolume = { ...volume, state, ...startingNow(deletedAt, purgeAt) }
    await job.turn.publish(job.ctx, trashed)
    return { state: 'done', changes: [putVolume(trashed)] }
  },

  'volume.restore': async (job) => {
    const { id, name, deletedAt } = job.operation.payload as { id: string; name: string; deletedAt: string }
    const found = await find(job, id)
    // Restored by a later call, or even removed once more: then this one has nothing to say any more.
    if (!found?.driver.trash || !isTrashed(found.volume) || found.volume.deletedAt !== deletedAt) return undone
    const state = await found.driver.trash.restore(job.ctx, found.volume, name)
    const { deletedAt: _deletedAt, purgeAt: _purgeAt, ...volume } = found.volume
    await job.turn.publish(job.ctx, { ...volume, name, state })
    return { state: 'done', changes: [putVolume({ ...volume, name, state })] }
  },

  'volume.resize': async (job) => {
    const { id, size } = job.operation.payload as { id: string; size: number }
    const found = await find(job, id)
    if (!found?.driver.resize) return undone
    const state = await found.driver.resize.resize(job.ctx, found.volume, size)
    await job.turn.publish(job.ctx, { ...found.volume, size, state })
    return { state: 'done', changes: [putVolume({ ...found.volume, size, state })] }
  },

  'snapshot.create': async (job) => {
    const { snapshot, paused, hooks } = job.operation.payload as unknown as {
      snapshot: Snapshot
      paused: string[]
      hooks?: HookPlan | null
    }
    await unpauseAll(job.docker, paused, job.core.log)
    if (!wasAnswered(job.operation)) await finishHooks(job, hooks)
    const found = await find(job, snapshot.volumeId)
    const taken = wasAnswered(job.operation)
      ? null
      : await found?.driver.snapshots?.find(job.ctx, found.volume, snapshot)
    if (found && taken) {
      await job.turn.publish(job.ctx, found.volume, [{ ...snapshot, ...taken }])
      return { state: 'done', changes: [putSnapshot({ ...snapshot, ...taken })] }
    }
    await found?.driver.snapshots?.delete(job.ctx, found.volume, snapshot)
    return undone
  },

  'snapshot.delete': async (job) => {
    const { volumeId, snapshotId, name } = job.operation.payload as {
      volumeId: string
      snapshotId: string
      name: string
    }
    const found = await find(job, volumeId)
    const snapshot = job.core.catalog.snapshot(volumeId, name)
    if (!found || snapshot?.id !== snapshotId) return undone
    await found.driver.snapshots?.delete(job.ctx, found.volume, snapshot)
    return { state: 'done', changes: dropSnapshot(snapshotId) }
  },

  'snapshot.revert': async (job) => {
    const { volumeId, snapshotName } = job.operation.payload as { volumeId: string; snapshotName: string }
    const found = await find(job, volumeId)
    const snapshot = job.core.catalog.snapshot(volumeId, snapshotName)
    if (!found?.driver.revert || !snapshot) return undone
    await requireUnused(job.core, found.volume)
    const volume = { ...found.volume, state: await found.driver.revert.revert(job.ctx, found.volume, snapshot) }
    const { size } = await found.driver.usage(job.ctx, volume, false)
    await job.turn.publish(job.ctx, { ...volume, size })
    return { state: 'done', changes: [putVolume({ ...volume, size })] }
  },
}

/** Work on repositories that changes nothing of this node's, and that nothing half-made remains of. */
const restartable = ['backup.verify', 'backup.repair', 'backup.forget', 'backup.prune']

/** Null for a live one. */
function deletedAtOf(volume: Volume | TrashedVolume): string | null {
  return isTrashed(volume) ? volume.deletedAt : null
}

/** The caller has been told that it failed: then it is undone, never finished. */
function wasAnswered(operation: Operation): boolean {
  return operation.error !== null
}

/** The time in the trash begins when the volume is there: the daemon may have been down for longer than it is kept. */
function startingNow(deletedAt: string, purgeAt: string | null): { deletedAt: string; purgeAt: string | null } {
  const late = Date.now() - Date.parse(deletedAt)
  const moved = (time: string): string => new Date(Date.parse(time) + late).toISOString()
  return { deletedAt: moved(deletedAt), purgeAt: purgeAt === null ? null : moved(purgeAt) }
}

type Found = { readonly volume: Volume | TrashedVolume; readonly driver: Driver }

/** @throws CORRUPT for a damaged record, which no change may overwrite */
async function find({ core }: Case, id: string): Promise<Found | undefined> {
  const volume = core.catalog.volumeById(id)
  if (!volume) return undefined
  if (volume.damage !== undefined) throw new AppError('CORRUPT', `volume ${volume.name}: ${volume.damage}`)
  return { volume, driver: await core.drivers.started(volume.driver) }
}

/** The volume an operation works on: `db` for `db@s1`. */
function volumeOf(operation: Operation): string {
  return operation.subject.split('@', 1)[0] as string
}

/** What a request for the volume, live or in the trash, would have to hold. */
function keysOf(name: string, operations: readonly Operation[]): string[] {
  const ids = operations.flatMap(({ payload }) => {
    const id = (payload as { id?: unknown } | null)?.id
    return typeof id === 'string' ? [id] : []
  })
  return [volumeKey(name), mountKey(name), ...ids.map(trashKey)]
}

/** How long after a failure a volume's recovery is tried again. */
const usualRetryMs = 30_000

/**
 * Recovers everything that a crash interrupted. Locks are taken before this returns to the event loop for the first time; call
 * it before the sockets listen, and do not wait for it: it waits for the drivers, however long they take to start. What
 * cannot be recovered keeps its volume locked and is tried again: used in between, the volume would not be what the journal
 * speaks of.
 * @returns when everything has been tried once
 */
export async function recover(
  core: Core,
  docker: DockerApi,
  resumers: Resumers,
  retryMs = usualRetryMs,
): Promise<void> {
  const isFree = ({ kind }: Operation): boolean => Object.hasOwn(resumers.free, kind)
  const operations = core.catalog.runningOperations()
  const byVolume = Map.groupBy(
    operations.filter((operation) => !isFree(operation)),
    volumeOf,
  )
  const rounds = [...byVolume].map(([name, ofVolume]) =>
    recoverVolume({ core, docker, resumers }, name, ofVolume, retryMs),
  )
  for (const operation of operations.filter(isFree)) void resumeFree(core, operation, resumers)
  await Promise.all(rounds)
}

/**
 * Recovers what this life could not undo on storage that several nodes share, because that was away; to be called when it is back. As
 * `recover` otherwise, which sees to what is from before this life.
 */
export async function recoverStranded(
  core: Core,
  docker: DockerApi,
  resumers: Resumers,
  retryMs = usualRetryMs,
): Promise<void> {
  const stranded = new Set(core.operations.stranded().map(({ id }) => id))
  const isOurs = (operation: Operation): boolean => {
    const driver = volumeAbout(core, operation)?.driver ?? ''
    const isOfThisLife = Date.parse(operation.startedAt) >= core.operations.startedMs
    return stranded.has(operation.id) && isOfThisLife && isShared(core.drivers.get(driver))
  }
  const byVolume = Map.groupBy(core.catalog.runningOperations().filter(isOurs), volumeOf)
  await Promise.all([...byVolume].map(([name, own]) => recoverVolume({ core, docker, resumers }, name, own, retryMs)))
}

type Means = Pick<Case, 'core' | 'docker'> & { readonly resumers: Resumers }

function recoverVolume(means: Means, name: string, operations: readonly Operation[], retryMs: number): Promise<void> {
  const { promise: tried, resolve } = Promise.withResolvers<void>()
  const doing = `volume ${name} is being recovered after a crash (holdfast doctor tells more)`
  const { core } = means
  void core.locks
    .with(keysOf(name, operations), doing, async () => {
      let left = operations
      while (!core.operations.stopping) {
        left = await recoverInOrder(means, left)
        resolve()
        if (left.length === 0) return
        await setTimeout(retryMs, undefined, { ref: false })
      }
    })
    .catch((error: Error) => {
      core.log.error({ subject: name, error: error.message }, 'could not recover; the next start tries again')
      resolve()
    })
  return tried
}

/** @returns those that are left, from the first that failed */
async function recoverInOrder(means: Means, operations: readonly Operation[]): Promise<Operation[]> {
  for (const [index, operation] of operations.entries()) {
    const resume = Object.hasOwn(means.resumers.locked, operation.kind) && means.resumers.locked[operation.kind]
    const isEnded = await (resume ? resumeOne(means.core, operation, resume) : recoverOne(means, operation))
    if (!isEnded) return operations.slice(index)
  }
  return []
}

/** @returns false when it is to be tried again */
async function resumeOne({ catalog, log }: Core, { id, kind, subject }: Operation, resume: Resume): Promise<boolean> {
  try {
    const operation = catalog.operation(id) // The last try may have noted something.
    if (operation?.state === 'running') await resume(operation)
    return catalog.operation(id)?.state !== 'running'
  } catch (error) {
    log.error({ operation: kind, subject, error: (error as Error).message }, 'could not resume')
    return catalog.operation(id)?.state !== 'running'
  }
}

/** One that cannot be read, too, must not end the daemon: the entry stays open. */
async function resumeFree({ log }: Core, operation: Operation, { free }: Resumers): Promise<void> {
  const { kind, subject } = operation
  await free[kind]?.(operation).catch((error: Error) => {
    log.error({ operation: kind, subject, error: error.message }, 'could not resume; the entry stays open')
  })
}

/** @returns false when it is to be tried again */
async function recoverOne({ core, docker }: Means, operation: Operation): Promise<boolean> {
  try {
    if (core.catalog.operation(operation.id)?.state !== 'running') return true
    const recovery = recoveryOf(operation)
    await inTurnOf(core, operation, async (turn) => {
      const ctx = turn.within(core.operations.plainContext())
      const { state, changes } = await recovery({ core, docker, operation, ctx, turn })
      await core.operations.close(operation, state, changes)
    })
    return true
  } catch (error) {
    const { code, message } = toAppError(error)
    const again = !hopeless.has(code)
    const outlook = again ? 'the volume stays out of reach until it can be' : 'the entry stays open'
    const fields = { operation: operation.kind, subject: operation.subject, error: message }
    core.log.error(fields, `could not recover; ${outlook}`)
    return !again
  }
}

/** In a turn for the volume that an operation is about; for one that is in the trash, or leaves it, under its id too. */
async function inTurnOf(core: Core, operation: Operation, work: (turn: Case['turn']) => Promise<void>): Promise<void> {
  const about = volumeAbout(core, operation)
  if (!about) return work(unshared)
  const { id, name, options } = about
  const driver = await core.drivers.started(about.driver)
  if (!isTrashed(about)) return inTurn(core, driver, { key: name, options }, work)
  const { name: back = name } = operation.payload as { name?: string }
  return inTurn(core, driver, { key: id, options }, () => inTurn(core, driver, { key: back, options }, work))
}

function volumeAbout({ catalog }: Core, { payload }: Operation): Volume | TrashedVolume | undefined {
  const { volume, snapshot, volumeId, id } = (payload ?? {}) as unknown as {
    volume?: Volume
    snapshot?: Snapshot
    volumeId?: string
    id?: string
  }
  const known = volumeId ?? snapshot?.volumeId ?? id
  return volume ?? (known === undefined ? undefined : catalog.volumeById(known))
}

/**
 * An entry or a record that cannot be read, and a driver that is not started: this life cannot recover it. Nor can it be used by
 * one that could: such a record and such a driver refuse everything, and no program finishes what it cannot read.
 */
const hopeless: ReadonlySet<ErrorCode> = new Set(['CORRUPT', 'INVALID_ARGUMENT'])

/** @throws CORRUPT */
function recoveryOf({ kind, payload }: Operation): Recover {
  if (restartable.includes(kind)) return async () => undone
  const recovery = Object.hasOwn(recoveries, kind) ? recoveries[kind] : undefined
  if (recovery && payload !== null) return recovery
  throw new AppError('CORRUPT', `an entry of kind ${kind} that this program cannot read`)
}
