/** Sizes, durations and names, at the border. */

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { isAppError } from '../../src/errors.ts'
import {
  formatDuration,
  formatSize,
  parseDuration,
  parseSize,
  parseSnapshotName,
  parseSnapshotRef,
  parseVolumeName,
  suggestion,
} from '../../src/units.ts'

/** What `parse` gives, or undefined when it refuses with INVALID_ARGUMENT; anything else thrown is thrown. */
function accepted<T>(parse: () => T): T | undefined {
  try {
    return parse()
  } catch (error) {
    if (isAppError(error, 'INVALID_ARGUMENT')) return undefined
    throw error
  }
}

const factors = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 }

describe('sizes', () => {
  test('plain bytes are themselves', () => {
    fc.assert(fc.property(fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }), (n) => parseSize(String(n)) === n))
  })

  test('every unit is 1024-based, in any case and spelling', () => {
    const unit = fc.constantFrom(...(Object.keys(factors) as (keyof typeof factors)[]))
    const suffix = fc.constantFrom('', 'B', 'iB', 'b', 'ib')
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 8000 }), unit, suffix, fc.boolean(), (n, prefix, end, lower) => {
        const text = `${n}${lower ? prefix.toLowerCase() : prefix}${end}`
        expect(parseSize(text)).toBe(n * factors[prefix])
      }),
    )
  })

  test('a fraction of a unit is rounded to bytes', () => {
    expect(parseSize('1.5G')).toBe(1.5 * 2 ** 30)
    expect(parseSize(' 0.5 MiB ')).toBe(2 ** 19)
  })

  test.each([
    '',
    ' ',
    '0',
    '0G',
    '-1',
    '1X',
    'G',
    '1e3',
    '0x10',
    '1,5G',
    '9007199254740992',
    '8192T',
    '1 2',
    '1G\0',
    'NaN',
  ])('%j is refused', (text) => {
    expect(() => parseSize(text)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
  })

  test('any text is either a whole number of bytes or refused', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        const size = accepted(() => parseSize(text))
        expect(size === undefined || (Number.isSafeInteger(size) && size > 0)).toBe(true)
      }),
    )
  })

  test('what is printed for people is near and can be typed again', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2 ** 50 - 1 }), (bytes) => {
        const again = parseSize(formatSize(bytes))
        expect(Math.abs(again - bytes)).toBeLessThanOrEqual(bytes * 0.05)
      }),
    )
  })

  test.each([
    [0, '0'],
    [1023, '1023'],
    [1024, '1K'],
    [1536, '1.5K'],
    [10 * 2 ** 30, '10G'],
    [2 ** 50, '1024T'],
  ])('%d is printed as %s', (bytes, text) => expect(formatSize(bytes)).toBe(text))
})

describe('durations', () => {
  test.each([
    ['24h', 86_400_000],
    ['90s', 90_000],
    ['7d', 604_800_000],
    ['0s', 0],
    ['0', 0],
    [' 250ms ', 250],
  ])('%j is %d ms', (text, ms) => expect(parseDuration(text)).toBe(ms))

  test.each(['', ' ', '-1h', 'soon', '1 fortnight', 'x'.repeat(101), 'NaN', 'Infinity'])('%j is refused', (text) => {
    expect(() => parseDuration(text)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
  })

  test.each(['5', '0.5', ' 250 '])('%j, without a unit, is refused', (text) => {
    const message = expect.stringMatching(/has no unit; give a number with s, m, h or d/)
    expect(() => parseDuration(text)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT', message }))
  })

  test.each([
    [0, '0s'],
    [100, '100ms'],
    [1_500, '1500ms'],
    [2_000, '2s'],
    [90_000, '90s'],
    [3_600_000, '1h'],
    [7 * 86_400_000, '7d'],
  ])('%d ms are printed as %s, which means the same', (ms, text) => {
    expect(formatDuration(ms)).toBe(text)
    expect(parseDuration(text)).toBe(ms)
  })

  test('any text is either a length of time or refused', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 120 }), (text) => {
        const ms = accepted(() => parseDuration(text))
        expect(ms === undefined || (Number.isFinite(ms) && ms >= 0)).toBe(true)
      }),
    )
  })
})

describe('names', () => {
  const hostile = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc
      .array(fc.constantFrom('a', '.', '..', '/', '\0', '\n', '-', '@', 'é', '~'), { maxLength: 8 })
      .map((it) => it.join('')),
  )

  test('an accepted name is one safe path component and comes back as it was', () => {
    fc.assert(
      fc.property(hostile, (text) => {
        for (const parse of [parseVolumeName, parseSnapshotName]) {
          const name = accepted(() => parse(text))
          if (name === undefined) continue
          expect(name).toBe(text)
          expect(name).not.toMatch(/[/\0@~\s]|^\.|^-/)
          expect(name.length).toBeLessThanOrEqual(127)
        }
      }),
      { numRuns: 500 },
    )
  })

  test('every name of the documented alphabet is accepted', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$/), (name) => parseVolumeName(name) === name),
    )
  })

  test.each([
    '',
    '.',
    '..',
    '.hid',
    '-x',
    'a/b',
    'a b',
    'a:b',
    'ä',
    'a\n',
    'a\0',
    'x'.repeat(129),
    undefined,
    null,
    7,
    ['a'],
  ])('%j is refused', (name) => {
    expect(() => parseVolumeName(name)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
  })

  test('a reference splits at its first @ and joins to the same', () => {
    const name = fc.stringMatching(/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,20}$/)
    fc.assert(
      fc.property(name, name, (volume, snapshot) => {
        expect(parseSnapshotRef(`${volume}@${snapshot}`)).toEqual({ volume, snapshot })
      }),
    )
    for (const text of ['db', '@s', 'db@', 'db@a@b', 'a/b@s']) {
      expect(() => parseSnapshotRef(text)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
    }
  })
})

test('a suggestion names the nearest key when one is near, else all of them', () => {
  expect(suggestion('siez', ['size', 'uid'])).toBe("; did you mean 'size'?")
  expect(suggestion('colour', ['size', 'uid'])).toBe('; known are size, uid')
  expect(suggestion('x', [])).toBe('')
})
