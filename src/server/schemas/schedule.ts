/** What the admin API takes and gives about schedules, as JSON Schema. */

import type { CreateScheduleRequest, ScheduleView } from '../../services/schedules/contract.ts'
import { nullable, object, viewOf } from '../json-schema.ts'
import { count, text, textOrNull, time, timeOrNull, yesOrNo } from './words.ts'

/** The types, for those who may not know the services. */
export type { CreateScheduleRequest, ScheduleView }

/** A schedule, how it went and when it runs again. */
export const scheduleView = viewOf<ScheduleView>()(
  object({
    name: text,
    volume: text,
    cron: text,
    timeZone: text,
    snapshot: { type: 'boolean', description: 'makes snapshots that stay' },
    target: { type: ['string', 'null'], description: 'backs up to it' },
    trim: { type: 'boolean', description: 'gives back what the file system has freed' },
    keep: textOrNull,
    keepSnapshots: textOrNull,
    jitterMs: { type: 'integer', minimum: 0, description: 'ms' },
    createdAt: time,
    status: {
      enum: ['ok', 'running', 'failing', 'paused', 'asleep'],
      description: 'asleep: its volume is in the trash',
    },
    nextRunAt: timeOrNull,
    lastRunAt: timeOrNull,
    lastSuccessAt: timeOrNull,
    failures: { ...count, description: 'failed runs since the last success' },
    lastError: nullable(object({ code: text, message: text })),
  }),
)

export const createScheduleBody = object(
  {
    volume: text,
    cron: { type: 'string', description: 'minute, hour, day of month, month, day of week' },
    name: text,
    timeZone: { type: 'string', description: 'such as Europe/Berlin' },
    snapshot: yesOrNo,
    target: text,
    trim: yesOrNo,
    keep: { type: 'string', description: 'retention of backups, such as last=3,daily=7' },
    keepSnapshots: { type: 'string', description: 'retention of snapshots' },
    jitter: { type: 'string', description: 'a duration: a run begins up to this much later' },
  },
  ['name', 'timeZone', 'snapshot', 'target', 'trim', 'keep', 'keepSnapshots', 'jitter'],
)
export const listSchedulesQuery = object({ volume: text }, ['volume'])

/** Part of paths. */
export const scheduleParams = object({ name: text })
