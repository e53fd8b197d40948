/** Which backups a policy keeps: the rules of restic's forget. Pure; the caller groups backups by volume and deletes. */

import { AppError } from '../errors.ts'
import type { Timestamp } from '../model.ts'
import { parseDuration } from '../units.ts'

export interface RetentionPolicy {
  /** The newest so many. */
  readonly last: number
  /** The newest one of each of the newest so many hours, days, ISO weeks, months, years that have any. */
  readonly hourly: number
  readonly daily: number
  readonly weekly: number
  readonly monthly: number
  readonly yearly: number
  /** All that are at most this much older than the newest, ms. */
  readonly withinMs: number
}

/** What retention needs to know of a backup (or of a snapshot). */
export interface Kept {
  readonly id: string
  readonly createdAt: Timestamp
}

export interface RetentionDecision<T> {
  readonly item: T
  readonly keep: boolean
  /** Why it is kept: `last`, `daily`, …, `newest`; empty when it is not. */
  readonly reasons: readonly string[]
}

const counts = ['last', 'hourly', 'daily', 'weekly', 'monthly', 'yearly'] as const

type Count = (typeof counts)[number]

/**
 * Parses `last=3,daily=7,within=30d`.
 * @throws INVALID_ARGUMENT for an unknown rule, a number that is none, or a policy that keeps nothing
 */
export function parseRetention(text: string): RetentionPolicy {
  const policy = { last: 0, hourly: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0, withinMs: 0 }
  for (const part of text.split(',').map((rule) => rule.trim())) {
    const [rule, value] = part.split('=', 2)
    if (rule === 'within' && value) policy.withinMs = parseDuration(value)
    else if (counts.includes(rule as Count) && /^\d{1,6}$/.test(value ?? '')) policy[rule as Count] = Number(value)
    else
      throw invalid(
        `'${part}' is no retention rule; use last, hourly, daily, weekly, monthly, yearly =NUMBER or within=DURATION`,
      )
  }
  if (isEmpty(policy)) throw invalid(`the retention '${text}' would keep nothing; give at least one rule above 0`)
  return policy
}

function invalid(message: string): AppError {
  return new AppError('INVALID_ARGUMENT', message)
}

function isEmpty(policy: RetentionPolicy): boolean {
  return policy.withinMs === 0 && counts.every((count) => policy[count] === 0)
}

/**
 * Decides about `items` (one volume's), in any order. The newest is always kept, and so is the newest that is sound.
 * @param timeZone of hours, days, weeks, months and years @param isSound false for one known to be damaged
 * @returns decisions, newest first @throws INVALID_ARGUMENT for a policy without a rule
 */
export function applyRetention<T extends Kept>(
  items: readonly T[],
  policy: RetentionPolicy,
  { timeZone = 'UTC', isSound = () => true }: { timeZone?: string; isSound?: (item: T) => boolean } = {},
): RetentionDecision<T>[] {
  if (isEmpty(policy)) throw invalid('a retention without a rule would keep nothing')
  const sorted = items.toSorted((a, b) => Date.parse(b.createdAt) - Date.parse(a.createdAt) || (a.id < b.id ? 1 : -1))
  const rules: Rule[] = counts.map((name) => ({ name, left: policy[name], last: undefined }))
  const period = periods(timeZone)
  const newest = Date.parse(sorted[0]?.createdAt ?? '')
  const newestSound = sorted.find(isSound)
  return sorted.map((item, i) => {
    const time = Date.parse(item.createdAt)
    const reasons = i === 0 || item === newestSound ? ['newest'] : []
    for (const rule of rules) {
      const value = rule.name === 'last' ? String(i) : period(rule.name, time)
      if (takes(rule, value, i === sorted.length - 1)) reasons.push(rule.name)
    }
    if (policy.withinMs > 0 && newest - time <= policy.withinMs) reasons.push('within')
    return { item, keep: reasons.length > 0, reasons }
  })
}

interface Rule {
  readonly name: Count
  left: number
  last: string | undefined
}

/**
 * Whether the rule keeps an item of the period `value`. As with restic, it keeps the oldest one as long as it has room: periods that have not
 * passed yet are not lost.
 */
function takes(rule: Rule, value: string, isOldest: boolean): boolean {
  if (rule.left === 0 || (value === rule.last && !isOldest)) return false
  rule.last = value
  rule.left--
  return true
}

/** Names the period that a moment lies in. @throws INVALID_ARGUMENT for an unknown time zone */
function periods(timeZone: string): (rule: Exclude<Count, 'last'>, time: number) => string {
  const format = formatFor(timeZone)
  return (rule, time) => {
    const parts = Object.fromEntries(format.formatToParts(time).map(({ type, value }) => [type, value]))
    const { year, month, day, hour } = parts as Record<string, string>
    if (rule === 'yearly') return `${year}`
    if (rule === 'monthly') return `${year}-${month}`
    if (rule === 'weekly') return isoWeek(Number(year), Number(month), Number(day))
    if (rule === 'daily') return `${year}-${month}-${day}`
    return `${year}-${month}-${day} ${hour}`
  }
}

function formatFor(timeZone: string): Intl.DateTimeFormat {
  const two = '2-digit'
  try {
    return new Intl.DateTimeFormat('en-u-ca-iso8601', {
      timeZone,
      hourCycle: 'h23',
      year: 'numeric',
      month: two,
      day: two,
      hour: two,
    })
  } catch (error) {
    throw new AppError('INVALID_ARGUMENT', `'${timeZone}' is not a time zone; use a name such as Europe/Berlin`, {
      cause: error,
    })
  }
}

/** The week belongs to the year that its Thursday lies in. */
function isoWeek(year: number, month: number, day: number): string {
  const thursday = new Date(Date.UTC(year, month - 1, day))
  thursday.setUTCDate(thursday.getUTCDate() + 3 - ((thursday.getUTCDay() + 6) % 7))
  const days = (thursday.getTime() - Date.UTC(thursday.getUTCFullYear(), 0, 1)) / 86_400_000
  return `${thursday.getUTCFullYear()} week ${1 + Math.floor(days / 7)}`
}
