/** A schedule and its volume: how users see it, and whether it can run. Changes nothing. */

import { AppError } from '../../errors.ts'
import { isTrashed, type Schedule, type ScheduleState, type Volume } from '../../model.ts'
import type { Core } from '../core.ts'
import type { ScheduleView } from './contract.ts'

/** A run has begun of which nobody knows how it ended: it is under way, or was when the daemon ended. */
export function isUnfinished({ lastRunAt, lastSuccessAt, lastError }: ScheduleState): boolean {
  return lastRunAt !== null && lastError === null && (lastSuccessAt === null || lastSuccessAt < lastRunAt)
}

/** @param isRunning in this life of the daemon */
export function scheduleView({ catalog }: Core, schedule: Schedule, isRunning: boolean): ScheduleView {
  const { volumeId, paused, state, ...rest } = schedule
  const volume = catalog.volumeById(volumeId)
  const isAsleep = volume !== undefined && isTrashed(volume)
  const status = statusOf(schedule, isAsleep, isRunning)
  const nextRunAt = paused || isAsleep ? null : state.nextRunAt
  return { ...rest, ...state, volume: volume?.name ?? volumeId, status, nextRunAt }
}

function statusOf({ paused, state }: Schedule, isAsleep: boolean, isRunning: boolean): ScheduleView['status'] {
  if (isRunning) return 'running'
  if (isAsleep) return 'asleep'
  if (paused) return 'paused'
  return state.failures > 0 ? 'failing' : 'ok'
}

/** The volume it works on; undefined while that is in the trash. */
export function liveVolumeOf({ catalog }: Core, { volumeId }: Schedule): Volume | undefined {
  const volume = catalog.volumeById(volumeId)
  return volume && isTrashed(volume) ? undefined : volume
}

/** @throws FAILED_PRECONDITION while the volume is in the trash */
export function requireAwake(core: Core, schedule: Schedule): Volume {
  const volume = liveVolumeOf(core, schedule)
  if (volume) return volume
  const name = core.catalog.volumeById(schedule.volumeId)?.name ?? schedule.volumeId
  throw new AppError(
    'FAILED_PRECONDITION',
    `schedule ${schedule.name} is asleep: its volume ${name} is in the trash; run: holdfast trash restore ${name} ` +
      '(it also goes on with a new volume of that name)',
  )
}
