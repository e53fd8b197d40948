/** What a crash has left, at each step of each kind of operation: finished or undone, and never what somebody else has done since. */

import Database from 'better-sqlite3'
import { describe, expect, test, vi } from 'vitest'
import { beginOperation, noteFailure } from '../../../../src/catalog/changes.ts'
import { AppError } from '../../../../src/errors.ts'
import type { Json, Volume } from '../../../../src/model.ts'
import { openCore, type TestCore } from '../../../support/core.ts'
import { anOperation, aSnapshot, aVolume } from '../../../support/nouns.ts'

async function coreWithVolume(): Promise<TestCore> {
  const t = await openCore()
  await t.volumes.create({ name: 'db', size: '1G' })
  for (const stored of t.driver.storage.values()) stored.content = 'first'
  await t.snapshots.create('db', { name: 's1' })
  for (const stored of t.driver.storage.values()) stored.content = 'second'
  return t
}

/** A crash in `kind`, journalled with this payload; then the next life has recovered. */
async function crashIn(
  t: TestCore,
  kind: string,
  subject: string,
  payload: Json,
): Promise<TestCore & { ended: string | undefined }> {
  const operation = anOperation({ kind, subject, payload })
  await t.core.catalog.write(beginOperation(operation))
  const next = await t.restart()
  await next.recover()
  return Object.assign(next, { ended: next.core.catalog.operation(operation.id)?.state })
}

const volumeOf = (t: TestCore): Volume => t.core.catalog.volume('db') as Volume
const contents = (t: TestCore): string[] =>
  [...t.driver.storage.values()].map(({ name, trashed, content }) => `${name} ${trashed} ${content}`)

describe('volume.create', () => {
  const volume = aVolume({ name: 'new', state: null })
  const complete = { name: 'new', size: null, trashed: false, content: 'used since', snapshots: new Map() }

  test('is undone before the driver has made it', async () => {
    await using t = await openCore()
    await using next = await crashIn(t, 'volume.create', 'new', { volume: { ...volume } })
    expect([next.ended, next.driver.storage.size, next.volumes.list()]).toEqual(['interrupted', 0, []])
    expect((await next.volumes.create({ name: 'new' })).existed).toBe(false)
  })

  test('is finished after that: the catalog may be an old copy, and the volume used since', async () => {
    await using t = await openCore()
    t.driver.storage.set(volume.id, { ...complete })
    await using next = await crashIn(t, 'volume.create', 'new', { volume: { ...volume } })
    expect([next.ended, contents(next)]).toEqual(['done', ['new false used since']])
    expect((await next.volumes.create({ name: 'new' })).existed).toBe(true)
  })

  test('is undone after that too, when its caller was told that it failed', async () => {
    await using t = await openCore()
    t.driver.storage.set(volume.id, { ...complete })
    const operation = anOperation({ kind: 'volume.create', subject: 'new', payload: { volume: { ...volume } } })
    await t.core.catalog.write(
      beginOperation(operation),
      noteFailure(operation.id, { code: 'NO_SPACE', message: 'the disk is full' }),
    )
    await using next = await t.restart()
    await next.recover()
    expect([next.driver.storage.size, next.volumes.list()]).toEqual([0, []])
  })

  test('and a volume of that name made since stays', async () => {
    await using t = await coreWithVolume()
    await using next = await crashIn(t, 'volume.create', 'db', { volume: { ...aVolume({ state: null }) } })
    expect([next.ended, contents(next)]).toEqual(['interrupted', ['db false second']])
  })
})

describe('volume.delete is finished', () => {
  test.each([
    ['before', true],
    ['after', false],
  ])('%s the driver has deleted it', async (_, there) => {
    await using t = await coreWithVolume()
    await t.volumes.remove('db')
    const [trashed] = t.core.catalog.trash()
    if (!there) t.driver.storage.clear()
    await using next = await crashIn(t, 'volume.delete', 'db', { id: trashed?.id ?? '' })
    expect([next.ended, next.driver.storage.size, next.trash.list()]).toEqual(['done', 0, []])
  })
})

describe('volume.discard is finished', () => {
  test.each([
    ['before', false],
    ['after', true],
  ])('%s the driver has set it aside', async (_, moved) => {
    await using t = await coreWithVolume()
    for (const stored of t.driver.storage.values()) stored.trashed = moved
    const [deletedAt, purgeAt] = ['2026-11-23T10:00:00.000Z', '2126-11-23T10:00:00.000Z']
    await using next = await crashIn(t, 'volume.discard', 'db', { id: volumeOf(t).id, deletedAt, purgeAt })
    expect(next.ended).toBe('done')
    const [trashed] = next.trash.list()
    expect(trashed).toMatchObject({ name: 'db', snapshots: 1 })
    const kept = Date.parse(trashed?.purgeAt ?? '') - Date.parse(trashed?.deletedAt ?? '')
    expect(kept).toBe(Date.parse(purgeAt) - Date.parse(deletedAt))
    await next.trash.restore('db')
    expect(contents(next)).toEqual(['db false second'])
  })
})

test('volume.discard is undone when its caller was told that it failed', async () => {
  await using t = await coreWithVolume()
  for (const stored of t.driver.storage.values()) stored.trashed = true
  const payload = { id: volumeOf(t).id, deletedAt: '2026-11-23T10:00:00.000Z', purgeAt: '2026-11-23T10:00:00.000Z' }
  const operation = anOperation({ kind: 'volume.discard', subject: 'db', payload })
  await t.core.catalog.write(beginOperation(operation), noteFailure(operation.id, { code: 'INTERNAL', message: 'no' }))
  await using next = await t.restart()
  await next.recover()
  expect([contents(next), next.trash.list(), next.core.catalog.runningOperations()]).toEqual([
    ['db false second'],
    [],
    [],
  ])
})

test('a purge does not delete what is out of the trash again', async () => {
  await using t = await coreWithVolume()
  const payload = { id: volumeOf(t).id, deletedAt: '2026-01-01T00:00:00.000Z' }
  await using next = await crashIn(t, 'volume.delete', 'db', payload)
  expect([next.ended, contents(next)]).toEqual(['interrupted', ['db false second']])
})

test('what fails to recover keeps its volume out of reach, and is tried again', async () => {
  await using t = await coreWithVolume()
  const operation = anOperation({
    kind: 'volume.resize',
    subject: 'db',
    payload: { id: volumeOf(t).id, size: 2 ** 31 },
  })
  await t.core.catalog.write(beginOperation(operation))
  await using next = await t.restart()
  next.driver.fail('resize.resize', new AppError('FAILED_PRECONDITION', 'the storage is read-only'))
  await next.recover(50)
  expect(next.logged.join()).toMatch(/stays out of reach.*read-only/)
  await expect(next.core.locks.with(['mount:db'], 'x', async () => 1, 5)).rejects.toThrow('is being recovered')
  await vi.waitFor(() => expect(next.core.catalog.operation(operation.id)?.state).toBe('done'))
  expect(await next.mounts.mount('db', 'id1')).toMatch(/mounts\/db$/)
})

describe('volume.restore is finished', () => {
  test.each([
    ['before', false],
    ['after', true],
  ])('%s the driver has brought it back', async (_, moved) => {
    await using t = await coreWithVolume()
    await t.volumes.remove('db')
    const [trashed] = t.core.catalog.trash()
    if (moved) for (const stored of t.driver.storage.values()) Object.assign(stored, { trashed: false, name: 'other' })
    const payload = { id: trashed?.id ?? '', name: 'other', deletedAt: trashed?.deletedAt ?? '' }
    await using next = await crashIn(t, 'volume.restore', 'other', payload)
    expect([next.ended, next.trash.list(), contents(next)]).toEqual(['done', [], ['other false second']])
    expect(next.volumes.list()).toEqual([expect.objectContaining({ name: 'other' })])
  })

  test('unless it was restored, or restored and removed once more, since', async () => {
    await using t = await coreWithVolume()
    const old = { id: volumeOf(t).id, name: 'other', deletedAt: '2026-01-01T00:00:00.000Z' }
    await using live = await crashIn(t, 'volume.restore', 'other', old)
    expect([live.ended, contents(live)]).toEqual(['interrupted', ['db false second']])
    await live.volumes.remove('db')
    await using removed = await crashIn(live, 'volume.restore', 'other', old)
    expect([removed.ended, contents(removed), removed.volumes.list()]).toEqual(['interrupted', ['db true second'], []])
  })
})

test('volume.resize is finished', async () => {
  await using t = await coreWithVolume()
  await using next = await crashIn(t, 'volume.resize', 'db', { id: volumeOf(t).id, size: 2 ** 31 })
  expect([next.ended, volumeOf(next).size, [...next.driver.storage.values()][0]?.size]).toEqual([
    'done',
    2 ** 31,
    2 ** 31,
  ])
})

describe('snapshot.create', () => {
  test.each([
    ['undone before', false, 'interrupted', ['s1']],
    ['finished after', true, 'done', ['s1', 's2']],
  ] as const)('is %s the driver has made it', async (_, made, ended, names) => {
    await using t = await coreWithVolume()
    const createdAt = new Date().toISOString()
    const snapshot = aSnapshot(volumeOf(t), { name: 's2', state: null, createdAt })
    if (made) [...t.driver.storage.values()][0]?.snapshots.set(snapshot.id, 'whole')
    await using next = await crashIn(t, 'snapshot.create', 'db@s2', { snapshot: { ...snapshot }, paused: [] })
    expect([next.ended, next.snapshots.list().map(({ name }) => name)]).toEqual([ended, names])
    expect([...next.driver.storage.values()][0]?.snapshots.size).toBe(names.length)
  })

  test('and containers that were paused for it are unpaused, or named in the log', async () => {
    await using t = await coreWithVolume()
    const payload = { snapshot: { ...aSnapshot(volumeOf(t), { name: 's2', state: null }) }, paused: ['container-1'] }
    await using next = await crashIn(t, 'snapshot.create', 'db@s2', payload)
    expect(next.ended).toBe('interrupted')
    expect(next.logged.join()).toMatch(/docker unpause.*container-1/)
  })
})

describe('snapshot.delete is finished', () => {
  test.each([
    ['before', true],
    ['after', false],
  ])('%s the driver has deleted it', async (_, there) => {
    await using t = await coreWithVolume()
    const [snapshot] = t.core.catalog.allSnapshots()
    if (!there) [...t.driver.storage.values()][0]?.snapshots.clear()
    const payload = { volumeId: volumeOf(t).id, snapshotId: snapshot?.id ?? '', name: 's1' }
    await using next = await crashIn(t, 'snapshot.delete', 'db@s1', payload)
    expect([next.ended, next.snapshots.list(), [...next.driver.storage.values()][0]?.snapshots.size]).toEqual([
      'done',
      [],
      0,
    ])
  })

  test('but not another of that name', async () => {
    await using t = await coreWithVolume()
    const payload = { volumeId: volumeOf(t).id, snapshotId: 'an-older-one', name: 's1' }
    await using next = await crashIn(t, 'snapshot.delete', 'db@s1', payload)
    expect([next.ended, next.snapshots.list().length]).toEqual(['interrupted', 1])
  })
})

test('snapshot.revert is finished', async () => {
  await using t = await coreWithVolume()
  await using next = await crashIn(t, 'snapshot.revert', 'db@s1', { volumeId: volumeOf(t).id, snapshotName: 's1' })
  expect([next.ended, contents(next)]).toEqual(['done', ['db false first']])
})

describe('what cannot be recovered stays open, is logged, and keeps nobody from the volume', () => {
  const hopeless: [string, string, Json, RegExp][] = [
    ['a kind of another program', 'volume.polish', {}, /entry of kind volume.polish that this program cannot read/],
    ['a damaged entry', 'volume.resize', null, /could not recover/],
    [
      'a driver that is not started any more',
      'volume.create',
      { volume: { ...aVolume({ driver: 'nfs', state: null }) } },
      /'nfs' is not started/,
    ],
  ]
  test.each(hopeless)('%s', async (_, kind, payload, message) => {
    await using t = await coreWithVolume()
    await using next = await crashIn(t, kind, 'db', payload)
    expect(next.ended).toBe('running')
    expect(next.logged.join()).toMatch(message)
    expect(contents(next)).toEqual(['db false second'])
    expect(await next.mounts.mount('db', 'id1')).toMatch(/mounts\/db$/)
  })

  test('a volume whose record is damaged: it is not overwritten', async () => {
    await using t = await coreWithVolume()
    const { id } = volumeOf(t)
    const db = new Database(`${t.core.config.root}/catalog.db`)
    db.exec(`UPDATE volumes SET options = '{'`)
    db.close()
    const payload = { id, deletedAt: '2026-11-23T10:00:00.000Z', purgeAt: null }
    await using next = await crashIn(t, 'volume.discard', 'db', payload)
    expect([next.ended, volumeOf(next).damage, contents(next)]).toEqual([
      'running',
      expect.stringContaining('options'),
      ['db false second'],
    ])
  })
})

test('while it is being recovered a volume is out of reach, live or by its id in the trash; others are not', async () => {
  await using t = await coreWithVolume()
  await t.volumes.create({ name: 'web' })
  await t.volumes.remove('db')
  const [trashed] = t.core.catalog.trash()
  await t.core.catalog.write(beginOperation(anOperation({ kind: 'volume.delete', payload: { id: trashed?.id ?? '' } })))
  await using next = await t.restart()
  const gate = next.driver.block('deleteVolume')
  const recovered = next.recover()
  await gate.reached
  for (const key of ['volume:db', 'mount:db', `volume:~${trashed?.id}`]) {
    await expect(next.core.locks.with([key], 'x', async () => 1, 5)).rejects.toThrow(
      'volume db is being recovered after a crash',
    )
  }
  expect(await next.mounts.mount('web', 'id1')).toMatch(/mounts\/web$/)
  gate.open()
  await recovered
  await expect(next.trash.restore(trashed?.id ?? '', 'other')).rejects.toMatchObject({ code: 'NOT_FOUND' })
})

test('several operations of one volume are recovered in their order', async () => {
  await using t = await coreWithVolume()
  const { id } = volumeOf(t)
  for (const size of [2 ** 31, 2 ** 32]) {
    await t.core.catalog.write(beginOperation(anOperation({ kind: 'volume.resize', payload: { id, size } })))
  }
  await using next = await t.restart()
  await next.recover()
  expect([volumeOf(next).size, next.core.catalog.runningOperations()]).toEqual([2 ** 32, []])
})
