/** The driver's settings, its options of a volume, and its records: what is understood, and what is said of the rest. */

import { describe, expect, test } from 'vitest'
import {
  checkSize,
  largestVolume,
  parseOptions,
  parseSettings,
  settingsHelp,
  snapshotStateOf,
  stateOf,
} from '../../../../drivers/devicemapper/options.ts'
import type { Snapshot, Volume } from '../../../../src/model.ts'

const MiB = 2 ** 20
const GiB = 2 ** 30
const spec = (options: Record<string, string>) => ({ id: 'id', name: 'v', size: null, options })

describe('settings', () => {
  test('without any, a pool on sparse files', () => {
    expect(parseSettings({})).toEqual({
      pool: { kind: 'loop', name: 'holdfast_pool', size: 100 * GiB },
      blockSize: 65_536,
      fs: 'ext4',
      defaultSize: 10 * GiB,
      mkfsOptions: [],
      mountOptions: [],
      overcommit: 10,
      lowWater: 0.05,
      errorIfNoSpace: true,
    })
  })

  test('two devices make a pool of our own, a name alone is the pool of another program', () => {
    const devices = { 'data-device': '/dev/sdb2', 'metadata-device': '/dev/sdb1' }
    const own = { kind: 'devices', data: '/dev/sdb2', metadata: '/dev/sdb1' }
    expect(parseSettings(devices).pool).toEqual({ ...own, name: 'holdfast_pool' })
    expect(parseSettings({ ...devices, 'pool-name': 'fast' }).pool).toEqual({ ...own, name: 'fast' })
    expect(parseSettings({ 'pool-name': 'vg0-pool-tpool' }).pool).toEqual({ kind: 'existing', name: 'vg0-pool-tpool' })
    expect(parseSettings({ 'loop-size': '1G' }).pool).toMatchObject({ kind: 'loop', size: GiB })
  })

  test('options of mkfs and of mounts become arguments, never a line for a shell', () => {
    expect(parseSettings({ 'mkfs-options': ' -i  65536 -L $(id)' }).mkfsOptions).toEqual(['-i', '65536', '-L', '$(id)'])
    expect(parseSettings({ 'mount-options': 'noatime,,data=ordered' }).mountOptions).toEqual([
      'noatime',
      'data=ordered',
    ])
  })

  test.each([
    ['overcommit', 'off', { overcommit: null }],
    ['overcommit', '2.5', { overcommit: 2.5 }],
    ['low-water', '0', { lowWater: 0 }],
    ['low-water', '12.5%', { lowWater: 0.125 }],
    ['block-size', '1G', { blockSize: GiB }],
    ['block-size', '192K', { blockSize: 196_608 }],
    ['fs', 'xfs', { fs: 'xfs' }],
    ['default-size', '512M', { defaultSize: 512 * MiB }],
    ['error-if-no-space', 'false', { errorIfNoSpace: false }],
  ])('%s=%s', (key, value, parsed) => {
    expect(parseSettings({ [key]: value })).toMatchObject(parsed)
  })

  test.each([
    ['data-device', 'sdb', /absolute path of a block device/],
    ['data-device', '/dev/sdb', /metadata-device is missing/],
    ['metadata-device', '/dev/sdb', /data-device is missing/],
    ['pool-name', 'a b', /dmsetup ls/],
    ['pool-name', '', /dmsetup ls/],
    ['block-size', '32K', /multiple of 64K up to 1G/],
    ['block-size', '100K', /multiple of 64K up to 1G/],
    ['block-size', '2G', /multiple of 64K up to 1G/],
    ['block-size', 'small', /devicemapper.block-size: 'small' is not a size/],
    ['loop-size', '0', /devicemapper.loop-size: '0' is not a size/],
    ['default-size', '-1', /devicemapper.default-size/],
    ['fs', 'btrfs', /one of ext4, xfs/],
    ['mkfs-options', '/dev/sda', /begin with an option/],
    ['mount-options', 'noatime;reboot', /separated by commas/],
    ['overcommit', '0.5', /at least 1, or off/],
    ['overcommit', 'much', /at least 1, or off/],
    ['low-water', '100', /from 0 to 99/],
    ['low-water', '-5', /from 0 to 99/],
    ['error-if-no-space', 'yes', /true or false/],
  ])('%s=%s is refused, by its name', (key, value, text) => {
    const parse = () => parseSettings({ [key]: value })
    expect(parse).toThrow(text)
    expect(parse).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
    expect(parse).toThrow(/devicemapper\./)
  })

  test("a pool's name is not like that of a volume's device", () => {
    const devices = { 'data-device': '/dev/sdb2', 'metadata-device': '/dev/sdb1' }
    expect(() => parseSettings({ ...devices, 'pool-name': 'holdfast-pool' })).toThrow(/choose another/)
  })

  test('each key that is read is documented', () => {
    const keys = new Set<string>()
    const given = new Proxy({}, { get: (_, key) => void keys.add(String(key)) })
    parseSettings(given)
    expect([...keys].sort()).toEqual(Object.keys(settingsHelp).sort())
  })
})

describe('options of a volume', () => {
  test('are parsed, absent ones are null', () => {
    expect(parseOptions(spec({}))).toEqual({ uid: null, gid: null, mode: null, fs: null })
    expect(parseOptions(spec({ fs: 'xfs', uid: '7', mode: '0750' }))).toEqual({
      ...{ uid: 7, gid: null, mode: 0o750, fs: 'xfs' },
    })
  })

  test.each([{ fs: 'zfs' }, { fs: '' }, { uid: 'root' }, { mode: '0999' }])('%j is refused', (options) => {
    expect(() => parseOptions(spec(options))).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
  })

  test('a size is whole pages, and what the file system and the driver can have', () => {
    expect(checkSize('ext4', 64 * MiB + 1)).toBe(64 * MiB + 4096)
    expect(checkSize('xfs', 300 * MiB)).toBe(300 * MiB)
    expect(checkSize('ext4', largestVolume)).toBe(largestVolume)
    expect(() => checkSize('ext4', 15 * MiB)).toThrow(/too small: its file system ext4 needs 16M/)
    expect(() => checkSize('xfs', 299 * MiB)).toThrow(/xfs needs 300M/)
    expect(() => checkSize('ext4', largestVolume + 1)).toThrow(/too large; the limit is 4096T/)
  })
})

test('a record of another shape is corrupt, and says that the data is untouched', () => {
  const record = (state: object | null) => ({ name: 'v', state }) as unknown as Volume & Snapshot
  const state = { thin: 70_000, size: MiB, fs: 'ext4' }
  for (const bad of [null, {}, { kind: 'directory' }, { ...state, thin: 'x' }, { ...state, size: null }]) {
    for (const read of [stateOf, snapshotStateOf]) {
      expect(() => read(record(bad))).toThrow(/its data is untouched/)
      expect(() => read(record(bad))).toThrow(expect.objectContaining({ code: 'CORRUPT' }))
    }
  }
  expect(() => stateOf(record(state))).toThrow(/untouched/)
  expect(snapshotStateOf(record(state))).toBe(state)
  const volume = { ...state, generation: 0, trashed: false }
  expect(stateOf(record(volume))).toBe(volume)
})
