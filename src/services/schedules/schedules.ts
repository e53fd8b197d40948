/**
 * Schedules: what is to be done to a volume, and when. When each runs next is in the catalog, so that a run that was missed while the
 * daemon was down is seen and caught up, once. What a run does is schedule-run.ts's; when a cron expression is due, cron.ts's.
 *
 * A schedule never overlaps with itself: what comes due while it runs is left out. A failed run is tried again a few times, then waits for its
 * turn. A run is an operation, by which it is followed and cancelled; a restart of the daemon goes on with both. While its volume is in the trash a
 * schedule sleeps. The wall clock is looked at every minute, as it may be set forth or back. Of a volume that several nodes use, one node at a
 * time runs what comes due (schedule-leases.ts); what a user asks for, the node that is asked.
 */

import { randomUUID } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { dropSchedule, insertSchedule, setSchedulePaused, setScheduleState } from '../../catalog/changes.ts'
import type { DriverContext } from '../../driver.ts'
import { AppError, toAppError } from '../../errors.ts'
import type { Operation, Schedule, ScheduleState, Volume } from '../../model.ts'
import { Turns } from '../../system/turns.ts'
import { findVolume, requireVolume } from '../core.ts'
import type { CallOptions } from '../journal/contract.ts'
import type { Outcome } from '../journal/operations.ts'
import { now } from '../now.ts'
import { requireTrim } from '../volumes/trim.ts'
import type { CreateScheduleRequest, ScheduleService, ScheduleView } from './contract.ts'
import { nextRun } from './cron.ts'
import { ScheduleBindings } from './schedule-bindings.ts'
import { defaultName, differences, draftSchedule } from './schedule-draft.ts'
import { leased, ScheduleLeases } from './schedule-leases.ts'
import { planned, retryTime, type ScheduleTiming, soon, usualTiming } from './schedule-plan.ts'
import { carryOut, hasTrace, type Run, runKind, type ScheduleRooms, snapshotName } from './schedule-run.ts'
import { isUnfinished, liveVolumeOf, requireAwake, scheduleView } from './schedule-view.ts'

/** Snapshots that are whole copies; that many schedules are due at midnight must not bring the node to its knees. */
const copiesAtOnce = 2

/** A run under way, by its operation. */
interface Running {
  readonly id: string
  readonly ended: Promise<void>
}

/** A run of an earlier life to go on with, and its entry in the journal, if that is there. */
interface Interrupted {
  readonly run: Run
  readonly entry: Operation | undefined
}

export class Schedules implements ScheduleService {
  readonly #rooms: ScheduleRooms
  readonly #timing: ScheduleTiming
  readonly #bindings: ScheduleBindings
  readonly #leases: ScheduleLeases
  readonly #running = new Map<string, Running>()
  #timer: NodeJS.Timeout | undefined
  #state: 'new' | 'started' | 'stopped' = 'new'

  constructor(rooms: Omit<ScheduleRooms, 'turns'>, timing: ScheduleTiming = usualTiming) {
    this.#rooms = { ...rooms, turns: new Turns(copiesAtOnce) }
    this.#bindings = new ScheduleBindings(rooms.core.log)
    this.#leases = new ScheduleLeases(rooms.core)
    this.#timing = timing
  }

  /** Goes on with what the daemon's end has interrupted, catches up what it has missed, and begins to look at the clock. */
  start(): void {
    this.#state = 'started'
    void this.#takeUp()
      .catch((error: Error) => this.#complain(error))
      .then(() => this.#look())
  }

  /** Begins no run any more; those under way end with the daemon, and are gone on with when it is back. Idempotent. */
  stop(): void {
    if (this.#state === 'started') this.#readAll() // What has become of them since the last look is still to be logged.
    this.#state = 'stopped'
    clearTimeout(this.#timer)
    void this.#leases.releaseAllBut([])
  }

  async create(request: CreateScheduleRequest): Promise<ScheduleView> {
    const volume = requireVolume(this.#core, request.volume)
    const draft = draftSchedule(volume, request)
    if (draft.trim) requireTrim(this.#core, volume)
    if (draft.target !== null && !this.#core.catalog.target(draft.target)) {
      throw new AppError('NOT_FOUND', `no such target: ${draft.target}; see: holdfast target ls`)
    }
    return this.#core.locks.with(['schedules'], 'a schedule is being created', async () => {
      const existing = this.#existing(draft, request.name)
      const name = existing?.name ?? request.name ?? this.#freeName(volume)
      if (!existing) {
        const schedule = { ...draft, name, state: { ...draft.state, nextRunAt: planned(draft) } }
        await this.#core.catalog.write(insertSchedule(schedule))
        this.#arm()
      }
      return this.inspect(name)
    })
  }

  /** The same schedule, made before. @throws ALREADY_EXISTS for another one of that name */
  #existing(draft: Omit<Schedule, 'name'>, name: string | undefined): Schedule | undefined {
    const { catalog } = this.#core
    const differ = (other: Schedule) => differences(draft, other, (id) => catalog.volumeById(id)?.name ?? id)
    if (name === undefined) return catalog.schedules().find((other) => differ(other).length === 0)
    const taken = catalog.schedule(name)
    const found = taken ? differ(taken) : []
    if (found.length === 0) return taken
    const remedy = `take another name, or first run: holdfast schedule rm ${name}`
    throw new AppError(
      'ALREADY_EXISTS',
      `schedule ${name} exists, but not as asked for: ${found.join('; ')}; ${remedy}`,
      {
        details: { differences: found },
      },
    )
  }

  #freeName({ name }: Volume): string {
    return defaultName(name, (taken) => this.#core.catalog.schedule(taken) !== undefined)
  }

  list(volume?: string): ScheduleView[] {
    const all = this.#lookUp().map((schedule) => this.#view(schedule))
    const found = all.filter((view) => volume === undefined || view.volume === volume)
    // That of a volume in the trash is found, too.
    if (volume !== undefined && found.length === 0) findVolume(this.#core, volume)
    return found
  }

  inspect(name: string): ScheduleView {
    return this.#view(this.#find(name))
  }

  async remove(name: string): Promise<void> {
    this.#find(name)
    this.#bindings.expectRemoval(name)
    await this.#core.catalog.write(dropSchedule(name))
  }

  async run(name: string, call: CallOptions = {}): Promise<ScheduleView> {
    const schedule = this.#find(name)
    const running = this.#running.get(name)
    if (running) call.onStarted?.(running.id)
    await (running?.ended ?? this.#begin(schedule, requireAwake(this.#core, schedule), call))
    return this.inspect(name)
  }

  async pause(name: string): Promise<ScheduleView> {
    return this.#setPaused(this.#find(name), true)
  }

  async resume(name: string): Promise<ScheduleView> {
    const schedule = this.#find(name)
    requireAwake(this.#core, schedule)
    return this.#setPaused(schedule, false)
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
    const entries = this.#core.catalog.runningOperations().filter(({ kind }) => kind === runKind)
    const goOn = new Set<Operation | undefined>()
    for (const schedule of this.#readAll()) {
      const entry = entries.findLast(({ subject }) => subject === schedule.name)
      if (await this.#takeUpOne(schedule, entry)) goOn.add(entry)
    }
    for (const entry of entries) if (!goOn.has(entry)) await this.#core.operations.close(entry, 'interrupted', [])
  }

  /** @returns whether its interrupted run is gone on with */
  async #takeUpOne(schedule: Schedule, entry: Operation | undefined): Promise<boolean> {
    const volume = liveVolumeOf(this.#core, schedule)
    if (!volume) return false
    const { state } = schedule
    const run = { schedule, volume, startedAt: state.lastRunAt ?? '', isResumed: true }
    const goesOn = isUnfinished(state) && hasTrace(this.#rooms, run)
    const isDue = state.nextRunAt !== null && state.nextRunAt <= now()
    if (goesOn) this.#beginUnseen(schedule, volume, { run, entry })
    else if (isUnfinished(state) || isDue) await this.#catchUp(schedule)
    return goesOn
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
    const all = this.#readAll()
    void this.#leases.releaseAllBut(all)
    for (const schedule of all) {
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
    const volume = liveVolumeOf(this.#core, schedule)
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

  /** @throws what the run throws */
  #begin(schedule: Schedule, volume: Volume, call: CallOptions): Promise<void> {
    const id = call.operationId ?? randomUUID()
    return this.#track(schedule, id, this.#run(schedule, volume, undefined, { ...call, operationId: id }))
  }

  #track({ name }: Schedule, id: string, run: Promise<void>): Promise<void> {
    const ended = run.finally(() => {
      this.#running.delete(name)
      this.#arm()
    })
    this.#running.set(name, { id, ended })
    return ended
  }

  /** For nobody who waits: how it went is in its state, and in the log. */
  #beginUnseen(schedule: Schedule, volume: Volume, interrupted?: Interrupted): void {
    const id = interrupted?.entry?.id ?? randomUUID()
    this.#track(schedule, id, this.#runInTurn(schedule, volume, interrupted, id)).catch(() => undefined)
  }

  /** Runs what is due, unless another node does. */
  async #runInTurn(
    schedule: Schedule,
    volume: Volume,
    interrupted: Interrupted | undefined,
    id: string,
  ): Promise<void> {
    const lease = await this.#leases.take(schedule, volume).catch(async (error: unknown) => {
      await this.#tryUpdate(schedule, (state) => ({ ...state, nextRunAt: state.nextRunAt && planned(schedule) }))
      await this.#noteFailure(schedule, toAppError(error))
      throw error
    })
    if (lease) return this.#run(schedule, volume, interrupted, { operationId: id }, lease)
    this.#core.log.info({ schedule: schedule.name }, 'a scheduled run is left to another node')
    if (interrupted?.entry) await this.#core.operations.close(interrupted.entry, 'interrupted', [])
    await this.#tryUpdate(schedule, (state) => leftToOthers(state, schedule))
  }

  async #run(
    schedule: Schedule,
    volume: Volume,
    interrupted: Interrupted | undefined,
    { operationId: id, onStarted }: CallOptions,
    lease?: AbortSignal,
  ): Promise<void> {
    const { operations } = this.#core
    const run = interrupted?.run ?? { schedule, volume, startedAt: this.#startTime(schedule), isResumed: false }
    if (!interrupted) await this.#noteBegin(run)
    let isNoted = false
    const body = async (ctx: DriverContext): Promise<Outcome<void>> => {
      const retention = await this.#carryOut(run, lease ? leased(ctx, lease) : ctx)
      isNoted = true
      // What was to be made is there; but who has cancelled the rest is to be told so.
      if (retention) ctx.signal.throwIfAborted()
      return { result: undefined, changes: [] }
    }
    try {
      if (interrupted?.entry) await operations.resume(interrupted.entry, body, async () => undefined)
      else
        await operations.run(
          { kind: runKind, subject: schedule.name, payload: {}, id, onStarted, resumable: true },
          body,
        )
    } catch (error) {
      if (!this.#isEnding && !isNoted) await this.#noteFailure(schedule, toAppError(error))
      throw error
    }
  }

  /** @returns why retention could not be applied, or null */
  async #carryOut(run: Run, ctx: DriverContext): Promise<AppError | null> {
    if (run.isResumed)
      await pause(Math.random() * this.#timing.catchUpMs, undefined, { ref: false, signal: ctx.signal })
    const retention = await carryOut(this.#rooms, run, ctx)
    if (retention && this.#isEnding) throw retention
    await this.#noteSuccess(run, retention)
    return retention
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

  async #noteFailure(schedule: Schedule, error: AppError): Promise<void> {
    const { code, message } = error
    await this.#tryUpdate(schedule, (state) => {
      const failures = state.failures + 1
      return {
        ...state,
        failures,
        lastError: { code, message },
        nextRunAt: retryTime(this.#timing, state.nextRunAt, failures, error),
      }
    })
    this.#core.log.warn({ schedule: schedule.name, code, error: message }, 'a scheduled run failed')
  }

  /** Changes the state of a schedule, if it is still there, and the same one. */
  async #update(schedule: Schedule, change: (state: ScheduleState) => ScheduleState, paused?: boolean): Promise<void> {
    const { name, createdAt } = schedule
    await this.#core.locks.with([`schedule:${name}`], `schedule ${name} is being changed`, async () => {
      const current = this.#core.catalog.schedule(name)
      if (current?.createdAt !== createdAt) return
      const pausing = paused === undefined ? [] : [setSchedulePaused(name, paused)]
      await this.#core.catalog.write(...pausing, setScheduleState(name, change(current.state)))
    })
  }

  /** For the background, where nobody can be told that the catalog's disk is full. */
  async #tryUpdate(schedule: Schedule, change: (state: ScheduleState) => ScheduleState): Promise<void> {
    await this.#update(schedule, change).catch((error: Error) => this.#complain(error, schedule.name))
  }

  #lookUp(): readonly Schedule[] {
    const schedules = this.#core.catalog.schedules()
    this.#bindings.look(schedules)
    return schedules
  }

  /** For the background: with a damaged catalog there is nothing to do. */
  #readAll(): readonly Schedule[] {
    try {
      return this.#lookUp()
    } catch (error) {
      this.#complain(error as Error)
      return []
    }
  }

  #complain(error: Error, schedule?: string): void {
    this.#core.log.warn({ schedule, error: error.message }, 'schedules cannot be looked at; tried again in a minute')
  }

  #view(schedule: Schedule): ScheduleView {
    return scheduleView(this.#core, schedule, this.#running.has(schedule.name))
  }

  #find(name: string): Schedule {
    const schedule = this.#core.catalog.schedule(name)
    if (schedule) return schedule
    throw new AppError('NOT_FOUND', `no such schedule: ${name}; see: holdfast schedule ls`)
  }
}

/** Nothing is under way here any more, and how the other node fares is not this one's to say. */
function leftToOthers(state: ScheduleState, schedule: Schedule): ScheduleState {
  const nextRunAt = state.nextRunAt && planned(schedule)
  return { ...state, lastRunAt: state.lastSuccessAt, failures: 0, lastError: null, nextRunAt }
}
