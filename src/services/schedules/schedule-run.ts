/**
 * One run of a schedule: a snapshot, a backup, a trim, and then what retention no longer keeps of the first two. Each step but the trim is an operation of its own; the
 * run writes down nothing, and can be gone on with after a crash, because all that it makes is named after the moment at which it began.
 * A cancel of the run cancels the step that it is at, whose progress is the run's.
 */

import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { setTimeout as pause } from 'node:timers/promises'
import { putSetting } from '../../catalog/changes.ts'
import type { DriverContext } from '../../driver.ts'
import { AppError, type ErrorCode, isAppError, toAppError } from '../../errors.ts'
import { type Operation, type Schedule, type Snapshot, type Timestamp, type Volume, volumeLabel } from '../../model.ts'
import { applyRetention, parseRetention } from '../../repository/retention.ts'
import type { Turns } from '../../system/turns.ts'
import type { BackupPlan } from '../backups/backup-run.ts'
import type { BackupService } from '../backups/contract.ts'
import type { Core } from '../core.ts'
import type { CallOptions } from '../journal/contract.ts'
import { now } from '../now.ts'
import { isShared } from '../shared/shared-copies.ts'
import type { SnapshotService } from '../snapshots/contract.ts'
import { trimVolume } from '../volumes/trim.ts'

/** What a run works with. */
export interface ScheduleRooms {
  readonly core: Core
  readonly snapshots: Pick<SnapshotService, 'create' | 'remove'>
  readonly backups: Pick<BackupService, 'create' | 'forget' | 'prune'>
  /** At snapshots that are copies. */
  readonly turns: Turns
}

/** Of a run's own operation, whose subject is the schedule. */
export const runKind = 'schedule.run'

/** On the snapshots and backups that a schedule has made: its name. Its retention looks at no others. */
const scheduleLabel = 'holdfast.schedule'
const lookEveryMs = 250
/** Of one target, by any number of schedules. */
const pruneEveryMs = 24 * 3_600_000

/** A schedule whose run begins, or goes on. */
export interface Run {
  readonly schedule: Schedule
  readonly volume: Volume
  /** Tells it from the schedule's other runs. */
  readonly startedAt: Timestamp
  /** An earlier life of the daemon has begun it. */
  readonly isResumed: boolean
}

/**
 * Makes what the schedule is for, then applies retention. Done again for the same run, it makes nothing twice.
 * @param ctx of the run's operation
 * @returns why retention could not be applied, or null: what was to be made is there all the same
 * @throws what the snapshot, the backup or the trim throws; CANCELLED
 */
export async function carryOut(rooms: ScheduleRooms, run: Run, ctx: DriverContext): Promise<AppError | null> {
  const { schedule } = run
  const work = { ...rooms, ctx }
  if (schedule.snapshot) await makeSnapshot(work, run)
  if (schedule.target !== null) await makeBackup(work, run, schedule.target)
  if (schedule.trim) await trimVolume(rooms.core, ctx, run.volume.name)
  try {
    if (schedule.keepSnapshots !== null) await thinSnapshots(work, run, schedule.keepSnapshots)
    if (schedule.keep !== null && schedule.target !== null) await thinBackups(work, run, schedule.target, schedule.keep)
    return null
  } catch (error) {
    const { code, message } = toAppError(error)
    return new AppError(code, `retention could not be applied: ${message}`, { cause: error })
  }
}

type Rooms = ScheduleRooms & { readonly ctx: DriverContext }

/** One operation of the run's. */
async function step<T>({ core, ctx }: Rooms, work: (call: CallOptions) => Promise<T>): Promise<T> {
  ctx.signal.throwIfAborted()
  const operationId = randomUUID()
  // Until it has its locks it is no operation, and cannot be cancelled yet: so it is tried again and again.
  const timer = setInterval(() => follow(core, ctx, operationId), lookEveryMs).unref()
  try {
    return await work({ operationId })
  } finally {
    clearInterval(timer)
  }
}

type Unit = Parameters<DriverContext['progress']>[2]

/** Hands its progress on, and the cancel down. The daemon's stop asks every operation itself. */
function follow({ operations }: Core, { signal, progress }: DriverContext, id: string): void {
  if (operations.stopping) return
  try {
    const view = operations.inspect(id)
    if (view.progress) progress(view.progress.done, view.progress.total, view.progress.unit as Unit)
    if (signal.aborted && view.state === 'running') operations.cancel(id)
  } catch {
    // It has not begun yet, or recovery is still to go on with it: the next look may do better.
  }
}

/** Whether the run has begun to make something, so that it is to be gone on with. */
export function hasTrace({ core }: ScheduleRooms, run: Run): boolean {
  return begunBackup(core, run) !== undefined || madeSnapshot(core, run) !== undefined
}

/** `nightly-20261123-030000`, in UTC. */
export function snapshotName(schedule: string, startedAt: Timestamp): string {
  const [day, time] = startedAt.replaceAll(/[-:]/g, '').split('T') as [string, string]
  return `${schedule}-${day}-${time.slice(0, 6)}`
}

function labelsOf({ schedule }: Run): Record<string, string> {
  return { [scheduleLabel]: schedule.name }
}

/** The operation of its backup, if an earlier life has begun one. */
function begunBackup(core: Core, { schedule, volume, startedAt, isResumed }: Run): Operation | undefined {
  if (!isResumed) return undefined
  return core.catalog.operations().findLast(({ kind, payload, startedAt: begunAt }) => {
    const plan = payload as Partial<Pick<BackupPlan, 'volumeId' | 'labels'>> | null
    const isOurs = plan?.volumeId === volume.id && plan.labels?.[scheduleLabel] === schedule.name
    return kind === 'backup.create' && isOurs && begunAt >= startedAt
  })
}

function madeSnapshot(core: Core, { schedule, volume, startedAt }: Run): Snapshot | undefined {
  const found = core.catalog.snapshot(volume.id, snapshotName(schedule.name, startedAt))
  return found?.labels[scheduleLabel] === schedule.name ? found : undefined
}

async function makeSnapshot(rooms: Rooms, run: Run): Promise<void> {
  const { core, ctx, snapshots, turns } = rooms
  if (madeSnapshot(core, run)) return
  const request = { name: snapshotName(run.schedule.name, run.startedAt), labels: labelsOf(run) }
  const make = () => step(rooms, (call) => snapshots.create(run.volume.name, request, call))
  try {
    await ((await isCheap(rooms, run)) ? make() : turns.with(ctx.signal, make))
  } catch (error) {
    // Recovery has finished it meanwhile.
    if (!isAppError(error, 'ALREADY_EXISTS') || !madeSnapshot(core, run)) throw error
  }
}

async function isCheap({ core, ctx }: Rooms, { volume }: Run): Promise<boolean> {
  const { snapshots } = await core.drivers.ready(volume.driver)
  return snapshots === undefined || (await snapshots.isCheap(ctx, volume))
}

async function makeBackup(rooms: Rooms, run: Run, target: string): Promise<void> {
  const { core, ctx, backups } = rooms
  const { schedule, volume, startedAt } = run
  const begun = begunBackup(core, run)
  if (begun) return requireDone(await ended(core, ctx, begun.id))
  const snapshot = schedule.snapshot ? snapshotName(schedule.name, startedAt) : undefined
  const request = { volume: volume.name, snapshot, to: { at: target }, labels: labelsOf(run) }
  await afterOthers(rooms, schedule, () => step(rooms, (call) => backups.create(request, call)))
}

/** Another backup of the volume to the same target, such as one that a user has begun, comes first. */
async function afterOthers({ core, ctx }: Rooms, { name }: Schedule, make: () => Promise<unknown>): Promise<void> {
  for (;;) {
    try {
      await make()
      return
    } catch (error) {
      const other = isAppError(error, 'ABORTED') ? error.details['operation'] : undefined
      if (typeof other !== 'string') throw error
      core.log.info({ schedule: name, operation: other }, 'waits for another backup of its volume')
      do {
        await pause(lookEveryMs, undefined, { ref: false, signal: ctx.signal })
      } while (core.catalog.operation(other)?.state === 'running')
    }
  }
}

/** Recovery goes on with it. @throws UNAVAILABLE when the daemon stops */
async function ended(core: Core, ctx: DriverContext, id: string): Promise<Operation | undefined> {
  for (;;) {
    const operation = core.catalog.operation(id)
    if (operation?.state !== 'running') return operation
    if (core.operations.stopping) throw new AppError('UNAVAILABLE', 'the daemon is stopping')
    follow(core, ctx, id)
    await pause(lookEveryMs, undefined, { ref: false })
  }
}

function requireDone(operation: Operation | undefined): void {
  if (operation?.state === 'done') return
  const { code = 'INTERNAL', message = 'it was interrupted' } = operation?.error ?? {}
  throw new AppError(code as ErrorCode, `the backup that was begun before a restart of the daemon: ${message}`)
}

/** Those in use stay until the next run. */
async function thinSnapshots(rooms: Rooms, run: Run, keep: string): Promise<void> {
  const { core, snapshots } = rooms
  const { schedule, volume } = run
  const own = core.catalog
    .snapshots(volume.id)
    .filter(({ labels, damage }) => labels[scheduleLabel] === schedule.name && damage === undefined)
  const decisions = applyRetention(own, parseRetention(keep), { timeZone: schedule.timeZone })
  for (const { item } of decisions.filter((decision) => !decision.keep)) {
    await step(rooms, (call) => snapshots.remove(volume.name, item.name, call)).catch((error: unknown) => {
      if (!isAppError(error, 'IN_USE', 'NOT_FOUND')) throw error
      core.log.info({ subject: `${volume.name}@${item.name}`, error: error.message }, 'kept for now: it is in use')
    })
  }
}

/** Other nodes' schedules of the same name keep what they are told to; of a shared volume they are one schedule. */
function whoseBackups({ drivers }: Core, run: Run): { labels: Record<string, string>; host?: string } {
  const { id, driver } = run.volume
  if (!isShared(drivers.get(driver))) return { labels: labelsOf(run), host: hostname() }
  return { labels: { ...labelsOf(run), [volumeLabel]: id } }
}

async function thinBackups(rooms: Rooms, run: Run, target: string, keep: string): Promise<void> {
  const { core, backups } = rooms
  const { timeZone } = run.schedule
  const whose = { volume: run.volume.name, ...whoseBackups(core, run) }
  await step(rooms, (call) => backups.forget({ at: target }, { ...whose, keep, timeZone }, call))
  const key = `pruned:${target}`
  const last = Date.parse(core.catalog.setting(key) ?? '')
  if (Math.abs(Date.now() - last) < pruneEveryMs) return
  await core.catalog.write(putSetting(key, now()))
  await step(rooms, (call) => backups.prune({ at: target }, { dryRun: false }, call)).catch((error: unknown) => {
    if (!isAppError(error, 'ABORTED')) throw error // Another node's prune is as good.
  })
}
