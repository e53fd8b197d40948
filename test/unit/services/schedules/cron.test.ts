/** When a cron expression is due, above all in the nights on which the clock is changed. */

import fc from 'fast-check'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { nextRun, requireCron } from '../../../../src/services/schedules/cron.ts'

afterEach(() => void vi.useRealTimers())

/** The first runs after a moment, one after the other, as a daemon plans them. */
function runs(after: string, expression: string, timeZone: string, count: number): string[] {
  vi.useFakeTimers({ toFake: ['Date'], now: Date.parse(after) })
  return Array.from({ length: count }, () => {
    const next = nextRun(expression, timeZone)
    vi.setSystemTime(next)
    return new Date(next).toISOString().replace(':00.000Z', 'Z')
  })
}

const berlin = 'Europe/Berlin'

describe('a night in which the clock is set forth', () => {
  test('a time that it skips is done an hour later by the clock, and once', () => {
    expect(runs('2026-03-27T12:00:00Z', '30 2 * * *', berlin, 4)).toEqual([
      '2026-03-28T01:30Z',
      '2026-03-29T01:30Z', // 03:30 in Berlin; there is no 02:30.
      '2026-03-30T00:30Z',
      '2026-03-31T00:30Z',
    ])
  })

  test('what is due every hour goes on', () => {
    expect(runs('2026-03-28T23:10:00Z', '0 * * * *', berlin, 3)).toEqual([
      '2026-03-29T00:00Z',
      '2026-03-29T01:00Z',
      '2026-03-29T02:00Z',
    ])
  })
})

describe('a night in which the clock is set back', () => {
  test('a time that comes twice is done the first time only', () => {
    expect(runs('2026-10-24T12:00:00Z', '30 2 * * *', berlin, 3)).toEqual([
      '2026-10-25T00:30Z',
      '2026-10-26T01:30Z',
      '2026-10-27T01:30Z',
    ])
  })

  test('what is due every half hour goes on through both', () => {
    expect(runs('2026-10-24T23:50:00Z', '*/30 * * * *', berlin, 6)).toEqual([
      '2026-10-25T00:00Z',
      '2026-10-25T00:30Z',
      '2026-10-25T01:00Z',
      '2026-10-25T01:30Z',
      '2026-10-25T02:00Z',
      '2026-10-25T02:30Z',
    ])
  })

  test('a time of a later month is that month’s own', () => {
    expect(runs('2026-10-15T12:00:00Z', '30 3 1 * *', berlin, 2)).toEqual(['2026-11-01T02:30Z', '2026-12-01T02:30Z'])
  })
})

test('a daily schedule runs once on each day of any year, in any zone', () => {
  const zones = fc.constantFrom(
    berlin,
    'America/New_York',
    'Australia/Lord_Howe',
    'Asia/Kolkata',
    'UTC',
    'Africa/Casablanca',
  )
  const minutes = fc.integer({ min: 0, max: 24 * 60 - 1 })
  fc.assert(
    fc.property(zones, minutes, fc.integer({ min: 0, max: 364 }), (timeZone, minute, day) => {
      const from = new Date(Date.UTC(2026, 0, 1 + day, 12)).toISOString()
      const found = runs(from, `${minute % 60} ${Math.floor(minute / 60)} * * *`, timeZone, 5)
      const gaps = found.slice(1).map((time, i) => (Date.parse(time) - Date.parse(found[i] as string)) / 3_600_000)
      for (const gap of gaps) {
        expect(gap).toBeGreaterThanOrEqual(23)
        expect(gap).toBeLessThanOrEqual(25)
      }
    }),
    { numRuns: 300 },
  )
})

test('the moment itself is past, and nicknames are known', () => {
  expect(runs('2026-05-05T03:00:00Z', '0 3 * * *', 'UTC', 1)).toEqual(['2026-05-06T03:00Z'])
  expect(runs('2026-05-05T03:00:00Z', '@weekly', 'UTC', 1)).toEqual(['2026-05-10T00:00Z'])
})

describe('what is refused', () => {
  test.each(['', '* * * *', '61 * * * *', '0 3 31 2 *', 'every day', '0 3 * * * * *'])('%j', (expression) => {
    expect(() => requireCron(expression, 'UTC')).toThrow(
      expect.objectContaining({
        code: 'INVALID_ARGUMENT',
        message: expect.stringMatching(/is not a cron expression: .*'0 3 \* \* \*'/),
      }),
    )
  })

  test('a time zone that there is not', () => {
    expect(() => requireCron('0 3 * * *', 'Mars/Olympus')).toThrow(
      expect.objectContaining({
        code: 'INVALID_ARGUMENT',
        message: expect.stringMatching(/'Mars\/Olympus' is not a time zone/),
      }),
    )
  })
})

test.each([
  ['61 * * * *', /'61' is no minute \(0 to 59\); give/],
  ['*/5 25 * * *', /'25' is no hour/],
  ['* * 0 * *', /'0' is no day of month/],
  ['* * * foo *', /'foo' is no month/],
  ['* * * * 8', /'8' is no day of week/],
  ['60 * * * * *', /'60' is no second/],
  ['* * *', /it has 3 fields instead of 5/],
  ['', /it has 0 fields instead of 5/],
  ['@weeekly', /it has 1 field instead of 5/],
  ['0 0 31 2 *', /there is no such day in that month/],
])('%j is refused, with what is wrong', (expression, fact) => {
  const message = expect.stringMatching(fact)
  expect(() => requireCron(expression, 'UTC')).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT', message }))
})
