/** Drivers that start late, again, or never, and settings that name what is not there. */

import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { beginOperation } from '../../../../src/catalog/changes.ts'
import { AppError } from '../../../../src/errors.ts'
import { Drivers, usualWaits } from '../../../../src/services/node/drivers.ts'
import { openCore, type TestCore, testConfig } from '../../../support/core.ts'
import { fakeDriver, type Gate } from '../../../support/fake-driver.ts'
import { noArchive } from '../../../support/no-archive.ts'
import { anOperation } from '../../../support/nouns.ts'

test('settings of drivers are checked, with the nearest name', async () => {
  const modules = { fake: async () => fakeDriver().module }
  const load = (changes: object) => Drivers.load({ ...testConfig('/nowhere'), ...changes }, modules, noArchive)
  await expect(load({ drivers: ['fak'] })).rejects.toThrow("unknown driver 'fak'; did you mean 'fake'?")
  await expect(load({ driverOpts: { nfs: { a: 'b' } } })).rejects.toThrow(
    "'nfs', which is not started; add --driver nfs",
  )
  await expect(load({ driverOpts: { fake: { pat: '/x' } } })).rejects.toThrow("no setting 'pat'; did you mean 'path'?")
  const drivers = await load({ driverOpts: { fake: { path: '/x' } } })
  expect(drivers.get('fake')?.name).toBe('fake')
  expect(drivers.get('nfs')).toBeUndefined()
  expect(() => drivers.required('nfs')).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
})

describe('a driver that does not become ready', () => {
  const waits = { ready: 200, firstRetry: 50, longestRetry: 80 }
  const unreachable = new AppError('UNAVAILABLE', 'the server does not answer')
  let before: TestCore
  beforeEach(async () => {
    before = await openCore({ waits })
    await before.volumes.create({ name: 'db' })
  })
  afterEach(() => before[Symbol.asyncDispose]())

  test('leaves Get and List answering; everything else fails in time, with the reason', async () => {
    await using t = await before.restart({ prepare: (driver) => driver.block('start') })
    expect(t.mounts.get('db')).toMatchObject({ name: 'db', mountpoint: expect.stringMatching(/^\/.*mounts\/db$/) })
    expect(t.mounts.list()).toEqual([{ name: 'db', mountpoint: expect.stringMatching(/^\//) }])
    expect(t.volumes.list()).toEqual([expect.objectContaining({ name: 'db', status: 'ok' })])
    expect(t.core.drivers.all()[0]).toMatchObject({ state: 'starting' })
    const begun = performance.now()
    const calls = [t.mounts.mount('db', 'id1'), t.volumes.create({ name: 'new' }), t.snapshots.create('db', {})]
    for (const call of await Promise.allSettled(calls)) {
      expect(call).toMatchObject({
        reason: { code: 'UNAVAILABLE', message: expect.stringContaining('still starting') },
      })
    }
    expect(performance.now() - begun).toBeGreaterThan(waits.ready - 10)
    expect(t.driver.calls).toEqual(['start fake'])
  })

  test('is told of all that is its own: in the trash and in the making, with the snapshots of both', async () => {
    await before.snapshots.create('db', { name: 's1' })
    await before.volumes.create({ name: 'old' })
    await before.snapshots.create('old', { name: 's2' })
    await before.volumes.remove('old')
    const [gate, taking] = [before.driver.block('createVolume'), before.driver.block('snapshots.create')]
    const making = Promise.allSettled([
      before.volumes.create({ name: 'new' }),
      before.snapshots.create('db', { name: 's3' }),
    ])
    await Promise.all([gate.reached, taking.reached])
    await using t = await before.restart()
    const { volumes, snapshots } = t.driver.known
    expect(volumes.map(({ name, state }) => [name, state !== null])).toEqual([
      ['db', true],
      ['old', true],
      ['new', false],
    ])
    expect(snapshots.map(({ name, state }) => [name, state !== null])).toEqual([
      ['s1', true],
      ['s2', true],
      ['s3', false],
    ])
    gate.open()
    taking.open()
    await making
  })

  test('by default that is 20 s', () => expect(usualWaits.ready).toBe(20_000))

  test('is tried again, and what waits goes on when it is ready', async () => {
    await using t = await before.restart({ prepare: (driver) => driver.fail('start', unreachable) })
    await vi.waitUntil(() => t.core.drivers.all()[0]?.state === 'failed')
    expect(t.core.drivers.all()[0]?.error).toBe(unreachable)
    t.driver.fail('start', unreachable)
    expect(await t.mounts.mount('db', 'id1')).toMatch(/mounts\/db$/)
    expect(t.driver.calls).toEqual(['start fake', 'start fake', 'start fake', 'mount db'])
    expect(t.core.drivers.all()[0]).toMatchObject({ state: 'ready', error: undefined })
  })

  test('says what it failed with to who has waited long enough', async () => {
    await using t = await before.restart({ prepare: (driver) => driver.fail('start', unreachable) })
    t.driver.block('start')
    await expect(t.mounts.mount('db', 'id1')).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringContaining('the server does not answer'),
    })
  })

  test('leaves recovery waiting for as long as it takes, and the volume out of reach meanwhile', async () => {
    let gate: Gate | undefined
    await using t = await before.restart({
      prepare: (driver) => {
        gate = driver.block('start')
      },
    })
    const volume = t.core.catalog.volume('db')
    const open = anOperation({ kind: 'volume.resize', payload: { id: volume?.id ?? '', size: 2 ** 20 } })
    await t.core.catalog.write(beginOperation(open))
    const recovered = t.recover()
    await sleep(2 * waits.ready)
    expect(t.core.catalog.operation(open.id)?.state).toBe('running')
    await expect(t.core.locks.with(['mount:db'], 'x', async () => 1, 5)).rejects.toThrow('db is being recovered')
    gate?.open()
    await recovered
    expect(t.core.catalog.operation(open.id)?.state).toBe('done')
    expect(t.core.catalog.volume('db')?.size).toBe(2 ** 20)
  })
})
