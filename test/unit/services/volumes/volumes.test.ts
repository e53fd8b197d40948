/** Volumes: creating and joining, changing, and that nothing which only looks ever waits. */

import { beforeEach, describe, expect, test, vi } from 'vitest'
import { putVolume } from '../../../../src/catalog/changes.ts'
import { AppError } from '../../../../src/errors.ts'
import { openCore, type TestCore } from '../../../support/core.ts'
import { aVolume } from '../../../support/nouns.ts'

const kernel = vi.hoisted(() => ({ uses: [] as { pid: number; mountpoint: string }[] }))
vi.mock(import('../../../../src/system/mount.ts'), async (original) => ({
  ...(await original()),
  usesOf: async () => kernel.uses,
}))
beforeEach(() => {
  kernel.uses = []
})

describe('create', () => {
  test('stores what was asked for; the same again is there already', async () => {
    await using t = await openCore()
    const request = { name: 'db', size: '1G', labels: { a: 'b' }, options: { colour: 'red' }, onRemove: 'delete' }
    const first = await t.volumes.create(request)
    expect(first).toMatchObject({
      existed: false,
      volume: { name: 'db', driver: 'fake', size: 2 ** 30, onRemove: 'delete', status: 'ok' },
    })
    expect(await t.volumes.create(request)).toEqual({ ...first, existed: true })
    expect(await t.volumes.create({ name: 'db' })).toEqual({ ...first, existed: true })
    expect(t.driver.calls.filter((call) => call.startsWith('createVolume'))).toEqual(['createVolume db'])
    expect(t.phases).toEqual(['volume.create journalled', 'volume.create driven', 'volume.create committed'])
  })

  test('without a size it gets the default of its driver, which no later request needs to name', async () => {
    await using t = await openCore({ defaultSize: 2 ** 30 })
    const first = await t.volumes.create({ name: 'db' })
    expect(first.volume.size).toBe(2 ** 30)
    expect([...t.driver.storage.values()].map(({ size }) => size)).toEqual([2 ** 30])
    expect((await t.volumes.create({ name: 'db' })).existed).toBe(true)
    expect((await t.volumes.create({ name: 'db', size: '1G' })).existed).toBe(true)
    await expect(t.volumes.create({ name: 'db', size: '2G' })).rejects.toMatchObject({ code: 'ALREADY_EXISTS' })
    await t.volumes.create({ name: 'large', size: '5G' })
    await t.snapshots.create('large', { name: 's1' })
    expect((await t.volumes.create({ name: 'clone', fromSnapshot: 'large@s1' })).volume.size).toBe(5 * 2 ** 30)
  })

  test('by default what is removed goes to the trash, and what was adopted is retained', async () => {
    await using t = await openCore()
    expect((await t.volumes.create({ name: 'a' })).volume.onRemove).toBe('trash')
    expect((await t.volumes.create({ name: 'b', options: { adopt: '/x' } })).volume.onRemove).toBe('retain')
  })

  test('another volume under the name is refused with the differences', async () => {
    await using t = await openCore()
    await t.volumes.create({ name: 'db', size: '1G' })
    await expect(t.volumes.create({ name: 'db', size: '2G', labels: { a: 'b' } })).rejects.toMatchObject({
      code: 'ALREADY_EXISTS',
      message: expect.stringMatching(/size is 1G, asked for 2G; label a is not set/),
      details: { differences: [expect.stringContaining('size'), expect.stringContaining('label a')] },
    })
  })

  test('more words than 64 KiB are refused: every list would carry them', async () => {
    await using t = await openCore()
    const labels = { note: 'x'.repeat(65_536) }
    await expect(t.volumes.create({ name: 'db', labels })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining('65536 is the limit'),
    })
  })

  test('one whose data is lost can be forgotten, and until then comes back with its data', async () => {
    await using t = await openCore()
    await t.volumes.create({ name: 'db' })
    const [stored] = [...t.driver.storage]
    t.driver.storage.clear()
    await expect(t.volumes.remove('db')).rejects.toMatchObject({
      code: 'NOT_FOUND',
      message: expect.stringContaining('holdfast volume rm db --purge'),
    })
    if (stored) t.driver.storage.set(...stored)
    await using next = await t.restart()
    await next.recover()
    expect([next.core.catalog.runningOperations(), next.volumes.list().length]).toEqual([[], 1])
    next.driver.storage.clear()
    await next.volumes.remove('db', { purge: true })
    expect([next.volumes.list(), next.trash.list()]).toEqual([[], []])
  })

  test('a second call joins the first; one with other options is turned away at once', async () => {
    await using t = await openCore()
    const gate = t.driver.block('createVolume')
    const first = t.volumes.create({ name: 'db', size: '1G' })
    await gate.reached
    const second = t.volumes.create({ name: 'db', size: '1G' })
    await expect(t.volumes.create({ name: 'db', size: '2G' })).rejects.toMatchObject({ code: 'ABORTED' })
    gate.open()
    expect((await second).volume).toEqual((await first).volume)
    expect(t.driver.calls.filter((call) => call.startsWith('createVolume'))).toHaveLength(1)
    expect((await t.volumes.create({ name: 'db', size: '1G' })).existed).toBe(true)
  })

  test('a failure leaves nothing, is told to everyone who joined, and the next call succeeds', async () => {
    await using t = await openCore()
    const gate = t.driver.block('createVolume')
    t.driver.fail('createVolume', new AppError('NO_SPACE', 'full'), true)
    const both = Promise.allSettled([t.volumes.create({ name: 'db' }), t.volumes.create({ name: 'db' })])
    await gate.reached
    gate.open()
    expect((await both).map((it) => it.status === 'rejected' && it.reason.code)).toEqual(['NO_SPACE', 'NO_SPACE'])
    expect([t.volumes.list(), t.driver.storage.size]).toEqual([[], 0])
    expect((await t.volumes.create({ name: 'db' })).existed).toBe(false)
  })

  test('cancelled in the middle it leaves nothing', async () => {
    await using t = await openCore()
    const gate = t.driver.block('createVolume')
    const creating = t.volumes.create({ name: 'db' }, { operationId: 'operation-1' })
    await gate.reached
    t.core.operations.cancel('operation-1')
    await expect(creating).rejects.toMatchObject({ code: 'CANCELLED' })
    expect([t.volumes.list(), t.driver.storage.size, t.mounts.get('db')]).toEqual([[], 0, undefined])
  })

  test('data of another that stands at its place is not touched', async () => {
    await using t = await openCore()
    const stranger = { name: 'db', size: null, trashed: false, content: 'precious', snapshots: new Map() }
    t.driver.storage.set('stranger', stranger)
    await expect(t.volumes.create({ name: 'db' })).rejects.toMatchObject({ code: 'ALREADY_EXISTS' })
    expect([...t.driver.storage]).toEqual([['stranger', stranger]])
  })

  test('twenty at once, of twenty names, overlap', async () => {
    await using t = await openCore()
    const gate = t.driver.block('createVolume')
    const creating = Promise.all(Array.from({ length: 20 }, (_, number) => t.volumes.create({ name: `v${number}` })))
    await vi.waitUntil(() => t.driver.calls.filter((call) => call.startsWith('createVolume')).length === 20)
    gate.open()
    await creating
    expect(t.volumes.list()).toHaveLength(20)
  })
})

describe('a clone', () => {
  test('has the size of what it was made from, and says where it is from', async () => {
    await using t = await openCore()
    await t.volumes.create({ name: 'db', size: '1G' })
    await t.snapshots.create('db', { name: 's1' })
    const { volume } = await t.volumes.create({ name: 'copy', fromSnapshot: 'db@s1' })
    expect(volume).toMatchObject({ size: 2 ** 30, origin: 'db@s1', driver: 'fake' })
    expect((await t.volumes.create({ name: 'copy', fromSnapshot: 'db@s1' })).existed).toBe(true)
  })

  test('holds the locks of both volumes while it is made', async () => {
    await using t = await openCore()
    await t.volumes.create({ name: 'db' })
    await t.snapshots.create('db', { name: 's1' })
    const gate = t.driver.block('clone.create')
    const cloning = t.volumes.create({ name: 'copy', fromSnapshot: 'db@s1' })
    await gate.reached
    for (const name of ['db', 'copy']) {
      const taken = t.core.locks.with([`volume:${name}`], 'x', async () => 'free', 5)
      await expect(taken).rejects.toMatchObject({
        code: 'ABORTED',
        message: expect.stringContaining('copy is being created'),
      })
    }
    gate.open()
    await cloning
  })

  test('of what is not there, or by a driver that cannot, is refused before anything is done', async () => {
    await using t = await openCore({ without: ['clone'] })
    await t.volumes.create({ name: 'db' })
    await t.snapshots.create('db', { name: 's1' })
    const clone = (fromSnapshot: string) => t.volumes.create({ name: 'copy', fromSnapshot })
    await expect(clone('db@s1')).rejects.toMatchObject({ code: 'NOT_SUPPORTED' })
    await expect(clone('db@s2')).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await expect(clone('x@s1')).rejects.toMatchObject({ code: 'NOT_FOUND' })
    expect(t.core.operations.list(true).map(({ kind }) => kind)).toEqual(['volume.create', 'snapshot.create'])
  })
})

describe('looking never waits', () => {
  const hanging: [string, (t: TestCore) => Promise<unknown>, number][] = [
    ['createVolume', (t) => t.volumes.create({ name: 'new' }), 1],
    ['snapshots.create', (t) => t.snapshots.create('db', { name: 's1' }), 1],
    ['trash.discard', (t) => t.volumes.remove('db'), 1],
    ['resize.resize', (t) => t.volumes.resize('db', '1G'), 1],
    ['mount', (t) => t.mounts.mount('db', 'id1'), 0],
  ]
  test.each(hanging)('while %s hangs, Get, List and the lists answer', async (what, call, operations) => {
    await using t = await openCore()
    await t.volumes.create({ name: 'db' })
    const gate = t.driver.block(what)
    const done = call(t)
    await gate.reached
    expect(t.mounts.get('db')?.name).toBe('db')
    expect(t.mounts.list()).toHaveLength(1)
    expect(t.volumes.list()).toHaveLength(1)
    expect([t.snapshots.list(), t.trash.list()]).toEqual([[], []])
    expect(t.core.operations.list()).toHaveLength(operations)
    gate.open()
    await done
  })

  test('a volume whose storage is gone is missing, and one that fails to answer degraded', async () => {
    await using t = await openCore()
    await t.volumes.create({ name: 'db' })
    expect(await t.volumes.inspect('db')).toMatchObject({ status: 'ok', used: 1 })
    t.driver.fail('usage', new AppError('UNAVAILABLE', 'no answer'))
    expect(await t.volumes.inspect('db')).toMatchObject({ status: 'degraded', statusDetail: 'no answer' })
    t.driver.storage.clear()
    expect(await t.volumes.inspect('db')).toMatchObject({ status: 'missing' })
    await expect(t.volumes.inspect('nobody')).rejects.toMatchObject({ code: 'NOT_FOUND' })
  })
})

describe('a volume whose record cannot be used', () => {
  test.each([
    ['of a driver that is not started', { driver: 'nfs' }],
    ['with a state that its driver cannot read', { state: { kind: 'other' } }],
  ])('%s: it is shown as degraded, the others as ever, and nothing changes it', async (_, changes) => {
    await using t = await openCore()
    await t.core.catalog.write(putVolume(aVolume({ name: 'odd', ...changes })))
    await t.volumes.create({ name: 'db' })
    expect(
      t.mounts
        .list()
        .map(({ name }) => name)
        .sort(),
    ).toEqual(['db', 'odd'])
    expect(t.mounts.get('odd')).toMatchObject({
      mountpoint: '',
      status: { status: 'degraded', statusDetail: expect.any(String) },
    })
    expect(
      t.volumes
        .list()
        .map(({ name, status }) => `${name} ${status}`)
        .sort(),
    ).toEqual(['db ok', 'odd degraded'])
    await expect(t.volumes.remove('odd')).rejects.toBeInstanceOf(AppError)
    await expect(t.mounts.mount('odd', 'id1')).rejects.toBeInstanceOf(AppError)
    expect(t.volumes.list()).toHaveLength(2)
    expect(t.trash.list()).toEqual([])
  })
})

test('resize sets the limit, in storage and record; a driver without it says so', async () => {
  await using t = await openCore()
  await t.volumes.create({ name: 'db', size: '1G' })
  expect(await t.volumes.resize('db', '2G')).toMatchObject({ size: 2 ** 31 })
  expect(t.core.catalog.volume('db')?.size).toBe(2 ** 31)
  await expect(t.volumes.resize('db', 'more')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  await using without = await openCore({ without: ['resize', 'trim'] })
  await without.volumes.create({ name: 'db' })
  await expect(without.volumes.resize('db', '2G')).rejects.toMatchObject({ code: 'NOT_SUPPORTED' })
  await expect(without.volumes.trim(['db'])).rejects.toMatchObject({ code: 'NOT_SUPPORTED' })
  expect(await without.volumes.trim([])).toEqual([])
})

test('trim and usage: those that are named, or all', async () => {
  await using t = await openCore()
  for (const name of ['a', 'b']) await t.volumes.create({ name })
  expect(await t.volumes.trim(['b'])).toEqual([{ name: 'b', trimmed: 1024 }])
  expect(await t.volumes.trim([])).toHaveLength(2)
  expect(await t.volumes.usage([])).toEqual([
    { name: 'a', used: 1, size: null },
    { name: 'b', used: 1, size: null },
  ])
  await expect(t.volumes.usage(['x'])).rejects.toMatchObject({ code: 'NOT_FOUND' })
})
