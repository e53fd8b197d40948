/** Whether schedules do what they are for: those that fail, sleep, or are late. Changes nothing. */

import type { Finding, Schedule, Timestamp } from '../../model.ts'
import type { Core } from '../core.ts'
import { isUnfinished, liveVolumeOf } from './schedule-view.ts'

/** Failed runs that are more than an accident. */
const manyFailures = 3
/** The clock is looked at every minute. */
const overdueMs = 10 * 60_000
const longRunMs = 24 * 3_600_000

/** All schedules. One that is paused is as its owner wants it. */
export function checkSchedules(core: Core): Finding[] {
  return core.catalog.schedules().flatMap((schedule) => (schedule.paused ? [] : checkSchedule(core, schedule)))
}

function checkSchedule(core: Core, schedule: Schedule): Finding[] {
  const { name, volumeId, state } = schedule
  const volume = core.catalog.volumeById(volumeId)?.name ?? volumeId
  const found = (check: string, fact: string, remedy: string): Finding[] => {
    const severity = check === 'schedule-failing' && state.failures >= manyFailures ? 'error' : 'warning'
    return [{ severity, check, subject: name, message: `schedule ${name} of volume ${volume} ${fact}`, remedy }]
  }
  if (!liveVolumeOf(core, schedule)) {
    const fact = 'does nothing: the volume is in the trash, and the schedule goes when it is purged'
    return found('schedule-asleep', fact, `holdfast trash restore ${volume}, or: holdfast schedule rm ${name}`)
  }
  const { lastError, nextRunAt, lastRunAt } = state
  if (lastError) {
    const remedy = `mend that, then: holdfast schedule run ${name}`
    return found('schedule-failing', `${failed(state.failures)}: ${lastError.message}`, remedy)
  }
  if (isUnfinished(state) && isOlder(lastRunAt, longRunMs)) {
    const fact = `has been running since ${lastRunAt}, and leaves out what comes due meanwhile`
    return found('schedule-overdue', fact, 'see what it does: holdfast operation ls')
  }
  if (!isOlder(nextRunAt, overdueMs)) return []
  const remedy = 'see the log for the reason; a restart of the daemon catches it up'
  return found('schedule-overdue', `was due at ${nextRunAt} and has not run`, remedy)
}

function failed(times: number): string {
  if (times === 0) return 'has run, but not all of it'
  return `has failed ${times === 1 ? 'once' : `${times} times`} since its last success`
}

function isOlder(time: Timestamp | null, ms: number): boolean {
  return time !== null && Date.now() - Date.parse(time) > ms
}
