import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  Chunker,
  chooseProfile,
  fixedLength,
  longest,
  type Profile,
  profiles,
} from '../../../src/repository/chunker.ts'
import { Seal } from '../../../src/repository/seal.ts'
import { noise } from './support.ts'

const gear = new Seal({ repositoryId: '00'.repeat(16), masterKey: null }).gearTable()
const chunker = new Chunker(gear)
const sizes = {
  1: { min: 512 * 1024, max: 4 * 2 ** 20, bits: 19 },
  2: { min: 32 * 1024, max: 256 * 1024, bits: 15 },
} as const

/** FORMAT.md 5.2, word for word. */
function reference(profile: 1 | 2, bytes: Buffer, start: number): number {
  const { min, max, bits } = sizes[profile]
  let h = 0
  for (let i = start + min - 32; i < Math.min(bytes.length, start + max); i++) {
    h = (Math.imul(h, 2) + gear.readUInt32LE((bytes[i] ?? 0) * 4)) >>> 0
    if (i >= start + min && h >>> (32 - bits) === 0) return i + 1
  }
  return Math.min(bytes.length, start + max)
}

function cuts(profile: Profile, bytes: Buffer): number[] {
  bytes.copy(chunker.buffer)
  const ends: number[] = []
  for (let at = 0; at < bytes.length; at = ends.at(-1) ?? 0) ends.push(chunker.next(profile, at, bytes.length))
  return ends
}

describe.each([1, 2] as const)('profile %i', (profile) => {
  test('cuts where the format says', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 2 ** 31 - 1 }),
        fc.integer({ min: 1, max: 5_000_000 }),
        fc.boolean(),
        (seed, length, dull) => {
          const bytes = dull ? Buffer.alloc(length, seed) : noise(length, seed)
          let start = 0
          for (const end of cuts(profile, bytes)) {
            expect(end).toBe(
              bytes.length - start <= sizes[profile].min ? bytes.length : reference(profile, bytes, start),
            )
            start = end
          }
          expect(start).toBe(length)
        },
      ),
      { numRuns: 15 },
    )
  })

  test('finds the same chunks again behind an insertion', () => {
    const bytes = noise(7_900_000, 3)
    const shifted = Buffer.concat([noise(1234, 8), bytes])
    const before = new Set(cuts(profile, bytes))
    const same = cuts(profile, shifted).filter((end) => before.has(end - 1234))
    expect(same.length).toBeGreaterThan(before.size / 2)
  })

  test('has the average length that it is meant to have', () => {
    const { min, bits } = sizes[profile]
    const lengths: number[] = []
    for (let seed = 1; seed < 6; seed++) {
      const ends = cuts(profile, noise(8 * 2 ** 20, seed)).slice(0, -1)
      for (const [i, end] of ends.entries()) lengths.push(end - (ends[i - 1] ?? 0))
    }
    const mean = lengths.reduce((sum, length) => sum + length, 0) / lengths.length
    expect(mean).toBeGreaterThan((min + 2 ** bits) * 0.6)
    expect(mean).toBeLessThan((min + 2 ** bits) * 1.4)
    expect(Math.max(...lengths)).toBeLessThanOrEqual(longest(profile))
  })
})

test('fixed chunks are 64 KiB', () => {
  expect(cuts(profiles.fixed, Buffer.alloc(fixedLength * 2 + 5))).toEqual([
    fixedLength,
    2 * fixedLength,
    2 * fixedLength + 5,
  ])
})

describe('the profile of a file', () => {
  const pages = () => Buffer.alloc(65_536, 'page')
  const random = () => noise(65_536)
  const large = 64 * 2 ** 20
  test.each([
    ['a small file', 1000, undefined, pages, profiles.large],
    ['a database', large, undefined, pages, profiles.fixed],
    ['a log', large + 1, undefined, pages, profiles.small],
    ['a film', large, undefined, random, profiles.large],
    [
      'an archive',
      large,
      undefined,
      () => Buffer.concat([Buffer.alloc(257), Buffer.from('ustar'), Buffer.alloc(5000)]),
      profiles.small,
    ],
    ['a film that changed in place', large, { profile: profiles.large, changedInPlace: true }, random, profiles.fixed],
    [
      'a database that shrank a little',
      20 * 2 ** 20,
      { profile: profiles.fixed, changedInPlace: true },
      pages,
      profiles.fixed,
    ],
    ['a database that shrank much', 2 ** 20, { profile: profiles.fixed, changedInPlace: true }, pages, profiles.large],
    ['a log once small', 20 * 2 ** 20 + 1, { profile: profiles.small, changedInPlace: false }, random, profiles.small],
  ])('%s', (_, size, former, sample, profile) => {
    expect(chooseProfile(size, former, sample)).toBe(profile)
  })
})
