/** When a schedule runs next: by its cron expression, after a failure, after a missed run. Times are RFC 3339 UTC. */

import { type AppError, isAppError } from '../../errors.ts'
import type { Schedule, Timestamp } from '../../model.ts'
import { nextRun } from './cron.ts'

/** How long schedules wait for what. */
export interface ScheduleTiming {
  /** At most so long the clock is not looked at. */
  readonly lookEveryMs: number
  /** A missed run begins within this time of the start, at random: many nodes may start at once. */
  readonly catchUpMs: number
  /** After the first failure, the second, … */
  readonly retryMs: readonly number[]
}

export const usualTiming: ScheduleTiming = {
  lookEveryMs: 60_000,
  catchUpMs: 60_000,
  retryMs: [60_000, 300_000, 900_000],
}

/** By its expression, jitter included. */
export function planned({ cron, timeZone, jitterMs }: Pick<Schedule, 'cron' | 'timeZone' | 'jitterMs'>): Timestamp {
  return new Date(nextRun(cron, timeZone) + Math.random() * jitterMs).toISOString()
}

/** At random. */
export function soon(withinMs: number): Timestamp {
  return new Date(Date.now() + Math.random() * withinMs).toISOString()
}

/**
 * After a failure. What a user has cancelled is not tried again.
 * @param nextRunAt when it is due anyway; null: it is paused @param failures with this one
 */
export function retryTime(
  { retryMs }: ScheduleTiming,
  nextRunAt: Timestamp | null,
  failures: number,
  error: AppError,
): Timestamp | null {
  const waitMs = retryMs[failures - 1]
  if (nextRunAt === null || waitMs === undefined || isAppError(error, 'CANCELLED')) return nextRunAt
  const retryAt = new Date(Date.now() + waitMs).toISOString()
  return retryAt < nextRunAt ? retryAt : nextRunAt
}
