/** The driver before it is started, and how it takes turns. */

import { expect, test } from 'vitest'
import { devicemapper } from '../../../../drivers/devicemapper/devicemapper.ts'
import type { DriverContext } from '../../../../src/driver.ts'
import type { Volume } from '../../../../src/model.ts'
import { KeyedTurns } from '../../../../src/system/turns.ts'
import { noArchive } from '../../../support/no-archive.ts'

const environment = { root: '/nowhere', archive: noArchive }

test('settings are checked when it is made, without I/O; what is not started says so', async () => {
  expect(() => devicemapper.create({ fs: 'zfs' }, environment)).toThrow(/ext4, xfs/)
  const driver = devicemapper.create({ 'default-size': '2G' }, environment)
  expect(driver).toMatchObject({ name: 'devicemapper', scope: 'local', defaultSize: 2 * 2 ** 30 })
  const state = { thin: 70_000, size: 4096, fs: 'ext4', generation: 0, trashed: false }
  const volume = { name: 'v', state } as unknown as Volume
  expect(driver.mountpoint(volume, '/target')).toBe('/target')
  expect(() => driver.mountpoint({ ...volume, state: {} }, '/target')).toThrow(/untouched/)
  expect(() => driver.createVolume({} as DriverContext, volume)).toThrow(/not started/)
  await driver.stop()
})

test('of one volume one thing is done at a time, in order; another one does not wait', async () => {
  const turns = new KeyedTurns()
  const done: string[] = []
  const gate = Promise.withResolvers<void>()
  const first = turns.with('a', undefined, () => gate.promise.then(() => void done.push('first')))
  const second = turns.with('a', undefined, async () => void done.push('second'))
  await turns.with('b', undefined, async () => void done.push('other'))
  expect(done).toEqual(['other'])
  gate.resolve()
  await Promise.all([first, second])
  expect(done).toEqual(['other', 'first', 'second'])
})

test('who gives up waiting leaves by the reason, and the turn goes to the next; a failure does as well', async () => {
  const turns = new KeyedTurns()
  const gate = Promise.withResolvers<void>()
  const first = turns.with('a', undefined, () => gate.promise)
  const leaving = new AbortController()
  const left = turns.with('a', leaving.signal, () => Promise.reject(new Error('must not run')))
  leaving.abort(new Error('enough'))
  await expect(left).rejects.toThrow('enough')
  const failing = turns.with('a', undefined, () => Promise.reject(new Error('failed')))
  gate.resolve()
  await first
  await expect(failing).rejects.toThrow('failed')
  expect(await turns.with('a', undefined, async () => 'free')).toBe('free')
})

test('several may have a turn at once, and no more than so many', async () => {
  const turns = new KeyedTurns(2)
  let [running, most] = [0, 0]
  const work = async (): Promise<void> => {
    most = Math.max(most, ++running)
    await new Promise((resolve) => setTimeout(resolve, 1))
    running--
  }
  const failing = turns.with('all', undefined, () => Promise.reject(new Error('failed')))
  const all = Array.from({ length: 10 }, () => turns.with('all', undefined, work))
  await expect(failing).rejects.toThrow('failed')
  await Promise.all(all)
  expect([running, most]).toEqual([0, 2])
})
