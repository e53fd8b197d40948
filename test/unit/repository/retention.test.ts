import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { applyRetention, parseRetention, type RetentionPolicy } from '../../../src/repository/retention.ts'

const none: RetentionPolicy = { last: 0, hourly: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0, withinMs: 0 }
const hour = 3_600_000

function kept(times: readonly string[], policy: Partial<RetentionPolicy>, timeZone = 'UTC'): string[] {
  const items = times.map((createdAt, i) => ({ id: String(i), createdAt }))
  return applyRetention(items, { ...none, ...policy }, { timeZone })
    .filter(({ keep }) => keep)
    .map(({ item }) => item.createdAt)
}

const everySixHours = Array.from({ length: 400 }, (_, i) => new Date(Date.UTC(2026, 0, 1) + i * 6 * hour).toISOString())

describe('rules of restic', () => {
  test('last', () => expect(kept(everySixHours, { last: 3 })).toEqual(everySixHours.slice(-3).reverse()))
  test('daily keeps the newest of each day', () => {
    expect(kept(everySixHours, { daily: 3 })).toEqual([
      '2026-04-10T18:00:00.000Z',
      '2026-04-09T18:00:00.000Z',
      '2026-04-08T18:00:00.000Z',
    ])
  })
  test('weeks begin on Monday', () => {
    expect(kept(everySixHours, { weekly: 2 })).toEqual(['2026-04-10T18:00:00.000Z', '2026-04-05T18:00:00.000Z'])
  })
  test('the oldest is kept when a rule has room left', () => {
    expect(kept(everySixHours, { monthly: 12 }).at(-1)).toBe(everySixHours[0])
  })
  test('within counts from the newest', () => {
    expect(kept(everySixHours, { withinMs: 12 * hour })).toEqual(everySixHours.slice(-3).reverse())
  })
  test('days are those of the time zone', () => {
    const times = ['2026-05-01T21:00:00.000Z', '2026-05-01T23:00:00.000Z']
    expect(kept([...times, '2026-05-02T05:00:00.000Z'], { daily: 2 }, 'Europe/Berlin')).toEqual([
      '2026-05-02T05:00:00.000Z',
      times[0],
    ])
  })
  test('years by ISO weeks', () => {
    const times = [
      '2024-12-29T12:00:00.000Z',
      '2024-12-30T12:00:00.000Z',
      '2025-01-05T12:00:00.000Z',
      '2025-01-06T12:00:00.000Z',
    ]
    expect(kept(times, { weekly: 2 })).toEqual([times[3], times[2]])
  })
})

const policies = fc.record({
  last: fc.nat({ max: 5 }),
  hourly: fc.nat({ max: 5 }),
  daily: fc.nat({ max: 5 }),
  weekly: fc.nat({ max: 5 }),
  monthly: fc.nat({ max: 5 }),
  yearly: fc.nat({ max: 5 }),
  withinMs: fc.nat({ max: 100 * hour }),
})
const items = fc.array(fc.integer({ min: 0, max: 4 * 365 * 24 }), { minLength: 1, maxLength: 60 }).map((hours) =>
  hours.map((h, i) => ({
    id: String(i).padStart(3, '0'),
    createdAt: new Date(Date.UTC(2022, 0, 1) + h * hour).toISOString(),
  })),
)

test('whatever the policy: the newest stays, a rule keeps no more than its number, and a second pass removes nothing of within and last', () => {
  fc.assert(
    fc.property(items, policies, (all, policy) => {
      fc.pre(Object.values(policy).some((value) => value > 0))
      const decisions = applyRetention(all, policy)
      expect(decisions.length).toBe(all.length)
      expect(decisions[0]?.keep).toBe(true)
      for (const rule of ['last', 'hourly', 'daily', 'weekly', 'monthly', 'yearly'] as const) {
        expect(decisions.filter(({ reasons }) => reasons.includes(rule)).length).toBeLessThanOrEqual(policy[rule])
      }
      const shuffled = applyRetention(all.toReversed(), policy)
      expect(new Set(shuffled.filter(({ keep }) => keep).map(({ item }) => item.id))).toEqual(
        new Set(decisions.filter(({ keep }) => keep).map(({ item }) => item.id)),
      )
    }),
  )
})

test('the newest sound one stays although newer ones are damaged', () => {
  const all = everySixHours.slice(0, 4).map((createdAt, i) => ({ id: String(i), createdAt, sound: i < 2 }))
  const decisions = applyRetention(all, { ...none, last: 1 }, { isSound: ({ sound }) => sound })
  expect(decisions.filter(({ keep }) => keep).map(({ item }) => item.id)).toEqual(['3', '1'])
})

test('policies are parsed', () => {
  expect(parseRetention('last=3, daily=7,within=30d')).toEqual({ ...none, last: 3, daily: 7, withinMs: 30 * 24 * hour })
  for (const bad of ['', 'last=0', 'last', 'daily=-1', 'weekly=x', 'forever=1', 'within=soon']) {
    expect(() => parseRetention(bad), bad).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
  }
  expect(() => applyRetention([], none)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
})
