/** Restores of backups of devices: onto a new one, in place, and what errors, stops and crashes leave; and of files onto volumes that are devices. */

import { readdirSync, statSync, writeFileSync } from 'node:fs'
import { expect, test, vi } from 'vitest'
import { AppError } from '../../../../src/errors.ts'
import { contentOf, coreWithTarget, lastOf, setContent } from '../../../support/backups.ts'
import type { CoreOptions, TestCore } from '../../../support/core.ts'

const MiB = 2 ** 20

const refuses = (code: string, message: string) =>
  expect.objectContaining({ code, message: expect.stringContaining(message) })

type Bed = TestCore & { ref: string }

/** `db`, a device of 4 MiB, holds `second`; its backup `ref` holds `first`. */
async function blockCore(options: CoreOptions = {}): Promise<Bed> {
  const t = await coreWithTarget({ blocks: true, ...options })
  const { id, kind, size } = await t.backups.create({ volume: 'db', to: { at: 't' } })
  expect([kind, size]).toEqual(['block', 4 * MiB])
  setContent(t, 'db', 'second')
  return Object.assign(t, { ref: `t/${id}` })
}

const restore = (t: TestCore, backup: string, to: string, more: object = {}) =>
  t.backups.restore({ from: { backup }, to, ...more })

const sizeOf = (t: TestCore, name: string) => t.core.catalog.volume(name)?.size

/** Ids of all data that the driver holds, without the known volumes'. */
function strangers(t: TestCore): string[] {
  const known = new Set(t.core.catalog.volumes().map(({ id }) => id))
  return [...t.driver.storage.keys()].filter((id) => !known.has(id))
}

function deviceOf(t: TestCore, name: string): string {
  const [id] = [...t.driver.storage].find(([, volume]) => volume.name.startsWith(name)) ?? []
  return t.beside(`devices/${id}`)
}

test('to a new volume: as large as the device, larger, and never smaller; what has no data takes no room', async () => {
  await using t = await blockCore()
  await restore(t, t.ref, 'same')
  expect([contentOf(t, 'same'), sizeOf(t, 'same')]).toEqual(['first', 4 * MiB])
  const { size, blocks } = statSync(deviceOf(t, 'same'))
  expect(size).toBe(4 * MiB)
  expect(blocks * 512).toBeLessThanOrEqual(128 * 1024)
  expect(t.driver.calls.filter((call) => call.endsWith(' same'))).toEqual([
    'device.create same',
    'device.open same',
    'device.close same',
  ])
  await restore(t, t.ref, 'large', { size: '8M' })
  expect([contentOf(t, 'large'), sizeOf(t, 'large')]).toEqual(['first', 8 * MiB])
  expect(t.driver.calls).toContain('resize.resize large')
  await expect(restore(t, t.ref, 'small', { size: '2M' })).rejects.toEqual(
    refuses('INVALID_ARGUMENT', 'of a device of 4M (4194304 bytes), which does not fit into a volume of 2M'),
  )
  await expect(restore(t, t.ref, 'part', { path: 'etc' })).rejects.toEqual(
    refuses('NOT_SUPPORTED', 'restore all of it to a new volume, and copy what you need'),
  )
  expect((await t.volumes.create({ name: 'made', fromBackup: t.ref })).volume.size).toBe(4 * MiB)
  expect([contentOf(t, 'made'), strangers(t)]).toEqual(['first', []])
})

test('without resize a larger one is refused before anything is made', async () => {
  await using t = await blockCore({ without: ['resize'] })
  await expect(restore(t, t.ref, 'large', { size: '8M' })).rejects.toEqual(
    refuses('NOT_SUPPORTED', 'leave the size out'),
  )
  expect(lastOf(t, 'backup.restore')).toBeUndefined()
})

test('in place: the size stays, and what was before is in a snapshot', async () => {
  await using t = await blockCore()
  await t.volumes.resize('db', '6M')
  await restore(t, t.ref, 'db', { inPlace: true })
  expect([contentOf(t, 'db'), sizeOf(t, 'db'), strangers(t)]).toEqual(['first', 6 * MiB, []])
  expect(readdirSync(t.beside('devices'))).toEqual([])
  const safety = t.snapshots.list().find(({ name }) => name.startsWith('before-restore-'))
  await t.snapshots.revert('db', safety?.name ?? '')
  expect(contentOf(t, 'db')).toBe('second')
})

test.each(['device.create', 'device.open', 'device.close', 'resize.resize'])(
  'failing in %s leaves nothing of a new volume, and all of an old one',
  async (call) => {
    await using t = await blockCore()
    await t.volumes.resize('db', '6M')
    const full = new AppError('NO_SPACE', 'the pool is full')
    t.driver.fail(call, full)
    await expect(restore(t, t.ref, 'new', { size: '8M' })).rejects.toBe(full)
    t.driver.fail(call, full, true)
    await expect(restore(t, t.ref, 'db', { inPlace: true })).rejects.toBe(full)
    expect([contentOf(t, 'db'), strangers(t), readdirSync(t.beside('devices'))]).toEqual(['second', [], []])
    expect(t.core.catalog.volumes().map(({ name }) => name)).toEqual(['db'])
    expect(t.snapshots.list().filter(({ name }) => name.startsWith('before-'))).toEqual([])
  },
)

/** Stops the daemon while a restore is at `call`, does `meanwhile`, and lets the next life end it. */
async function stoppedIn(call: string, to: string, more: object, meanwhile: (t: TestCore) => void): Promise<Bed> {
  const t = await blockCore()
  const gate = t.driver.block(call)
  const restoring = restore(t, t.ref, to, more)
  await gate.reached
  const id = lastOf(t, 'backup.restore')?.id ?? ''
  await Promise.allSettled([restoring, t.core.operations.stop(5_000)])
  expect(t.core.catalog.operation(id)?.state).toBe('running')
  meanwhile(t)
  const next = await t.restart()
  await next.recover()
  expect(next.core.catalog.operation(id)?.state).toBe('done')
  expect(strangers(next)).toEqual([])
  return Object.assign(next, { ref: t.ref })
}

const cases = [
  { to: 'new', more: { size: '6M' }, made: 'new' },
  { to: 'db', more: { inPlace: true }, made: 'restore-' },
]

test.each(cases)('stopped before the image is written, the next life writes it ($to)', async ({ to, more }) => {
  await using t = await stoppedIn('device.open', to, more, () => undefined)
  expect(contentOf(t, to)).toBe('first')
})

test.each(cases)(
  'stopped after it was written, the next life leaves it as the driver has made it ($to)',
  async (given) => {
    const { to, more, made } = given
    await using t = await stoppedIn('device.close', to, more, (before) => {
      writeFileSync(deviceOf(before, made), 'first of its own', { flag: 'r+' })
    })
    expect(contentOf(t, to)).toBe('first of its own')
    expect(t.driver.calls.filter((call) => call.startsWith('device.'))).toHaveLength(3)
  },
)

test('a backup of files goes through the mount of a volume that is a device', async () => {
  await using files = await coreWithTarget()
  const { url } = await files.backups.create({ volume: 'db', to: { at: 't' } })
  setContent(files, 'db', 'second')
  await using t = await files.restart({ blocks: true })
  await restore(t, url, 'new')
  await restore(t, url, 'db', { inPlace: true, path: 'data.txt' })
  expect([contentOf(t, 'new'), sizeOf(t, 'new'), contentOf(t, 'db')]).toEqual(['first', 4 * MiB, 'first'])
  expect(t.driver.calls.filter((call) => call.startsWith('device.'))).toEqual([])
})

test('a cancel before the image is written leaves nothing', async () => {
  await using t = await blockCore()
  const gate = t.driver.block('device.open')
  const restoring = restore(t, t.ref, 'new')
  await gate.reached
  t.core.operations.cancel(lastOf(t, 'backup.restore')?.id ?? '')
  await expect(restoring).rejects.toEqual(expect.objectContaining({ code: 'CANCELLED' }))
  await vi.waitFor(() => expect([strangers(t), t.core.catalog.volumes().length]).toEqual([[], 1]))
})
