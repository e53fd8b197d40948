/** Restores by the services: to a new volume, which shows when it is complete, and in place; what errors, stops and crashes leave. */

import { expect, test, vi } from 'vitest'
import { AppError } from '../../../../src/errors.ts'
import { contentOf, coreWithTarget, lastOf, setContent } from '../../../support/backups.ts'
import type { CoreOptions, TestCore } from '../../../support/core.ts'

const refuses = (code: string, message?: string) =>
  expect.objectContaining({ code, ...(message !== undefined && { message: expect.stringContaining(message) }) })

/** `db` holds `second`; the backup `t/latest` of it holds `first`. */
async function coreWithBackup(options: CoreOptions = {}): Promise<TestCore & { url: string; ref: string }> {
  const t = await coreWithTarget(options)
  const { url, id } = await t.backups.create({ volume: 'db', to: { at: 't' } })
  setContent(t, 'db', 'second')
  return Object.assign(t, { url, ref: `t/${id}` })
}

const restore = (t: { backups: TestCore['backups'] }, backup: string, to: string, more: object = {}) =>
  t.backups.restore({ from: { backup }, to, ...more })

/** Ids of all data that the driver holds, without the known volumes'. */
function strangers(t: TestCore): string[] {
  const known = new Set(t.core.catalog.volumes().map(({ id }) => id))
  return [...t.driver.storage.keys()].filter((id) => !known.has(id))
}

test('a volume made from a backup shows when it is complete', async () => {
  await using t = await coreWithBackup()
  const gate = t.driver.block('mount')
  const restoring = restore(t, t.ref, 'new')
  await gate.reached
  expect(t.mounts.get('new')).toBeUndefined()
  gate.open()
  expect(await restoring).toMatchObject({ name: 'new', origin: t.url, status: 'ok', mountpoint: null })
  expect([contentOf(t, 'new'), contentOf(t, 'db'), strangers(t)]).toEqual(['first', 'second', []])
  expect([...t.driver.mounted]).toEqual([])
  await expect(restore(t, t.ref, 'new')).rejects.toEqual(refuses('ALREADY_EXISTS', '--in-place'))
  await expect(restore(t, t.ref, 'x', { driver: 'nobody' })).rejects.toEqual(refuses('INVALID_ARGUMENT'))
  await expect(restore(t, `t/${'0'.repeat(32)}`, 'x')).rejects.toEqual(refuses('NOT_FOUND'))
  await expect(restore(t, t.ref, 'x', { path: '../data.txt' })).rejects.toEqual(refuses('INVALID_ARGUMENT'))
  await expect(restore(t, t.ref, 'x', { path: 'nothing' })).rejects.toEqual(refuses('NOT_FOUND'))
  expect(t.core.catalog.volumes().map(({ name }) => name)).toEqual(['db', 'new'])
})

test('create from a backup: as asked for, joined while it runs, and found when it is there', async () => {
  await using t = await coreWithBackup()
  const request = { name: 'new', fromBackup: t.ref.slice(2), target: 't', size: '1G', labels: { a: 'b' } }
  const both = await Promise.all([t.volumes.create(request), t.volumes.create(request)])
  expect(both[0]?.volume).toMatchObject({ size: 2 ** 30, labels: { a: 'b' }, origin: t.url })
  expect([both[1], contentOf(t, 'new')]).toEqual([both[0], 'first'])
  expect((await t.volumes.create(request)).existed).toBe(true)
  expect((await t.volumes.create({ name: 'new', fromBackup: 't/latest' })).existed).toBe(true)
  expect((await t.volumes.create({ name: 'new', fromBackup: t.url, target: 't' })).existed).toBe(true)
  await expect(t.volumes.create({ ...request, name: 'db' })).rejects.toEqual(
    refuses('ALREADY_EXISTS', `from-backup is not set, asked for ${t.ref}`),
  )
  await expect(t.volumes.create({ name: 'other', fromBackup: 'other@latest', target: 't' })).rejects.toEqual(
    refuses('NOT_FOUND', 'no backup of volume other'),
  )
  for (const wrong of [{ fromBackup: 'latest' }, { target: 't' }, { fromBackup: t.ref, fromSnapshot: 'db@s1' }]) {
    await expect(t.volumes.create({ name: 'x', ...wrong })).rejects.toEqual(refuses('INVALID_ARGUMENT'))
  }
})

test("latest is never another volume's unless there is no other", async () => {
  await using t = await coreWithBackup()
  const alone = await restore(t, 't/latest', 'alone')
  expect(alone.restoredFrom).toMatchObject({ url: t.url, volume: 'db' })
  await t.volumes.create({ name: 'web' })
  setContent(t, 'web', 'a page')
  const web = await t.backups.create({ volume: 'web', to: { at: 't' } })
  await restore(t, 't/latest', 'db', { inPlace: true })
  expect(contentOf(t, 'db')).toBe('first')
  await expect(restore(t, 't/latest', 'new')).rejects.toEqual(
    refuses(
      'FAILED_PRECONDITION',
      'holds backups of db, web, and none of volume new; say whose latest: t/VOLUME@latest',
    ),
  )
  await expect(t.volumes.create({ name: 'new', fromBackup: 't/latest' })).rejects.toEqual(
    refuses('FAILED_PRECONDITION', 'db, web'),
  )
  await expect(t.backups.inspect({ backup: 't/latest' })).rejects.toEqual(refuses('FAILED_PRECONDITION', 'db, web'))
  await restore(t, 't/web@latest', 'new')
  expect(contentOf(t, 'new')).toBe('a page')
  await expect(restore(t, 't/web@latest', 'db', { inPlace: true })).rejects.toEqual(
    refuses('FAILED_PRECONDITION', `is of volume web, not of db; restore it to a new volume`),
  )
  expect((await restore(t, web.url, 'db', { inPlace: true })).restoredFrom.volume).toBe('web')
  expect(contentOf(t, 'db')).toBe('a page')
})

test('a new volume is what was asked for, with the limit of the one that was backed up', async () => {
  await using t = await coreWithTarget()
  await t.volumes.create({ name: 'limited', size: '1G' })
  const { id, labels } = await t.backups.create({ volume: 'limited', to: { at: 't' } })
  expect(labels).toMatchObject({ 'holdfast.size': String(2 ** 30) })
  expect((await restore(t, `t/${id}`, 'same')).size).toBe(2 ** 30)
  const asked = { size: '2G', labels: { a: 'b' }, onRemove: 'retain', options: { colour: 'red' } }
  expect(await restore(t, `t/${id}`, 'more', asked)).toMatchObject({ ...asked, size: 2 ** 31 })
  await expect(restore(t, `t/${id}`, 'x', { options: { color: 'red' } })).rejects.toEqual(
    refuses('INVALID_ARGUMENT', "did you mean 'colour'"),
  )
  await expect(restore(t, `t/${id}`, 'limited', { inPlace: true, size: '3G' })).rejects.toEqual(
    refuses('INVALID_ARGUMENT', 'size is for a new one'),
  )
  t.driver.fail('createVolume', new AppError('NOT_SUPPORTED', 'no quota here'))
  expect((await restore(t, `t/${id}`, 'free')).size).toBeNull()
  expect(t.logged.join()).toContain('without the limit')
  t.driver.fail('createVolume', new AppError('NOT_SUPPORTED', 'no quota here'))
  await expect(restore(t, `t/${id}`, 'x', { size: '1G' })).rejects.toEqual(refuses('NOT_SUPPORTED'))
})

test("without a limit of the backup's a restored volume gets the default of its driver", async () => {
  await using before = await coreWithBackup()
  await using t = await before.restart({ defaultSize: 2 ** 30 })
  expect((await restore(t, before.ref, 'new')).size).toBe(2 ** 30)
  await t.volumes.create({ name: 'large', size: '5G' })
  const large = await t.backups.create({ volume: 'large', to: { at: 't' } })
  expect((await restore(t, large.url, 'same')).size).toBe(5 * 2 ** 30)
  t.driver.fail('createVolume', new AppError('NOT_SUPPORTED', 'not as large'))
  expect((await restore(t, large.url, 'small')).size).toBe(2 ** 30)
})

test('a restore that fails or is cancelled leaves nothing', async () => {
  await using t = await coreWithBackup()
  t.driver.fail('mount', new AppError('NO_SPACE', 'the disk is full'))
  await expect(restore(t, t.ref, 'new')).rejects.toEqual(refuses('NO_SPACE'))
  const gate = t.driver.block('createVolume')
  const restoring = restore(t, t.ref, 'new')
  await gate.reached
  t.core.operations.cancel(lastOf(t, 'backup.restore')?.id ?? '')
  await expect(restoring).rejects.toEqual(refuses('CANCELLED'))
  expect([strangers(t), [...t.driver.mounted], t.core.catalog.volumes().length]).toEqual([[], [], 1])
})

test('a restore goes on after a stop and after a crash, and its name is kept for it', async () => {
  await using t = await coreWithBackup()
  const gate = t.driver.block('createVolume')
  const restoring = restore(t, t.ref, 'new')
  await gate.reached
  const id = lastOf(t, 'backup.restore')?.id ?? ''
  await Promise.allSettled([restoring, t.core.operations.stop(5_000)])
  expect(t.core.catalog.operation(id)?.state).toBe('running')
  await using next = await t.restart()
  const blocked = next.driver.block('createVolume')
  const recovering = next.recover()
  await blocked.reached
  expect(next.core.operations.inspect(id).state).toBe('running')
  blocked.open()
  await recovering
  expect([next.core.catalog.operation(id)?.state, contentOf(next, 'new')]).toEqual(['done', 'first'])
  expect((await next.volumes.inspect('new')).origin).toBe(t.url)
})

test('in place: the content is replaced, and what was there is in a snapshot', async () => {
  await using t = await coreWithBackup()
  await t.snapshots.create('db', { name: 's1' })
  const view = await restore(t, t.ref, 'db', { inPlace: true })
  expect(view.snapshots.map(({ name }) => name.slice(0, 15))).toEqual(['s1', 'before-restore-'])
  expect([contentOf(t, 'db'), strangers(t), [...t.driver.mounted]]).toEqual(['first', [], []])
  await t.snapshots.revert('db', view.snapshots[1]?.name ?? '')
  expect(contentOf(t, 'db')).toBe('second')
})

test('in place is refused while the volume is used, and where the driver cannot', async () => {
  await using t = await coreWithBackup({ without: ['clone'] })
  await t.mounts.mount('db', 'cli')
  await expect(restore(t, t.ref, 'db', { inPlace: true })).rejects.toEqual(refuses('IN_USE', 'mounted by the CLI'))
  await t.mounts.unmount('db', 'cli')
  await expect(restore(t, t.ref, 'db', { inPlace: true, path: 'data.txt' })).rejects.toEqual(
    refuses('NOT_SUPPORTED', 'no clones'),
  )
  await t.volumes.create({ name: 'adopted', options: { adopt: '/somewhere' } })
  await expect(restore(t, t.ref, 'adopted', { inPlace: true })).rejects.toEqual(refuses('NOT_SUPPORTED', 'adopted'))
  await expect(restore(t, t.ref, 'nothing', { inPlace: true })).rejects.toEqual(refuses('NOT_FOUND'))
  expect(t.core.catalog.operations().filter(({ kind }) => kind === 'backup.restore')).toEqual([])
})

test.each([['createVolume'], ['mount'], ['replace.replace']])(
  'in place: failing in %s leaves all as it was',
  async (call) => {
    await using t = await coreWithBackup()
    t.driver.fail(call, new AppError('NO_SPACE', 'the disk is full'))
    await expect(restore(t, t.ref, 'db', { inPlace: true })).rejects.toEqual(refuses('NO_SPACE'))
    expect([contentOf(t, 'db'), strangers(t), t.snapshots.list()]).toEqual(['second', [], []])
    await restore(t, t.ref, 'db', { inPlace: true })
    expect(contentOf(t, 'db')).toBe('first')
  },
)

test.each([['replace.replace'], ['usage']])('in place: what fails in %s, too late, costs no content', async (call) => {
  await using t = await coreWithBackup()
  t.driver.fail(call, new AppError('NO_SPACE', 'the disk is full'), true)
  await expect(restore(t, t.ref, 'db', { inPlace: true })).rejects.toEqual(refuses('NO_SPACE'))
  expect([contentOf(t, 'db'), strangers(t)]).toEqual(['first', []])
  const [safety] = t.snapshots.list()
  expect(safety?.name).toMatch(/^before-restore-/)
  expect(t.logged.join()).toContain('replaced all the same')
  await t.snapshots.revert('db', safety?.name ?? '')
  expect(contentOf(t, 'db')).toBe('second')
})

test.each([['createVolume'], ['replace.replace']])('in place: stopped in %s, the next life ends it', async (call) => {
  await using t = await coreWithBackup()
  const gate = t.driver.block(call)
  const restoring = restore(t, t.ref, 'db', { inPlace: true })
  await gate.reached
  const id = lastOf(t, 'backup.restore')?.id ?? ''
  await Promise.allSettled([restoring, t.core.operations.stop(5_000)])
  await using next = await t.restart()
  next.driver.fail('replace.replace', new AppError('UNAVAILABLE', 'not yet'))
  await next.recover(20)
  if (call === 'createVolume') {
    // Not yet begun to be replaced: undone.
    await vi.waitFor(() => expect(next.core.catalog.operation(id)?.state).toBe('failed'))
    expect([contentOf(next, 'db'), strangers(next), next.snapshots.list()]).toEqual(['second', [], []])
    return
  }
  // Half replaced: tried until it succeeds.
  await vi.waitFor(() => expect(next.core.catalog.operation(id)?.state).toBe('done'), 10_000)
  expect([contentOf(next, 'db'), strangers(next), next.snapshots.list().length]).toEqual(['first', [], 1])
})
