import { expect, test } from 'vitest'
import { driverModules } from '../../../drivers/index.ts'
import { parseOptions, stateOf } from '../../../drivers/vfs/options.ts'
import type { DriverContext } from '../../../src/driver.ts'
import type { Volume } from '../../../src/model.ts'
import { noArchive } from '../../support/no-archive.ts'

const spec = (options: Record<string, string>, size: number | null = null) => ({ id: 'id', name: 'v', size, options })

test('options are parsed, absent ones are null', () => {
  expect(parseOptions(spec({}))).toEqual({ uid: null, gid: null, mode: null, adopt: null, fs: null })
  expect(parseOptions(spec({ uid: '0', gid: '4294967294', mode: '0750' }))).toMatchObject({
    uid: 0,
    gid: 4294967294,
    mode: 0o750,
  })
  expect(parseOptions(spec({ fs: 'xfs' }, 1))).toMatchObject({ fs: 'xfs' })
})

test.each([
  ['/srv/data/', '/srv/data'],
  ['/srv//data/../data', '/srv/data'],
  ['/', '/'],
])('the directory to adopt %s is %s', (given, adopt) => {
  expect(parseOptions(spec({ adopt })).adopt).toBe(adopt)
  expect(parseOptions(spec({ adopt: given })).adopt).toBe(adopt)
})

test('a record of another shape is corrupt, and says that the data is untouched', () => {
  for (const state of [null, {}, { kind: 'thin' }, { kind: 'image' }]) {
    expect(() => stateOf({ name: 'v', state } as unknown as Volume)).toThrow(/untouched/)
  }
})

test('settings are checked when the driver is made, without I/O', async () => {
  const { vfs } = await import('../../../drivers/vfs/vfs.ts')
  const environment = { root: '/nowhere', archive: noArchive }
  expect(() => vfs.create({ path: 'relative' }, environment)).toThrow(/not absolute/)
  expect(() => vfs.create({ fs: 'zfs' }, environment)).toThrow(/ext4, xfs/)
  expect(vfs.create({}, environment).name).toBe('vfs')
})

test('every listed driver loads under its own name and documents its keys', async () => {
  expect(Object.keys(driverModules)).toContain('vfs')
  for (const [name, load] of Object.entries(driverModules)) {
    const module = await load()
    expect(module.name).toBe(name)
    for (const help of Object.values(module.settings)) expect(help.description).not.toBe('')
  }
})

test('a driver that is not started says where a volume is, and that the rest has to wait', async () => {
  const { vfs } = await import('../../../drivers/vfs/vfs.ts')
  const driver = vfs.create({}, { root: '/nowhere', archive: noArchive })
  const state = { kind: 'directory', limit: null, adopt: null, trashed: false }
  const volume = { name: 'v', state } as unknown as Volume
  expect(driver.mountpoint(volume, '/target')).toBe('/nowhere/vfs/volumes/v/data')
  const ctx = {} as DriverContext
  expect(() => driver.createVolume(ctx, volume)).toThrow(/not started/)
})
