/** Backups of devices: which snapshot stays for the next one, who may remove it, and that nothing stays open. */

import { expect, test, vi } from 'vitest'
import type { BackupView } from '../../../../src/services/backups/contract.ts'
import { Schedules } from '../../../../src/services/schedules/schedules.ts'
import { coreWithTarget, setContent } from '../../../support/backups.ts'
import type { TestCore } from '../../../support/core.ts'

const backUp = (t: TestCore, target = 't', more: object = {}): Promise<BackupView> =>
  t.backups.create({ volume: 'db', to: { at: target }, ...more })

/** Names, by what they were made for. */
const kept = (t: TestCore): string[] => t.snapshots.list('db').map(({ name }) => name)

const opened = (t: TestCore): string | undefined => t.driver.calls.findLast((call) => call.startsWith('snapshots.open'))

test('an unchanged device costs no bytes, and leaves nothing open', async () => {
  await using t = await coreWithTarget({ blocks: true })
  const first = await backUp(t)
  const [base] = kept(t)
  expect(t.snapshots.list('db')[0]?.labels).toEqual({ 'holdfast.backup': expect.stringMatching(/^[0-9a-f-]{36}$/) })
  expect([...t.driver.mounted]).toEqual([])
  const second = await backUp(t)
  expect(second).toMatchObject({ parent: first.id, size: 4 * 2 ** 20 })
  expect(second.added).toBeLessThan(first.added)
  expect([opened(t), kept(t).length]).toEqual([expect.stringMatching(`since ${base}$`), 1])
  expect([[...t.driver.mounted], t.core.catalog.allHolds()]).toEqual([[], []])
})

test('each target keeps one; a failed backup keeps none, nor takes one away', async () => {
  await using t = await coreWithTarget({ blocks: true })
  await t.targets.add('u', `file://${t.beside('other')}`)
  for (const target of ['t', 'u', 't', 'u']) await backUp(t, target)
  const two = kept(t)
  expect(two).toHaveLength(2)
  t.driver.fail('snapshots.open', new Error('the pool is gone') as never)
  await expect(backUp(t, 'u')).rejects.toThrow('the pool is gone')
  expect(kept(t)).toEqual(two)
  await t.targets.remove('u')
  await t.backups.sweep()
  expect(kept(t)).toEqual([two[0]])
})

test('removed by a user, the next backup reads all; of a backup that was removed, none is kept', async () => {
  await using t = await coreWithTarget({ blocks: true })
  const first = await backUp(t)
  await t.snapshots.remove('db', kept(t)[0] ?? '')
  const second = await backUp(t)
  expect([second.parent, opened(t), second.size]).toEqual([null, expect.stringMatching(/since undefined$/), first.size])
  await t.backups.remove([{ backup: `t/${second.id}` }])
  await t.backups.sweep()
  expect(kept(t)).toEqual([])
  expect((await backUp(t)).parent).toBeNull()
})

test('it stays while the volume is in the trash, and goes with it', async () => {
  await using t = await coreWithTarget({ blocks: true })
  const first = await backUp(t)
  await t.volumes.remove('db')
  await t.backups.sweep()
  await t.trash.restore('db')
  expect((await backUp(t)).parent).toBe(first.id)
  await t.volumes.remove('db', { purge: true })
  expect([t.driver.storage.size, t.core.catalog.allLastBackups()]).toEqual([0, []])
})

test('after a revert the next backup still knows what has changed', async () => {
  await using t = await coreWithTarget({ blocks: true })
  await t.snapshots.create('db', { name: 's1' })
  setContent(t, 'db', 'second')
  const first = await backUp(t)
  await t.snapshots.revert('db', 's1')
  const second = await backUp(t)
  expect(second.parent).toBe(first.id)
  await t.backups.restore({ from: { backup: second.url }, to: 'copy' })
  const copy = [...t.driver.storage.values()].find(({ name }) => name === 'copy')
  expect(copy?.content).toBe('first')
})

test("a schedule's retention neither counts nor removes it; what it removes is no longer one", async () => {
  await using t = await coreWithTarget({ blocks: true })
  const schedules = new Schedules({ core: t.core, snapshots: t.snapshots, backups: t.backups })
  await backUp(t)
  const [base] = kept(t)
  const request = { volume: 'db', cron: '@yearly', snapshot: true }
  await schedules.create({ ...request, name: 'plain', keepSnapshots: 'last=1' })
  for (let round = 0; round < 3; round++) await schedules.run('plain')
  expect(kept(t)).toEqual([base, expect.stringMatching(/^plain-/)])
  await schedules.create({ ...request, name: 'both', target: 't', keepSnapshots: 'last=1' })
  await schedules.run('both')
  const { snapshotId } = t.core.catalog.allLastBackups()[0] ?? {}
  await vi.waitFor(() => expect(kept(t)).toEqual([expect.stringMatching(/^plain-/), expect.stringMatching(/^both-/)]))
  await schedules.run('both')
  const [last] = t.core.catalog.allLastBackups()
  expect(last?.snapshotId).not.toBe(snapshotId)
  expect(t.core.catalog.snapshot(last?.volumeId ?? '', kept(t)[1] ?? '')?.id).toBe(last?.snapshotId)
})

test('what the CLI has mounted stays mounted when a backup has read it', async () => {
  await using t = await coreWithTarget({ blocks: true })
  await t.snapshots.create('db', { name: 's1' })
  const mounted = await t.snapshots.mount('db', 's1')
  await backUp(t, 't', { snapshot: 's1' })
  expect([...t.driver.mounted]).toEqual([mounted])
  await t.snapshots.unmount('db', 's1')
  expect([[...t.driver.mounted], kept(t)]).toEqual([[], ['s1']])
})
