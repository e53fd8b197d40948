/**
 * When a cron expression is due, in a time zone. node-cron reads the expression (five fields, six with seconds first, or a nickname such as
 * `@daily`) and knows the calendar; here is what becomes of the two nights on which the clock is changed.
 *
 * A time that the clock skips is made up for once the clock has been moved (02:30 is done at 03:30, an hour after 01:30). Of a time that
 * comes twice, a fixed one is done the first time only; what is due every so many minutes or hours goes on.
 */

import { createTask } from 'node-cron'
import { AppError } from '../../errors.ts'

/**
 * Passes for an expression that comes due.
 * @throws INVALID_ARGUMENT for the expression or the time zone
 */
export function requireCron(expression: string, timeZone: string): void {
  requireTimeZone(timeZone)
  try {
    nextRun(expression, timeZone)
  } catch (error) {
    const remedy = "give minute, hour, day of month, month and day of week, such as '0 3 * * *' for every day at 3"
    const message = `'${expression}' is not a cron expression: ${whyNot(expression)}; ${remedy}`
    throw new AppError('INVALID_ARGUMENT', message, { cause: error })
  }
}

const fields = [
  { name: 'second', values: '0 to 59' },
  { name: 'minute', values: '0 to 59' },
  { name: 'hour', values: '0 to 23' },
  { name: 'day of month', values: '1 to 31, or L' },
  { name: 'month', values: '1 to 12, or jan to dec' },
  { name: 'day of week', values: '0 to 7, or sun to sat' },
] as const

/** The field that is wrong: the one with which an expression of stars beside it is wrong, too. */
function whyNot(expression: string): string {
  const parts = expression.trim().split(/\s+/).filter(Boolean)
  const known = fields.slice(parts.length === fields.length ? 0 : 1)
  if (parts.length !== known.length) return `it has ${parts.length} field${parts.length === 1 ? '' : 's'} instead of 5`
  const index = parts.findIndex((part, place) => !isExpression(known.map((_, at) => (at === place ? part : '*'))))
  const wrong = known[index]
  return wrong ? `'${parts[index]}' is no ${wrong.name} (${wrong.values})` : 'there is no such day in that month'
}

function isExpression(parts: readonly string[]): boolean {
  try {
    return first(parts.join(' '), 'UTC') > 0
  } catch {
    return false
  }
}

function requireTimeZone(timeZone: string): void {
  try {
    new Intl.DateTimeFormat('en', { timeZone })
  } catch (error) {
    const message = `'${timeZone}' is not a time zone; use a name such as Europe/Berlin`
    throw new AppError('INVALID_ARGUMENT', message, { cause: error })
  }
}

/** The next time after now, in ms since the epoch, to the second. @throws for an expression that is none */
export function nextRun(expression: string, timeZone: string): number {
  const next = first(expression, timeZone)
  const before = offsetMs(timeZone, Date.now())
  const after = offsetMs(timeZone, next)
  if (before === after) return next
  // As if the clock were not changed.
  const unchanged = first(expression, zoneOf(before))
  if (unchanged >= next) return next
  const isSkipped = after > before
  return isSkipped || isDue(expression, timeZone, unchanged) ? unchanged : next
}

function first(expression: string, timezone: string): number {
  return withTask(expression, timezone, (task) => task.getNextRuns(1)[0]?.getTime() ?? Number.NaN)
}

function isDue(expression: string, timezone: string, time: number): boolean {
  return withTask(expression, timezone, (task) => task.match(new Date(time)))
}

/** A task that is never started; node-cron remembers it until it is destroyed. */
function withTask<T>(expression: string, timezone: string, ask: (task: ReturnType<typeof createTask>) => T): T {
  const task = createTask(expression, () => undefined, { timezone })
  try {
    return ask(task)
  } finally {
    void task.destroy()
  }
}

const minuteMs = 60_000

/** What the zone's clock is ahead of UTC at a moment. */
function offsetMs(timeZone: string, time: number): number {
  const format = new Intl.DateTimeFormat('en', { timeZone, timeZoneName: 'longOffset' })
  const name = format.formatToParts(time).find(({ type }) => type === 'timeZoneName')?.value ?? ''
  const [, sign = '+', hours = '0', minutes = '0'] = /([+-])(\d\d):(\d\d)/.exec(name) ?? []
  return (sign === '-' ? -1 : 1) * (Number(hours) * 60 + Number(minutes)) * minuteMs
}

/** `+01:00`: a zone whose clock is never changed. */
function zoneOf(offset: number): string {
  const minutes = Math.abs(offset) / minuteMs
  const two = (value: number): string => String(Math.floor(value)).padStart(2, '0')
  return `${offset < 0 ? '-' : '+'}${two(minutes / 60)}:${two(minutes % 60)}`
}
