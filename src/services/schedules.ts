/**
 * Schedules: what is to be done to a volume, and when. When each runs next is in the catalog, so that a run that was missed while the
 * daemon was down is seen and caught up, once. What a run does is schedule-run.ts's; when a cron expression is due, cron.ts's.
 *
 * A schedule never overlaps with itself: what comes due while it runs is left out. A failed run is tried again a few times, then waits for its
 * turn. While its volume is in the trash a schedule sleeps. The wall clock is looked at every minute, as it may be set forth or back.
 */

import { setTimeout as pause } from 'node:timers/promises'
import { dropSchedule, insertSchedule, setSchedulePaused, setScheduleState } from '../catalog/changes.ts'
import { AppError, isAppError, toAppError } from '../errors.ts'
import type { Schedule, ScheduleState, TrashedVolume, Volume } from '../model.ts'
import type { CallOptions, CreateScheduleRequest, ScheduleService, ScheduleView } from './contract.ts'
import { findVolume, now, requireVolume } from './core.ts'
import { nextRun } from './cron.ts'
import { defaultName, draftSchedule } from './schedule-draft.ts'
import { carryOut, hasTrace, type Run, type ScheduleRooms, snapshotName } from './schedule-run.ts'

/** How long schedules wait for what. */
export interface ScheduleTiming {
  /** At most so long the clock is not looked at. */
  readonly lookEveryMs: number
  /** A missed run begins within this time of the start, at random: many nodes may start at once. */
  readonly catchUpMs: number
  /** After the first failure, the second, … */
  readonly retryMs: readonly number[]
}

const usualTiming: ScheduleTiming = { lookEveryMs: 60_000, catchUpMs: 60_000, retryMs: [60_000, 300_000, 900_000] }

/** A run has begun of which nobody knows how it ended: it is under way, or was when the daemon ended. */
export function isUnfinished({ lastRunAt, lastSuccessAt, lastError }: ScheduleState): boolean {
  return lastRunAt !== null && lastError === null && (lastSuccessAt === null || lastSuccessAt < lastRunAt)
}

export class Schedules implements ScheduleService {
  readonly #rooms: ScheduleRooms
  readonly #timing: ScheduleTiming
  readonly #running = new Map<string, Promise<void>>()
  #timer: NodeJS.Timeout | undefined
  #state: 'new' | 'started' | 'stopped' = 'new'

  constructor(rooms: ScheduleRooms, timing: ScheduleTiming = usualTiming) {
    this.#rooms = rooms
    this.#timing = timing
  }

  /** Goes on with what the daemon's end has interrupted, catches up what it has missed, and begins to look at the clock. */
  start(): void {
    this.#state = 'started'
    void this.#takeUp().then(() => this.#look())
  }

  /** Begins no run any more; those under way end with the daemon, and are gone on with when it is back. Idempotent. */
  stop(): void {
    this.#state = 'stopped'
    clearTimeout(this.#timer)
  }

  async create(request: CreateScheduleRequest): Promise<ScheduleView> {
    const volume = requireVolume(this.#core, request.volume)
    const draft = draftSchedule(volume, request)
    if (draft.target !== null && !this.#core.catalog.target(draft.target)) {
      throw new AppError('NOT_FOUND', `no such target: ${draft.target}; see: holdfast target ls`)
    }
    const name = request.name ?? defaultName(volume.name, (taken) => this.#core.catalog.schedule(taken) !== undefined)
    if (this.#core.catalog.schedule(name)) {
      throw new AppError('ALREADY_EXISTS', `schedule ${name} exists; choose another name or remove it first`)
    }
    const schedule = { ...draft, name }
    await this.#core.catalog.write(
      insertSchedule({ ...schedule, state: { ...schedule.state, nextRunAt: planned(schedule) } }),
    )
    this.#arm()
    return this.inspect(name)
  }

  list(volume?: string): ScheduleView[] {
    const all = this.#core.catalog.schedules()
    const id = volume === undefined ? undefined : findVolume(this.#core, volume).id
    return all.filter(({ volumeId }) => id === undefined || volumeId === id).map((schedule) => this.#view(schedule))
  }

  inspect(name: string): ScheduleView {
    return this.#view(this.#find(name))
  }

  async remove(name: string): Promise<void> {
    this.#find(name)
    await this.#core.catalog.write(dropSchedule(name))
  }

  async run(name: string, call: CallOptions = {}): Promise<ScheduleView> {
    const schedule = this.#find(name)
    const joined = this.#running.get(name)
    await (joined ?? this.#begin(schedule, this.#liveVolume(schedule), undefined, call))
    return this.inspect(name)
  }

  async pause(name: string): Promise<ScheduleView> {
    return this.#setPaused(this.#find(name), true)
  }

  async resume(name: string): Promise<ScheduleView> {
    return this.#setPaused(this.#find(name), false)
  }

  get #core() {
    return this.#rooms.core
  }

  async #setPaused(schedule: Schedule, paused: boolean): Promise<ScheduleView> {
    const nextRunAt = paused ? null : planned(schedule)
    await this.#update(schedule, (state) => ({ ...state, nextRunAt }), paused)
    this.#arm()
    return this.inspect(schedule.name)
  }

  /** After the start of the daemon, before any other run. */
  async #takeUp(): Promise<void> {
    for (const schedule of this.#readAll()) {
      const volume = this.#volumeOf(schedule)
      if (!volume) continue
      const { state } = schedule
      const run = { schedule, volume, startedAt: state.lastRunAt ?? '', isResumed: true }
      const isDue = state.nextRunAt !== null && state.nextRunAt <= now()
      if (isUnfinished(state) && hasTrace(this.#rooms, run)) this.#beginUnseen(schedule, volume, run)
      else if (isUnfinished(state) || isDue) await this.#catchUp(schedule)
    }
  }

  async #catchUp(schedule: Schedule): Promise<void> {
    const { name, state } = schedule
    const nextRunAt = soon(this.#timing.catchUpMs)
    this.#core.log.warn(
      { schedule: name, missed: state.nextRunAt, nextRunAt },
      'a scheduled run was missed; it is caught up',
    )
    await this.#tryUpdate(schedule, (current) => ({ ...current, nextRunAt: current.nextRunAt && nextRunAt }))
  }

  /** Begins what is due. */
  async #look(): Promise<void> {
    for (const schedule of this.#readAll()) {
      if (this.#state !== 'started') return
      await this.#lookAt(schedule).catch((error: Error) => this.#complain(error, schedule.name))
    }
    this.#arm()
  }

  async #lookAt(schedule: Schedule): Promise<void> {
    const { name, state, jitterMs } = schedule
    if (state.nextRunAt === null) return
    const replan = () =>
      this.#tryUpdate(schedule, (current) => ({ ...current, nextRunAt: current.nextRunAt && planned(schedule) }))
    if (state.nextRunAt > now()) {
      // It would sleep too long when the clock was ahead while it was planned.
      const latest = nextRun(schedule.cron, schedule.timeZone) + jitterMs
      if (Date.parse(state.nextRunAt) > latest) await replan()
      return
    }
    const volume = this.#volumeOf(schedule)
    if (volume && !this.#running.has(name)) return this.#beginUnseen(schedule, volume)
    if (volume)
      this.#core.log.warn(
        { schedule: name, due: state.nextRunAt },
        'a scheduled run is left out: the last one still runs',
      )
    await replan()
  }

  /** Looks again when the next one is due, and after a minute at the latest. One that stays due, as on a full disk, waits for that. */
  #arm(): void {
    if (this.#state !== 'started') return
    clearTimeout(this.#timer)
    const { lookEveryMs } = this.#timing
    const waits = this.#readAll().flatMap(({ state: { nextRunAt } }) => {
      const wait = nextRunAt === null ? 0 : Date.parse(nextRunAt) - Date.now()
      return wait > 0 ? [wait] : []
    })
    this.#timer = setTimeout(() => void this.#look(), Math.min(lookEveryMs, ...waits)).unref()
  }

  /** @param interrupted a run of an earlier life to go on with @throws what the run throws */
  #begin(schedule: Schedule, volume: Volume, interrupted?: Run, call?: CallOptions): Promise<void> {
    const running = this.#run(schedule, volume, interrupted, call).finally(() => {
      this.#running.delete(schedule.name)
      this.#arm()
    })
    this.#running.set(schedule.name, running)
    return running
  }

  /** For nobody who waits: how it went is in its state, and in the log. */
  #beginUnseen(schedule: Schedule, volume: Volume, interrupted?: Run): void {
    this.#begin(schedule, volume, interrupted).catch(() => undefined)
  }

  async #run(schedule: Schedule, volume: Volume, interrupted: Run | undefined, call?: CallOptions): Promise<void> {
    const run = interrupted ?? { schedule, volume, startedAt: this.#startTime(schedule), isResumed: false }
    if (interrupted) await pause(Math.random() * this.#timing.catchUpMs, undefined, { ref: false })
    else await this.#noteBegin(run)
    try {
      const retention = await carryOut(this.#rooms, run, call)
      if (retention && this.#isEnding) return
      await this.#noteSuccess(run, retention)
    } catch (error) {
      if (!this.#isEnding) await this.#noteFailure(run, toAppError(error))
      throw error
    }
  }

  /** What fails now fails because the daemon stops. */
  get #isEnding(): boolean {
    return this.#state === 'stopped' || this.#core.operations.stopping
  }

  /** Of which no run has made a snapshot before. */
  #startTime({ name, volumeId }: Schedule): string {
    let time = Date.now()
    const asText = (): string => new Date(time).toISOString()
    while (this.#core.catalog.snapshot(volumeId, snapshotName(name, asText()))) time += 1_000
    return asText()
  }

  async #noteBegin({ schedule, startedAt }: Run): Promise<void> {
    await this.#update(schedule, (state) => ({
      ...state,
      lastRunAt: startedAt,
      lastError: null,
      nextRunAt: state.nextRunAt && planned(schedule),
    }))
    this.#arm()
  }

  async #noteSuccess({ schedule, startedAt }: Run, retention: AppError | null): Promise<void> {
    const lastSuccessAt = now() < startedAt ? startedAt : now()
    const lastError = retention && { code: retention.code, message: retention.message }
    await this.#update(schedule, (state) => ({ ...state, lastSuccessAt, failures: 0, lastError }))
    const fields = { schedule: schedule.name, ...(lastError && { code: lastError.code, error: lastError.message }) }
    if (retention) this.#core.log.warn(fields, 'scheduled run done, but for retention')
    else this.#core.log.info(fields, 'scheduled run done')
  }

  async #noteFailure({ schedule }: Run, error: AppError): Promise<void> {
    const { code, message } = error
    await this.#tryUpdate(schedule, (state) => {
      const failures = state.failures + 1
      return {
        ...state,
        failures,
        lastError: { code, message },
        nextRunAt: this.#retryTime(state.nextRunAt, failures, error),
      }
    })
    this.#core.log.warn({ schedule: schedule.name, code, error: message }, 'a scheduled run failed')
  }

  /** What a user has cancelled is not tried again. */
  #retryTime(nextRunAt: string | null, failures: number, error: AppError): string | null {
    const waitMs = this.#timing.retryMs[failures - 1]
    if (nextRunAt === null || waitMs === undefined || isAppError(error, 'CANCELLED')) return nextRunAt
    const retryAt = new Date(Date.now() + waitMs).toISOString()
    return retryAt < nextRunAt ? retryAt : nextRunAt
  }

  /** Changes the state of a schedule, if it is still there, and the same one. */
  async #update(schedule: Schedule, change: (state: ScheduleState) => ScheduleState, paused?: boolean): Promise<void> {
    const { name, volumeId, createdAt } = schedule
    await this.#core.locks.with([`schedule:${name}`], `schedule ${name} is being changed`, async () => {
      const current = this.#core.catalog.schedule(name)
      if (current?.volumeId !== volumeId || current.createdAt !== createdAt) return
      const pausing = paused === undefined ? [] : [setSchedulePaused(name, paused)]
      await this.#core.catalog.write(...pausing, setScheduleState(name, change(current.state)))
    })
  }

  /** For the background, where nobody can be told that the catalog's disk is full. */
  async #tryUpdate(schedule: Schedule, change: (state: ScheduleState) => ScheduleState): Promise<void> {
    await this.#update(schedule, change).catch((error: Error) => this.#complain(error, schedule.name))
  }

  /** For the background: with a damaged catalog there is nothing to do. */
  #readAll(): readonly Schedule[] {
    try {
      return this.#core.catalog.schedules()
    } catch (error) {
      this.#complain(error as Error)
      return []
    }
  }

  #complain(error: Error, schedule?: string): void {
    this.#core.log.warn({ schedule, error: error.message }, 'schedules cannot be looked at; tried again in a minute')
  }

  #view(schedule: Schedule): ScheduleView {
    const { volumeId, paused, state, ...rest } = schedule
    const volume = this.#core.catalog.volumeById(volumeId)
    const isAsleep = paused || isTrashed(volume)
    const resting = isAsleep ? 'paused' : state.failures > 0 ? 'failing' : 'ok'
    const status = this.#running.has(schedule.name) ? 'running' : resting
    return { ...rest, ...state, volume: volume?.name ?? volumeId, status, nextRunAt: isAsleep ? null : state.nextRunAt }
  }

  #find(name: string): Schedule {
    const schedule = this.#core.catalog.schedule(name)
    if (schedule) return schedule
    throw new AppError('NOT_FOUND', `no such schedule: ${name}; see: holdfast schedule ls`)
  }

  /** Undefined in the trash. */
  #volumeOf({ volumeId }: Schedule): Volume | undefined {
    const volume = this.#core.catalog.volumeById(volumeId)
    return isTrashed(volume) ? undefined : volume
  }

  #liveVolume(schedule: Schedule): Volume {
    const volume = this.#volumeOf(schedule)
    if (volume) return volume
    const message = `the volume of schedule ${schedule.name} is in the trash; restore it first: holdfast trash ls`
    throw new AppError('FAILED_PRECONDITION', message)
  }
}

function isTrashed(volume: Volume | TrashedVolume | undefined): boolean {
  return volume !== undefined && 'deletedAt' in volume
}

/** When it runs next, jitter included. */
function planned({ cron, timeZone, jitterMs }: Pick<Schedule, 'cron' | 'timeZone' | 'jitterMs'>): string {
  return new Date(nextRun(cron, timeZone) + Math.random() * jitterMs).toISOString()
}

function soon(withinMs: number): string {
  return new Date(Date.now() + Math.random() * withinMs).toISOString()
}
