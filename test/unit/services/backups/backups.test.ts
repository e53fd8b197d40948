/** Backups by the services: from which source, under which holds, what is remembered, what a stop or a crash leaves. */

import { randomUUID } from 'node:crypto'
import { existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { expect, test, vi } from 'vitest'
import { amendOperation, beginOperation } from '../../../../src/catalog/changes.ts'
import { backupLabel } from '../../../../src/services/backups/backup-run.ts'
import type { BackupView } from '../../../../src/services/backups/contract.ts'
import { Schedules } from '../../../../src/services/schedules/schedules.ts'
import { contentOf, coreWithTarget, lastOf, setContent } from '../../../support/backups.ts'
import type { TestCore } from '../../../support/core.ts'
import { anOperation } from '../../../support/nouns.ts'

const refuses = (code: string, message?: string) =>
  expect.objectContaining({ code, ...(message !== undefined && { message: expect.stringContaining(message) }) })

const backUp = (t: TestCore, more: object = {}): Promise<BackupView> =>
  t.backups.create({ volume: 'db', to: { at: 't' }, ...more })

/** What a backup leaves on the node, apart from its entry: nothing. */
function leftOvers(t: TestCore): unknown[] {
  return [t.core.catalog.allHolds(), t.snapshots.list().map(({ name }) => name), [...t.driver.mounted]]
}

test('a cheap snapshot is made for a backup, read, and removed after', async () => {
  await using t = await coreWithTarget()
  const started: string[] = []
  const backup = await t.backups.create(
    { volume: 'db', to: { at: 't' }, labels: { why: 'test' } },
    { onStarted: (id) => started.push(id) },
  )
  expect(backup).toMatchObject({ volume: 'db', snapshot: null, kind: 'tree', labels: { why: 'test' }, changed: 0 })
  expect(started).toEqual([lastOf(t, 'backup.create')?.id])
  expect(t.driver.calls.filter((call) => call.startsWith('snapshots.open'))).toHaveLength(1)
  expect(leftOvers(t)).toEqual([[], [], []])
  expect((await t.volumes.inspect('db')).lastBackup).toEqual({ url: backup.url, createdAt: backup.createdAt })
  expect(await t.backups.list({ at: 't' }, 'db')).toEqual([backup])
  expect(await t.backups.list({ at: 't' }, 'other')).toEqual([])
})

test('a volume without cheap snapshots is read where it is, mounted like for a container', async () => {
  await using t = await coreWithTarget({ cheap: false })
  const gate = t.driver.block('mount')
  const backing = backUp(t)
  await gate.reached
  gate.open()
  await vi.waitFor(() => expect(t.core.catalog.allHolds()).toHaveLength(1), 20_000)
  await expect(t.volumes.remove('db')).rejects.toEqual(refuses('IN_USE', 'holdfast operation cancel'))
  expect(await t.mounts.mount('db', 'container')).toBe((await t.volumes.inspect('db')).mountpoint)
  expect((await backing).files).toBe(2)
  expect(t.driver.mounted.size).toBe(1)
  await t.mounts.unmount('db', 'container')
  expect(leftOvers(t)).toEqual([[], [], []])
  expect(t.driver.calls.filter((call) => call.startsWith('snapshots.'))).toEqual([])
})

test('a snapshot that is named is read, kept, and cannot be removed meanwhile; the volume can be used', async () => {
  await using t = await coreWithTarget()
  await t.snapshots.create('db', { name: 's1' })
  setContent(t, 'db', 'second')
  const gate = t.driver.block('snapshots.open')
  const backing = backUp(t, { snapshot: 's1' })
  await gate.reached
  await expect(t.snapshots.remove('db', 's1')).rejects.toEqual(refuses('IN_USE', 'is being backed up'))
  await expect(t.snapshots.revert('db', 's1')).rejects.toEqual(refuses('IN_USE', 'is being backed up'))
  await expect(t.volumes.remove('db')).rejects.toEqual(refuses('IN_USE', 'is being backed up'))
  await t.mounts.mount('db', 'container')
  await t.mounts.resetCounts()
  expect(t.core.catalog.allHolds().filter(({ stale }) => stale)).toHaveLength(1)
  await t.mounts.unmount('db', 'container')
  await t.snapshots.create('db', { name: 's2' })
  gate.open()
  const backup = await backing
  expect(backup.snapshot).toBe('s1')
  expect(backup.createdAt).toBe(t.snapshots.inspect('db', 's1').createdAt)
  await t.backups.restore({ from: { backup: `t/${backup.id}` }, to: 'copy' })
  expect(contentOf(t, 'copy')).toBe('first')
  await t.snapshots.remove('db', 's1')
})

test('the same request joins the backup that runs, another one is told', async () => {
  await using t = await coreWithTarget()
  const gate = t.driver.block('snapshots.open')
  const ids: string[] = []
  const first = backUp(t)
  await gate.reached
  const second = t.backups.create({ volume: 'db', to: { at: 't' } }, { onStarted: (id) => ids.push(id) })
  await expect(backUp(t, { labels: { a: 'b' } })).rejects.toEqual(refuses('ABORTED', 'runs already'))
  gate.open()
  expect(await second).toEqual(await first)
  expect(ids).toEqual([lastOf(t, 'backup.create')?.id])
  expect(await t.backups.list({ at: 't' })).toHaveLength(1)
})

test('backups of one volume to two repositories may begin in the same second', async () => {
  await using t = await coreWithTarget()
  const other = `file://${t.beside('other')}`
  await t.targets.add('u', other)
  const gate = t.driver.block('snapshots.create')
  const backing = Promise.all(['t', 'u'].map((at) => t.backups.create({ volume: 'db', to: { at } })))
  await gate.reached
  await vi.waitFor(() =>
    expect(t.core.operations.list().filter(({ kind }) => kind === 'backup.create')).toHaveLength(2),
  )
  gate.open()
  expect((await backing).map(({ url }) => url.startsWith(other))).toEqual([false, true])
  expect(leftOvers(t)).toEqual([[], [], []])
})

test('an entry that cannot be read stays open, and does not end the daemon', async () => {
  await using t = await coreWithTarget()
  const operation = anOperation({ kind: 'backup.create', payload: null })
  await t.core.catalog.write(beginOperation(operation))
  await t.recover()
  expect(t.core.catalog.operation(operation.id)?.state).toBe('running')
  await vi.waitFor(() => expect(t.logged.join()).toContain('the entry stays open'))
})

test('cancelled, a backup leaves nothing but its entry', async () => {
  await using t = await coreWithTarget()
  const gate = t.driver.block('snapshots.open')
  const backing = backUp(t)
  await gate.reached
  t.core.operations.cancel(lastOf(t, 'backup.create')?.id ?? '')
  await expect(backing).rejects.toEqual(refuses('CANCELLED'))
  expect(lastOf(t, 'backup.create')?.state).toBe('cancelled')
  expect(leftOvers(t)).toEqual([[], [], []])
})

test('two heavy jobs run at once, the third waits and can be cancelled', async () => {
  await using t = await coreWithTarget()
  for (const name of ['b', 'c']) await t.volumes.create({ name })
  const gate = t.driver.block('snapshots.open')
  const backing = ['db', 'b', 'c'].map((volume) => t.backups.create({ volume, to: { at: 't' } }))
  const count = () => t.driver.calls.filter((call) => call.startsWith('snapshots.open')).length
  await vi.waitFor(() => expect([count(), t.core.catalog.allHolds().length]).toEqual([2, 3]), 20_000)
  const opened = t.driver.calls.filter((call) => call.startsWith('snapshots.open')).join()
  const [waiting] = t.core.operations
    .list()
    .filter(({ kind, subject }) => kind === 'backup.create' && !opened.includes(` ${subject}@`))
  t.core.operations.cancel(waiting?.id ?? '')
  const failures = Promise.allSettled(backing)
  await vi.waitFor(() => expect(t.core.operations.inspect(waiting?.id ?? '').state).toBe('cancelled'))
  gate.open()
  expect((await failures).map(({ status }) => status).sort()).toEqual(['fulfilled', 'fulfilled', 'rejected'])
})

test('the snapshot of a device stays as the base of the next backup, and the one before goes', async () => {
  await using t = await coreWithTarget({ source: 'block' })
  const first = await backUp(t)
  expect(first).toMatchObject({ kind: 'block', parent: null })
  const [base] = t.snapshots.list()
  setContent(t, 'db', 'other')
  const second = await backUp(t)
  expect(second.parent).toBe(first.id)
  expect(t.driver.calls.filter((call) => call.startsWith('snapshots.open')).at(-1)).toMatch(`since ${base?.name}`)
  expect(t.snapshots.list()).toHaveLength(1)
  expect(t.snapshots.list()[0]?.name).not.toBe(base?.name)
  expect(t.core.catalog.allHolds()).toEqual([])
  await expect(t.backups.restore({ from: { backup: `t/${first.id}` }, to: 'copy' })).rejects.toEqual(
    refuses('NOT_SUPPORTED', 'block device'),
  )
  expect(t.core.catalog.volume('copy')).toBeUndefined()
})

test('a stop of the daemon leaves a backup open, and the next life ends it under its id', async () => {
  await using t = await coreWithTarget()
  const gate = t.driver.block('snapshots.open')
  const backing = backUp(t)
  await gate.reached
  const id = lastOf(t, 'backup.create')?.id ?? ''
  const stopped = t.core.operations.stop(5_000)
  await expect(backing).rejects.toEqual(refuses('UNAVAILABLE', `holdfast operation watch ${id}`))
  await stopped
  expect(t.core.catalog.operation(id)).toMatchObject({ state: 'running', error: null })
  const [made] = t.snapshots.list()
  expect(made?.labels).toEqual({ [backupLabel]: id })

  await using next = await t.restart()
  await next.recover()
  await vi.waitFor(() => expect(next.core.catalog.operation(id)?.state).toBe('done'), 20_000)
  await vi.waitFor(() => expect(leftOvers(next)).toEqual([[], [], []]), 5_000)
  const [backup] = await next.backups.list({ at: 't' })
  expect(backup?.createdAt).toBe(made?.createdAt)
})

test('one that was stored and not written down is not stored again', async () => {
  await using t = await coreWithTarget()
  const backup = await backUp(t, { labels: { a: 'b' } })
  const done = lastOf(t, 'backup.create')
  const stilled = { since: backup.createdAt, paused: [], hooks: null }
  const plan = { ...(done?.payload as object), stilled } as never
  const operation = anOperation({ kind: 'backup.create', subject: 'db', payload: plan })
  await t.core.catalog.write(beginOperation(operation), amendOperation(operation.id, plan))
  await using next = await t.restart()
  await next.recover()
  await vi.waitFor(() => expect(next.core.catalog.operation(operation.id)?.state).toBe('done'), 20_000)
  expect(await next.backups.list({ at: 't' })).toEqual([backup])
})

test.each([
  ['snapshot', 'no such snapshot: db@s1'],
  ['volume', 'no such volume: db'],
])('resumed when its %s is gone, it fails with that reason', async (what, reason) => {
  await using t = await coreWithTarget()
  await t.snapshots.create('db', { name: 's1' })
  const gate = t.driver.block('snapshots.open')
  const backing = backUp(t, { snapshot: 's1' })
  await gate.reached
  const id = lastOf(t, 'backup.create')?.id ?? ''
  await Promise.allSettled([t.core.operations.stop(5_000), backing])
  await using next = await t.restart()
  await next.core.catalog.write({ sql: 'DELETE FROM holds', params: [] }) // As after a reboot.
  if (what === 'snapshot') await next.snapshots.remove('db', 's1')
  else await next.volumes.remove('db', { purge: true })
  await next.recover()
  await vi.waitFor(() => expect(next.core.catalog.operation(id)?.state).toBe('failed'), 20_000)
  expect(next.core.catalog.operation(id)?.error?.message).toContain(reason)
})

test('a backup that cannot be stored says why, and leaves nothing', async () => {
  await using t = await coreWithTarget()
  await expect(backUp(t, { to: { at: `file://${t.beside('nothing')}` } })).rejects.toEqual(
    refuses('FAILED_PRECONDITION'),
  )
  await expect(backUp(t, { to: { at: 'nobody' } })).rejects.toEqual(refuses('NOT_FOUND', 'no target nobody'))
  await expect(backUp(t, { volume: 'nothing' })).rejects.toEqual(refuses('NOT_FOUND'))
  await expect(backUp(t, { snapshot: 'nothing' })).rejects.toEqual(refuses('NOT_FOUND'))
  expect(leftOvers(t)).toEqual([[], [], []])
})

test('backups are found by target and URL, whole and cut ids, and the latest', async () => {
  await using t = await coreWithTarget()
  const [first, second] = [await backUp(t), await backUp(t)]
  const refs = [first.url, `t/${first.id}`, `t/${first.id.slice(0, 8)}`, first.url.replace('file:', 'vfs:')]
  for (const backup of refs) expect(await t.backups.inspect({ backup })).toEqual(first)
  expect(await t.backups.inspect({ backup: 't/latest' })).toEqual(second)
  await expect(t.backups.inspect({ backup: `t/${'0'.repeat(32)}` })).rejects.toEqual(refuses('NOT_FOUND'))
  await expect(t.backups.inspect({ backup: 't/00000000' })).rejects.toEqual(refuses('NOT_FOUND'))
  const named = { code: 'INVALID_ARGUMENT', message: expect.stringMatching(/add \/VOLUME@latest or \/ID/) }
  await expect(t.backups.inspect({ backup: 't' })).rejects.toMatchObject(named)
  for (const backup of ['t', 't/123', '/mnt/x', 't/@latest', 'file:///x', 'file:///x?backup=zz', '']) {
    await expect(t.backups.inspect({ backup }), backup).rejects.toEqual(refuses('INVALID_ARGUMENT'))
  }
  const listed: string[] = []
  await t.backups.listFiles({ backup: 't/latest' }, '', async (files) => {
    listed.push(...files.map(({ path, type, mode }) => `${path} ${type} ${mode > 0o7777}`))
  })
  expect(listed).toEqual([' directory false', 'data.txt file false'])
})

test('a manifest that cannot be read stops nobody’s backups, and is removed by its whole id', async () => {
  await using t = await coreWithTarget()
  const [sound, rotten] = [await backUp(t), await backUp(t)]
  writeFileSync(join(t.beside('repository'), 'manifests', rotten.id), 'rot')
  await t.volumes.create({ name: 'other' })
  await backUp(t, { volume: 'other' })
  const third = await backUp(t)
  await expect(t.backups.list({ at: 't' })).rejects.toEqual(refuses('CORRUPT', rotten.id))
  await expect(t.backups.remove([{ backup: `t/${rotten.id.slice(0, 8)}` }])).rejects.toEqual(refuses('CORRUPT'))
  expect(await t.backups.remove([{ backup: `t/${rotten.id}` }])).toEqual([rotten.url])
  const left = (await t.backups.list({ at: 't' })).filter(({ volume }) => volume === 'db')
  expect(left.map(({ id }) => id)).toEqual([sound.id, third.id])
})

test('removed and forgotten backups are no longer what a volume points to', async () => {
  await using t = await coreWithTarget()
  const backups = [await backUp(t), await backUp(t, { labels: { keep: 'me' } }), await backUp(t)]
  const forgotten = await t.backups.forget({ at: 't' }, { volume: 'db', keep: 'last=1', labels: {}, dryRun: true })
  expect(forgotten.decisions.map(({ keep }) => keep)).toEqual([true, false, false])
  expect(await t.backups.list({ at: 't' })).toHaveLength(3)
  const labelled = { volume: 'db', keep: 'last=1', labels: { keep: 'me' } }
  expect((await t.backups.forget({ at: 't' }, labelled)).decisions).toHaveLength(1)
  const elsewhere = { volume: 'db', keep: 'last=1', host: 'another' }
  expect((await t.backups.forget({ at: 't' }, elsewhere)).decisions).toEqual([])
  const { decisions, prune } = await t.backups.forget({ at: 't' }, { volume: 'db', keep: 'last=1', prune: true })
  expect(decisions.filter(({ keep }) => keep).map(({ backup }) => backup.id)).toEqual([backups[2]?.id])
  expect(prune).toMatchObject({ deleted: { packs: 0 } })
  expect((await t.volumes.inspect('db')).lastBackup?.url).toBe(backups[2]?.url)
  await expect(t.backups.remove([{ backup: 't/db@latest' }])).rejects.toEqual(
    refuses('INVALID_ARGUMENT', 'a moving name'),
  )
  await expect(t.backups.forget({ at: 't' }, { volume: 'nosuch', keep: 'last=1' })).rejects.toEqual(
    refuses('NOT_FOUND', 'only of db'),
  )
  expect(await t.backups.remove([{ backup: `t/${backups[2]?.id}` }])).toEqual([backups[2]?.url])
  expect((await t.volumes.inspect('db')).lastBackup).toBeNull()
  expect(await t.backups.list({ at: 't' })).toEqual([])
  expect(await t.backups.verify({ at: 't' }, { readData: true })).toMatchObject({
    backups: 0,
    problems: [],
    damaged: [],
  })
  expect(lastOf(t, 'backup.verify')?.subject).toBe('t')
  expect(existsSync(t.beside('repository'))).toBe(true)
})

test('what verify finds is its result, and in the journal an error', async () => {
  await using t = await coreWithTarget()
  await backUp(t)
  const packs = readdirSync(t.beside('repository/packs'), { recursive: true, withFileTypes: true })
  for (const pack of packs.filter((entry) => entry.isFile())) rmSync(join(pack.parentPath, pack.name))
  const found = await t.backups.verify({ at: 't' }, { readData: false })
  expect(found.damaged).toHaveLength(1)
  expect(await t.backups.list({ at: 't' })).toMatchObject([{ damaged: true }])
  const problems = `1 backup is damaged, ${found.problems.length} problem`
  expect(lastOf(t, 'backup.verify')).toMatchObject({
    state: 'failed',
    error: { code: 'CORRUPT', message: expect.stringContaining(problems) },
  })
})

test('a repository within the volume is refused, and so is a word for a backup where a repository is wanted', async () => {
  await using t = await coreWithTarget()
  Object.assign(t.driver, { mountpoint: () => t.beside('') })
  await expect(backUp(t)).rejects.toEqual(refuses('INVALID_ARGUMENT', 'is within volume db'))
  for (const at of ['t/db@latest', 'file:///x?backup=latest']) {
    await expect(t.backups.list({ at }), at).rejects.toEqual(refuses('INVALID_ARGUMENT', 'a repository is wanted here'))
  }
  await expect(t.backups.list({ at: '/mnt/x' })).rejects.toEqual(refuses('INVALID_ARGUMENT', 'file:///mnt/x'))
})

test('what worked on a repository only is over with the life that began it', async () => {
  await using t = await coreWithTarget()
  const operation = anOperation({ kind: 'backup.prune', subject: 's3://bucket@region/prefix' })
  await t.core.catalog.write(beginOperation(operation))
  await using next = await t.restart()
  await next.recover()
  expect(next.core.catalog.operation(operation.id)?.state).toBe('interrupted')
})

test("a schedule's backup waits for another one of its volume, and is cancelled without it", async () => {
  await using t = await coreWithTarget()
  const schedules = new Schedules({ core: t.core, snapshots: t.snapshots, backups: t.backups })
  await schedules.create({ volume: 'db', name: 'nightly', cron: '@yearly', target: 't' })
  const gate = t.driver.block('snapshots.open')
  const manual = backUp(t)
  await gate.reached
  const id = randomUUID()
  const cancelled = schedules.run('nightly', { operationId: id })
  await vi.waitFor(() => expect(t.core.operations.inspect(id).state).toBe('running'))
  t.core.operations.cancel(id)
  await expect(cancelled).rejects.toEqual(refuses('CANCELLED'))
  const scheduled = schedules.run('nightly')
  await pause(400)
  expect(t.core.operations.list().map(({ kind }) => kind)).toEqual(['backup.create', 'schedule.run'])
  gate.open()
  await manual
  expect(await scheduled).toMatchObject({ failures: 0, status: 'ok' })
  expect(await t.backups.list({ at: 't' })).toHaveLength(2)
})
