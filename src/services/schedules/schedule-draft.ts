/** From what a user typed to a schedule: parses and checks the request. Changes nothing. */

import { AppError } from '../../errors.ts'
import type { Schedule, Volume } from '../../model.ts'
import { parseRetention } from '../../repository/retention.ts'
import { formatDuration, parseDuration } from '../../units.ts'
import { now } from '../now.ts'
import type { CreateScheduleRequest } from './contract.ts'
import { requireCron } from './cron.ts'

/** A snapshot's name, which is the schedule's and a time, has 127 characters at most. */
const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,110}$/
const longestDefaultName = 100

/** VOLUME, or VOLUME-2, … : the first that is not taken. */
export function defaultName(volume: string, isTaken: (name: string) => boolean): string {
  const base = volume.slice(0, longestDefaultName)
  let name = base
  for (let number = 2; isTaken(name); number++) name = `${base}-${number}`
  return name
}

/** A checked request, but for its name's being free. @throws INVALID_ARGUMENT */
export function draftSchedule(volume: Volume, request: CreateScheduleRequest): Omit<Schedule, 'name'> {
  const { cron, snapshot = false, target = null, trim = false, keep = null, keepSnapshots = null } = request
  const timeZone = request.timeZone ?? Intl.DateTimeFormat().resolvedOptions().timeZone
  if (request.name !== undefined && !namePattern.test(request.name)) {
    throw invalid(
      `${JSON.stringify(request.name.slice(0, 140))} is not a schedule name: use 1 to 111 letters, digits, '_', '.' and '-', ` +
        'beginning with a letter or digit',
    )
  }
  if (!snapshot && target === null && !trim)
    throw invalid('the schedule would do nothing; give --snapshot, --backup TARGET, --trim, or several of them')
  if (keep !== null && target === null)
    throw invalid('--keep is for backups, and there are none without --backup TARGET')
  if (keepSnapshots !== null && !snapshot)
    throw invalid('--keep-snapshots is for snapshots that stay; give --snapshot too')
  requireCron(cron, timeZone)
  for (const retention of [keep, keepSnapshots]) if (retention !== null) parseRetention(retention)
  const jitterMs = request.jitter === undefined ? 0 : Math.round(parseDuration(request.jitter))
  const state = { nextRunAt: null, lastRunAt: null, lastSuccessAt: null, failures: 0, lastError: null }
  const what = { cron, timeZone, snapshot, target, trim, keep, keepSnapshots, jitterMs }
  return { volumeId: volume.id, ...what, paused: false, createdAt: now(), state }
}

/** What the CLI calls it, and how it shows it. */
const aspects: readonly [string, (schedule: Omit<Schedule, 'name'>) => string][] = [
  ['cron', ({ cron }) => cron],
  ['timezone', ({ timeZone }) => timeZone],
  ['snapshot', ({ snapshot }) => (snapshot ? 'yes' : 'no')],
  ['backup', ({ target }) => target ?? 'none'],
  ['trim', ({ trim }) => (trim ? 'yes' : 'no')],
  ['keep', ({ keep }) => keep ?? 'all'],
  ['keep-snapshots', ({ keepSnapshots }) => keepSnapshots ?? 'all'],
  ['jitter', ({ jitterMs }) => formatDuration(jitterMs)],
]

/** What is wanted and is not so in the existing one, one sentence part each. @param nameOf the name of the volume with that id */
export function differences(
  wanted: Omit<Schedule, 'name'>,
  existing: Schedule,
  nameOf: (volumeId: string) => string,
): string[] {
  const volume = (schedule: Omit<Schedule, 'name'>): string => nameOf(schedule.volumeId)
  return [['volume', volume] as const, ...aspects].flatMap(([what, show]) => {
    const [asked, is] = [show(wanted), show(existing)]
    return asked === is ? [] : [`${what} is ${is}, asked for ${asked}`]
  })
}

function invalid(message: string): AppError {
  return new AppError('INVALID_ARGUMENT', message)
}
