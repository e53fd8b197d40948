/** What the kernel says of pools and thin devices; the lines are its own. */

import { describe, expect, test } from 'vitest'
import { metadataSize, parseMapped, parsePoolStatus, parsePoolTable } from '../../../../drivers/devicemapper/status.ts'
import { crossedMark } from '../../../../drivers/devicemapper/watch.ts'

const start = '0 2097152 thin-pool'
const rooms = { metadata: { used: 128, total: 65_536 }, data: { used: 1700, total: 16_384 } }

describe('the status of a pool', () => {
  test.each([
    ['0 128/65536 1700/16384 - rw discard_passdown error_if_no_space - 1024', { mode: 'rw' }],
    ['0 128/65536 1700/16384 - rw no_discard_passdown queue_if_no_space - 1024', { mode: 'rw' }],
    ['7 128/65536 1700/16384 4242 rw discard_passdown error_if_no_space - 1024', { heldRoot: 4242 }],
    ['0 128/65536 1700/16384 - out_of_data_space error_if_no_space - 1024', { mode: 'out_of_data_space' }],
    ['0 128/65536 1700/16384 - ro discard_passdown error_if_no_space - 1024', { mode: 'ro' }],
    ['0 128/65536 1700/16384 - ro error_if_no_space needs_check 1024', { mode: 'ro', needsCheck: true }],
    ['0 128/65536 1700/16384 - rw error_if_no_space needs_check', { needsCheck: true }],
  ])('%s', (rest, expected) => {
    const healthy = { mode: 'rw', needsCheck: false, heldRoot: null, ...rooms }
    expect(parsePoolStatus(`${start} ${rest}`)).toEqual({ ...healthy, ...expected })
  })

  test.each(['Fail', 'Error'])('%s is a pool that has failed', (word) => {
    expect(parsePoolStatus(`${start} ${word}`)).toMatchObject({ mode: 'failed', needsCheck: true })
  })

  test('a mode that nobody knows is not taken for health', () => {
    const line = `${start} 0 128/65536 1700/16384 - sideways discard_passdown error_if_no_space - 1024`
    expect(parsePoolStatus(line).mode).toBe('failed')
  })

  test('that of something else, or nothing, is an error', () => {
    for (const line of ['0 8 linear', '', '0 131072 thin 6144 131071']) {
      expect(() => parsePoolStatus(line)).toThrow(/is not the status of a thin pool/)
    }
  })
})

test('how much a thin device holds', () => {
  expect(parseMapped('0 131072 thin 6144 131071')).toBe(6144 * 512)
  expect(parseMapped('0 131072 thin 0 -')).toBe(0)
  expect(parseMapped('0 131072 thin Fail')).toBeNull()
  expect(parseMapped('0 131072 thin Error')).toBeNull()
  expect(() => parseMapped('0 8 linear')).toThrow(/is not the status of a thin device/)
})

test('the table of a pool, and of what is none', () => {
  expect(parsePoolTable('0 2097152 thin-pool 98:16 98:0 128 819 1 error_if_no_space')).toEqual({
    ...{ size: 2 ** 30, metadata: '98:16', data: '98:0', blockSize: 65_536 },
  })
  for (const line of ['0 8 linear 98:0 0', '', '0 131072 thin 253:0 1']) expect(parsePoolTable(line)).toBeNull()
})

test.each([
  // data, block size, metadata: 48 bytes a block, whole pages, from 2 MiB to 16 GiB
  [2 ** 30, 65_536, 2 * 2 ** 20],
  [100 * 2 ** 30, 65_536, 78_643_200],
  [2 ** 40 + 65_536, 65_536, 805_306_368 + 4096],
  [2 ** 40, 2 ** 20, 50_331_648],
  [2 ** 50, 65_536, 16 * 2 ** 30],
])('%i bytes in blocks of %i need metadata of %i bytes', (data, blockSize, size) => {
  expect(metadataSize(data, blockSize)).toBe(size)
})

test('a mark is told of once when it is passed, again when it was left meanwhile, and not when it stays passed', () => {
  const room = (used: number) => ({ used, total: 100 })
  expect(crossedMark(undefined, room(79))).toBeNull()
  expect(crossedMark(undefined, room(80))).toBe(80)
  expect(crossedMark(room(79), room(85))).toBe(80)
  expect(crossedMark(room(80), room(89))).toBeNull()
  expect(crossedMark(room(85), room(90))).toBe(90)
  expect(crossedMark(room(10), room(99))).toBe(90)
  expect(crossedMark(room(99), room(85))).toBeNull()
  expect(crossedMark(room(50), { used: 0, total: 0 })).toBeNull()
})
