/** Snapshots: names, locks, holds, reverts, and what a crash has left mounted. */

import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, describe, expect, test, vi } from 'vitest'
import { AppError } from '../../../../src/errors.ts'
import { openCore, type TestCore } from '../../../support/core.ts'

const kernel = vi.hoisted(() => ({ uses: [] as { pid: number; mountpoint: string }[], mounted: [] as string[] }))
vi.mock(import('../../../../src/system/mount.ts'), async (original) => ({
  ...(await original()),
  usesOf: async () => kernel.uses,
  readMounts: () => kernel.mounted.map((mountpoint) => ({ mountpoint }) as never),
}))
beforeEach(() => {
  kernel.uses = []
  kernel.mounted = []
})

async function coreWithSnapshot(): Promise<TestCore> {
  const t = await openCore()
  await t.volumes.create({ name: 'db', size: '1G' })
  write(t, 'first')
  await t.snapshots.create('db', { name: 's1', labels: { a: 'b' } })
  return t
}

/** As a container would. */
function write(t: TestCore, content: string): void {
  const [stored] = [...t.driver.storage.values()].filter(({ name }) => name === 'db')
  if (stored) stored.content = content
}

const contentOf = (t: TestCore): string | undefined =>
  [...t.driver.storage.values()].find(({ name }) => name === 'db')?.content

describe('create', () => {
  test('keeps what the driver says of it', async () => {
    await using t = await coreWithSnapshot()
    const [snapshot] = t.snapshots.list()
    expect(snapshot).toMatchObject({
      volume: 'db',
      name: 's1',
      labels: { a: 'b' },
      size: 2 ** 30,
      used: 7,
      atomic: false,
      mountpoint: null,
    })
    expect(t.snapshots.inspect('db', 's1')).toEqual(snapshot)
    expect(t.volumes.list()[0]?.snapshots).toEqual([{ name: 's1', createdAt: snapshot?.createdAt }])
  })

  test('without a name it is auto- and the time in UTC; two in one second differ', async () => {
    vi.useFakeTimers({ toFake: ['Date'], now: Date.parse('2026-11-23T09:08:07.654Z') })
    try {
      await using t = await coreWithSnapshot()
      const names = [
        await t.snapshots.create('db', {}),
        await t.snapshots.create('db', {}),
        await t.snapshots.create('db', {}),
      ]
      expect(names.map(({ name }) => name)).toEqual([
        'auto-20261123-090807',
        'auto-20261123-090807-2',
        'auto-20261123-090807-3',
      ])
    } finally {
      vi.useRealTimers()
    }
  })

  test('a name that is taken or cannot be is refused, and nothing is begun', async () => {
    await using t = await coreWithSnapshot()
    const before = t.core.operations.list(true).length
    await expect(t.snapshots.create('db', { name: 's1' })).rejects.toMatchObject({ code: 'ALREADY_EXISTS' })
    await expect((async () => t.snapshots.create('db', { name: '../s' }))()).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    })
    await expect(t.snapshots.create('nobody', {})).rejects.toMatchObject({ code: 'NOT_FOUND' })
    expect(t.core.operations.list(true)).toHaveLength(before)
  })

  test('a failure leaves nothing', async () => {
    await using t = await coreWithSnapshot()
    t.driver.fail('snapshots.create', new AppError('NO_SPACE', 'full'), true)
    await expect(t.snapshots.create('db', { name: 's2' })).rejects.toMatchObject({ code: 'NO_SPACE' })
    expect(t.snapshots.list().map(({ name }) => name)).toEqual(['s1'])
    expect([...t.driver.storage.values()][0]?.snapshots.size).toBe(1)
    expect((await t.snapshots.create('db', { name: 's2' })).name).toBe('s2')
  })

  test('to pause needs an engine; without one nothing is copied', async () => {
    await using t = await coreWithSnapshot()
    await expect(t.snapshots.create('db', { name: 's2', pause: true })).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    expect(t.driver.calls.filter((call) => call === 'snapshots.create db@s2')).toEqual([])
  })
})

describe('revert', () => {
  test('brings the content and the size of that moment back', async () => {
    await using t = await coreWithSnapshot()
    write(t, 'second')
    await t.volumes.resize('db', '2G')
    await t.snapshots.revert('db', 's1')
    expect(contentOf(t)).toBe('first')
    expect(t.core.catalog.volume('db')?.size).toBe(2 ** 31)
    expect(t.driver.calls.slice(-3)).toEqual(['unmount db', 'revert.revert db@s1', 'usage db'])
  })

  test('is refused while the volume is used, and the content stays', async () => {
    await using t = await coreWithSnapshot()
    write(t, 'second')
    kernel.uses = [{ pid: 1, mountpoint: '/p' }]
    await expect(t.snapshots.revert('db', 's1')).rejects.toMatchObject({ code: 'IN_USE' })
    kernel.uses = []
    await t.mounts.mount('db', 'just-started')
    await expect(t.snapshots.revert('db', 's1')).rejects.toMatchObject({ code: 'IN_USE' })
    expect(contentOf(t)).toBe('second')
  })

  test('keeps Mounts out while it runs', async () => {
    await using t = await coreWithSnapshot()
    const gate = t.driver.block('revert.revert')
    const reverting = t.snapshots.revert('db', 's1')
    await gate.reached
    const mounting = t.mounts.mount('db', 'id1')
    expect(t.driver.calls).not.toContain('mount db')
    gate.open()
    await reverting
    await mounting
    expect(t.driver.calls.indexOf('mount db')).toBeGreaterThan(t.driver.calls.indexOf('revert.revert db@s1'))
  })

  test('of a driver that cannot, or to what is not there, is refused', async () => {
    await using t = await openCore({ without: ['revert'] })
    await t.volumes.create({ name: 'db' })
    await t.snapshots.create('db', { name: 's1' })
    await expect(t.snapshots.revert('db', 's1')).rejects.toMatchObject({ code: 'NOT_SUPPORTED' })
    await expect(t.snapshots.revert('db', 's2')).rejects.toMatchObject({ code: 'NOT_FOUND' })
  })
})

describe('mount', () => {
  test('shows it until it is unmounted; twice is once; it cannot be removed meanwhile', async () => {
    await using t = await coreWithSnapshot()
    const at = await t.snapshots.mount('db', 's1')
    expect(at).toBe(join(t.core.config.root, 'mounts/db@s1'))
    expect(await t.snapshots.mount('db', 's1')).toBe(at)
    expect(t.snapshots.inspect('db', 's1').mountpoint).toBe(at)
    expect((await t.volumes.inspect('db')).mounts).toEqual([])
    await expect(t.snapshots.remove('db', 's1')).rejects.toMatchObject({
      code: 'IN_USE',
      message: expect.stringContaining('snapshot umount db@s1'),
    })
    await t.snapshots.unmount('db', 's1')
    await t.snapshots.unmount('db', 's1')
    expect([t.snapshots.inspect('db', 's1').mountpoint, existsSync(at)]).toEqual([null, false])
    await t.snapshots.remove('db', 's1')
    expect(t.snapshots.list('db')).toEqual([])
  })

  test('at a relative path is refused', async () => {
    await using t = await coreWithSnapshot()
    await expect(t.snapshots.mount('db', 's1', 'here')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  })

  test('what a crash has left mounted and nobody holds is tidied up; what is held stays', async () => {
    await using t = await coreWithSnapshot()
    const held = await t.snapshots.mount('db', 's1')
    await t.snapshots.create('db', { name: 's2' })
    const left = join(t.core.config.root, 'mounts/db@s2')
    kernel.mounted = [held, left, join(t.core.config.root, 'mounts/x@s2'), join(t.core.config.root, 'mounts/db'), '/']
    await t.snapshots.sweep()
    expect(t.driver.calls.filter((call) => call.startsWith('snapshots.unmount'))).toEqual(['snapshots.unmount db@s2'])
  })
})

test('a comparison shows both and hides what nobody holds, also when it fails', async () => {
  await using t = await coreWithSnapshot()
  await t.snapshots.create('db', { name: 's2' })
  await t.snapshots.mount('db', 's2')
  expect(await t.snapshots.diff('db@s1', 'db@s2')).toEqual([])
  expect([...t.driver.mounted]).toEqual([join(t.core.config.root, 'mounts/db@s2')])
  t.driver.fail('snapshots.mount', new AppError('INTERNAL', 'no'))
  await expect(t.snapshots.diff('db@s1', 'db@s2')).rejects.toThrow('no')
  expect([...t.driver.mounted]).toEqual([join(t.core.config.root, 'mounts/db@s2')])
})

test('a driver without snapshots says so', async () => {
  await using t = await openCore({ without: ['snapshots'] })
  await t.volumes.create({ name: 'db' })
  await expect(t.snapshots.create('db', {})).rejects.toMatchObject({ code: 'NOT_SUPPORTED' })
})
