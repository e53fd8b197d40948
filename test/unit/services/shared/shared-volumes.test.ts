/** Volumes on storage that two nodes use at once: what one does, the other shows; neither changes what the other is changing. */

import { beforeEach, describe, expect, test, vi } from 'vitest'
import { Catalog } from '../../../../src/catalog/catalog.ts'
import type { Change } from '../../../../src/catalog/changes.ts'
import { AppError } from '../../../../src/errors.ts'
import { type CoreOptions, openCore, type TestCore } from '../../../support/core.ts'
import { FakeShare } from '../../../support/fake-share.ts'
import { aVolume } from '../../../support/nouns.ts'

const kernel = vi.hoisted(() => ({ uses: [] as { pid: number; mountpoint: string }[] }))
vi.mock(import('../../../../src/system/mount.ts'), async (original) => ({
  ...(await original()),
  usesOf: async () => kernel.uses,
}))
beforeEach(() => {
  kernel.uses = []
})

interface Bed {
  readonly share: FakeShare
  readonly a: TestCore
  readonly b: TestCore
}

async function openBed(options: CoreOptions = {}): Promise<Bed> {
  const share = new FakeShare()
  const node = (name: string) => openCore({ ...options, share: { at: share, node: name } })
  return { share, a: await node('a'), b: await node('b') }
}

const names = (t: TestCore): string[] => t.volumes.list().map(({ name }) => name)
const stored = ({ share }: Bed): string[] =>
  [...share.storage.values()].map(({ name, trashed }) => `${name} ${trashed}`)
const snapshots = (t: TestCore): string[] => t.snapshots.list().map(({ volume, name }) => `${volume}@${name}`)

/** Expects a call to fail with a code and a text. */
async function refuses(work: Promise<unknown>, code: string, text: string): Promise<void> {
  await expect(work).rejects.toMatchObject({ code, message: expect.stringContaining(text) })
}

describe('what one node does, the other shows', () => {
  test('volumes, snapshots, hooks, sizes, the trash and its end', async () => {
    const { a, b, share } = await openBed()
    await a.volumes.create({ name: 'db', labels: { env: 'prod' }, size: '1G' })
    await vi.waitUntil(() => names(b).includes('db'))
    expect(b.volumes.list()[0]).toEqual({ ...a.volumes.list()[0] })
    await a.snapshots.create('db', { name: 's1' })
    await b.snapshots.create('db', { name: 's2' })
    await vi.waitUntil(() => snapshots(a).length === 2 && snapshots(b).length === 2)
    expect(snapshots(a)).toEqual(snapshots(b))
    await b.snapshots.remove('db', 's1')
    await b.volumes.resize('db', '2G')
    await a.volumes.update('db', { preSnapshot: 'true' })
    await vi.waitUntil(() => snapshots(a).length === 1 && b.volumes.list()[0]?.hooks.pre === 'true')
    expect([a.volumes.list()[0]?.size, b.volumes.list()[0]?.size]).toEqual([2 * 2 ** 30, 2 * 2 ** 30])
    await b.volumes.remove('db')
    await vi.waitUntil(() => a.trash.list().length === 1)
    expect([names(a), a.trash.list()]).toEqual([[], b.trash.list()])
    await a.trash.restore('db', 'db2')
    await vi.waitUntil(() => names(b).includes('db2'))
    expect([b.trash.list(), snapshots(b)]).toEqual([[], ['db2@s2']])
    await a.volumes.remove('db2', { purge: true })
    await vi.waitUntil(() => names(b).length + b.trash.list().length === 0)
    expect([a.trash.list(), share.storage.size, share.records.size]).toEqual([[], 0, 0])
  })

  test('every change is made in a turn for the name', async () => {
    const { a, share } = await openBed()
    await a.volumes.create({ name: 'db' })
    await a.snapshots.create('db', { name: 's1' })
    await a.volumes.create({ name: 'copy', fromSnapshot: 'db@s1' })
    await a.snapshots.revert('db', 's1')
    await a.volumes.resize('db', '1G')
    await a.volumes.trim(['db'])
    await a.volumes.update('db', { preSnapshot: 'true' })
    await a.snapshots.remove('db', 's1')
    await a.volumes.remove('db')
    const id = a.trash.list()[0]?.id
    await a.trash.restore('db')
    await a.volumes.remove('db', { purge: true })
    const clone = ['copy a', 'db a']
    const [one, rest] = [['db a', 'db a'], Array.from({ length: 6 }, () => 'db a')]
    expect(share.turns).toEqual([...one, ...clone, ...rest, `${id} a`, 'db a', 'db a', `${id} a`])
  })

  test('a volume that was made a moment ago is found by its name, told of or not', async () => {
    const { a, b, share } = await openBed()
    share.keepQuiet()
    for (const name of ['got', 'mounted', 'shown', 'kept', 'made']) await a.volumes.create({ name })
    expect(b.mounts.get('got')).toBeUndefined()
    expect(await b.mounts.find('got')).toMatchObject({ name: 'got', status: { status: 'ok' } })
    expect(await b.mounts.mount('mounted', 'id')).toContain('mounted')
    expect(await b.volumes.inspect('shown')).toMatchObject({ name: 'shown', status: 'ok', scope: 'global' })
    await b.snapshots.create('kept', { name: 's' })
    expect(await b.volumes.create({ name: 'made' })).toMatchObject({ existed: true })
    expect(await b.mounts.find('neither')).toBeUndefined()
    expect(await b.mounts.find('no/name')).toBeUndefined()
  })

  test('what a node has missed while it was away, it learns from the next listing', async () => {
    const { a, b, share } = await openBed()
    for (const name of ['stays', 'goes', 'trashed']) await a.volumes.create({ name })
    await a.snapshots.create('stays', { name: 's1' })
    await vi.waitUntil(() => snapshots(b).length === 1)
    share.keepQuiet()
    await a.volumes.remove('goes', { purge: true })
    await a.volumes.remove('trashed')
    await a.volumes.create({ name: 'new' })
    await a.snapshots.remove('stays', 's1')
    expect(names(b)).toEqual(['stays', 'goes', 'trashed'])
    share.list()
    await vi.waitUntil(() => names(b).length === 2 && snapshots(b).length === 0 && b.trash.list().length === 1)
    expect([names(b), b.trash.list().map(({ name }) => name)]).toEqual([['stays', 'new'], ['trashed']])
  })

  test('a volume in the place of another: the old one keeps its snapshots in the trash', async () => {
    const { a, b, share } = await openBed()
    await a.volumes.create({ name: 'db' })
    await a.snapshots.create('db', { name: 'old' })
    await vi.waitUntil(() => snapshots(b).length === 1)
    share.keepQuiet()
    await a.volumes.remove('db')
    const { volume } = await a.volumes.create({ name: 'db', labels: { new: 'yes' } })
    share.list()
    await vi.waitUntil(() => b.volumes.list()[0]?.labels['new'] === 'yes')
    await vi.waitUntil(() => b.trash.list().length === 1)
    expect([b.volumes.list()[0], b.trash.list()[0]?.snapshots]).toEqual([volume, 1])
  })
})

describe('two nodes at one name', () => {
  test('made on both at once, it is one volume', async () => {
    const bed = await openBed()
    const made = await Promise.all([bed.a, bed.b].map((t) => t.volumes.create({ name: 'db' })))
    expect(made.map(({ existed }) => existed).sort()).toEqual([false, true])
    expect(stored(bed)).toEqual(['db false'])
    expect(bed.a.core.catalog.volume('db')?.id).toBe(bed.b.core.catalog.volume('db')?.id)
  })

  test('asked for otherwise than it is there, it is refused', async () => {
    const { a, b, share } = await openBed()
    share.keepQuiet()
    await a.volumes.create({ name: 'db', options: { colour: 'red' } })
    await refuses(b.volumes.create({ name: 'db', options: { colour: 'blue' } }), 'ALREADY_EXISTS', 'colour is red')
  })

  test('a name whose turn another node has, is said to be its', async () => {
    const { a, share } = await openBed()
    await a.volumes.create({ name: 'db' })
    share.holdTurn('db', 'b')
    share.waitMs = 50
    await refuses(a.snapshots.create('db', {}), 'ABORTED', 'node b is changing db')
  })

  test('it is not removed while the other node mounts it, which inspect shows', async () => {
    const { a, b } = await openBed()
    await a.volumes.create({ name: 'db' })
    await b.mounts.mount('db', 'id')
    await refuses(a.volumes.remove('db'), 'IN_USE', 'node b')
    expect(await a.volumes.inspect('db')).toMatchObject({ nodes: [{ name: 'b', alive: true }], mounts: [] })
    expect(a.mounts.get('db')?.status).toMatchObject({ nodes: ['b'], mounts: 0 })
    await b.mounts.unmount('db', 'id')
    await a.volumes.remove('db')
  })

  test('what the other has put into the trash is neither changed nor said to be there', async () => {
    const { a, b, share } = await openBed()
    await a.volumes.create({ name: 'db' })
    await vi.waitUntil(() => names(b).length === 1)
    share.keepQuiet()
    await a.volumes.remove('db')
    await refuses(b.snapshots.create('db', {}), 'NOT_FOUND', 'no such volume: db')
    expect(b.trash.list()).toEqual(a.trash.list())
    await a.trash.restore('db')
    expect(await b.trash.empty([b.trash.list()[0]?.id ?? ''])).toEqual(['db'])
    expect([names(b), share.storage.size]).toEqual([['db'], 1])
    await a.volumes.remove('db')
    share.list()
    await vi.waitUntil(() => b.trash.list().length === 1)
    await a.trash.restore('db', 'web')
    await b.trash.empty(['db'])
    expect([...share.storage.values()]).toMatchObject([{ name: 'web', trashed: false }])
  })
})

describe('storage that is away', () => {
  test('Get, List and inspect answer at once, degraded; what is there needs no creation', async () => {
    const { a, share } = await openBed()
    await a.volumes.create({ name: 'db' })
    share.setAway('no answer for 3 s')
    const detail = 'nas:/data does not answer: no answer for 3 s'
    expect(a.mounts.get('db')?.status).toMatchObject({ status: 'degraded', statusDetail: detail })
    expect(await a.volumes.inspect('db')).toMatchObject({ status: 'degraded', statusDetail: detail })
    expect([names(a), a.mounts.list()]).toMatchObject([['db'], [{ name: 'db' }]])
    expect(await a.volumes.create({ name: 'db' })).toMatchObject({ existed: true })
    expect(await a.mounts.find('other')).toBeUndefined()
    await refuses(a.volumes.create({ name: 'other' }), 'UNAVAILABLE', 'nas:/data')
    await refuses(a.mounts.mount('db', 'id'), 'UNAVAILABLE', 'nas:/data')
    share.setAway(null)
    expect((await a.volumes.inspect('db')).status).toBe('ok')
  })

  test('after a restart, before it has said what it has', async () => {
    const { a, share } = await openBed()
    await a.volumes.create({ name: 'db' })
    share.setAway('no route to host')
    const again = await a.restart()
    expect(again.mounts.get('db')?.status).toMatchObject({ status: 'degraded' })
    share.setAway(null)
    expect(again.mounts.get('db')?.status).toMatchObject({ status: 'ok' })
  })

  test('one that is empty all of a sudden is not believed: its disk may not be mounted', async () => {
    const { a, b, share } = await openBed()
    await a.volumes.create({ name: 'db' })
    await vi.waitUntil(() => names(b).length === 1)
    const all = new Map(share.storage)
    share.storage.clear()
    share.list()
    await vi.waitUntil(() => b.mounts.get('db')?.status['status'] === 'degraded')
    expect(b.volumes.list()[0]?.statusDetail).toContain('see that its disk is mounted')
    await refuses(b.volumes.create({ name: 'db' }), 'FAILED_PRECONDITION', 'its storage does not have it any more')
    for (const [id, volume] of all) share.storage.set(id, volume)
    share.list()
    await vi.waitUntil(() => b.mounts.get('db')?.status['status'] === 'ok')
  })

  test('what could not be undone while it was away is undone when it is back', async () => {
    const bed = await openBed()
    const { a, share } = bed
    await a.volumes.create({ name: 'db' })
    const [gate, discarding] = [a.driver.block('createVolume'), a.driver.block('trash.discard')]
    const making = a.volumes.create({ name: 'new' })
    const removing = a.volumes.remove('db')
    await Promise.all([gate.reached, discarding.reached])
    vi.spyOn(a.driver.shared as object as { publish(): Promise<void> }, 'publish').mockImplementation(async () => {
      share.setAway('no route to host')
      share.requireReach()
    })
    gate.open()
    discarding.open()
    await refuses(making, 'UNAVAILABLE', 'no route to host')
    await refuses(removing, 'UNAVAILABLE', 'no route to host')
    expect(a.core.operations.stranded()).not.toEqual([])
    vi.restoreAllMocks()
    share.setAway(null)
    await vi.waitUntil(() => a.core.operations.stranded().length === 0 && names(a).length === 1)
    expect([stored(bed), names(a), a.trash.list()]).toEqual([['db false'], ['db'], []])
  })

  test('a turn that is lost in the middle ends the work, and leaves nothing', async () => {
    const bed = await openBed()
    const gate = bed.a.driver.block('createVolume')
    const making = bed.a.volumes.create({ name: 'db' })
    await gate.reached
    bed.share.lose('db')
    await refuses(making, 'ABORTED', 'the turn for db is over')
    gate.open()
    expect([stored(bed), names(bed.a), names(bed.b)]).toEqual([[], [], []])
  })
})

describe('records and crashes', () => {
  test('a damaged record harms only itself', async () => {
    const { a, b, share } = await openBed()
    await a.volumes.create({ name: 'bad' })
    await a.volumes.create({ name: 'good' })
    await vi.waitUntil(() => names(b).length === 2)
    share.damaged.add('bad')
    share.list()
    expect(b.mounts.get('bad')?.status).toMatchObject({ status: 'degraded', statusDetail: 'its record cannot be read' })
    await refuses(b.volumes.remove('bad'), 'CORRUPT', 'its record cannot be read')
    await b.snapshots.create('good', { name: 's' })
    share.damaged.clear()
    share.list()
    expect(b.mounts.get('bad')?.status).toMatchObject({ status: 'ok' })
  })

  test('published before its node died: it stays, and the row of that node follows', async () => {
    const { a, b } = await openBed()
    vi.spyOn(a.core.catalog, 'write').mockImplementation(async (...changes: Change[]) => {
      if (changes.some(({ sql }) => sql.includes('INTO volumes'))) return new Promise(() => undefined)
      return Catalog.prototype.write.apply(a.core.catalog, changes)
    })
    void a.volumes.create({ name: 'db' })
    await vi.waitUntil(() => names(b).includes('db'))
    await b.mounts.mount('db', 'id')
    const again = await a.restart()
    await again.recover()
    expect([names(again), again.core.catalog.runningOperations()]).toEqual([['db'], []])
    expect(again.driver.calls.filter((call) => call.startsWith('deleteVolume'))).toEqual([])
  })

  test('made, but not published: the next life publishes it', async () => {
    const { a, b, share } = await openBed()
    const draft = aVolume({ state: null, driver: 'fake' })
    share.storage.set(draft.id, { name: 'db', size: null, trashed: false, content: 'x', snapshots: new Map() })
    await a.core.catalog.write({
      sql: `INSERT INTO operations (id, kind, subject, state, payload, started_at) VALUES (?, ?, ?, 'running', ?, ?)`,
      params: ['one', 'volume.create', 'db', JSON.stringify({ volume: draft }), draft.createdAt],
    })
    await a.recover()
    await vi.waitUntil(() => names(b).includes('db'))
    expect(b.core.catalog.volume('db')?.id).toBe(draft.id)
  })

  test('recovery waits for storage that is away', async () => {
    const { a, share } = await openBed()
    await a.volumes.create({ name: 'db' })
    const entry = { id: a.core.catalog.volume('db')?.id ?? '', size: 2 ** 30 }
    await a.core.catalog.write({
      sql: `INSERT INTO operations (id, kind, subject, state, payload, started_at) VALUES (?, ?, ?, 'running', ?, ?)`,
      params: ['one', 'volume.resize', 'db', JSON.stringify(entry), new Date().toISOString()],
    })
    share.setAway('no route to host')
    await a.recover(20)
    expect(a.core.catalog.operation('one')?.state).toBe('running')
    share.setAway(null)
    await vi.waitUntil(() => a.core.catalog.operation('one')?.state === 'done')
    expect([...share.records.values()][0]?.volume.size).toBe(2 ** 30)
  })

  test('a failure to publish undoes the creation', async () => {
    const bed = await openBed()
    vi.spyOn(bed.a.driver.shared as object as { publish(): Promise<void> }, 'publish').mockRejectedValueOnce(
      new AppError('NO_SPACE', 'the share is full'),
    )
    await refuses(bed.a.volumes.create({ name: 'db' }), 'NO_SPACE', 'the share is full')
    expect([stored(bed), names(bed.a)]).toEqual([[], []])
  })
})
