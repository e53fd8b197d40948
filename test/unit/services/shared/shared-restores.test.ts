/** Restores to shared storage: made in a turn, published when they are complete, and gone on with after a crash. */

import { expect, test, vi } from 'vitest'
import { contentOf, coreWithTarget, setContent } from '../../../support/backups.ts'
import { openCore, type TestCore } from '../../../support/core.ts'
import { FakeShare } from '../../../support/fake-share.ts'

interface Bed {
  readonly share: FakeShare
  readonly a: TestCore
  readonly b: TestCore
  /** Of `db`, which holds `second` by now: it holds `first`. */
  readonly backup: string
}

async function openBed(): Promise<Bed> {
  const share = new FakeShare()
  const a = await coreWithTarget({ share: { at: share, node: 'a' } })
  const b = await openCore({ share: { at: share, node: 'b' } })
  const { id } = await a.backups.create({ volume: 'db', to: { at: 't' } })
  setContent(a, 'db', 'second')
  return { share, a, b, backup: `t/${id}` }
}

const names = (t: TestCore): string[] => t.volumes.list().map(({ name }) => name)

test('a new volume shows on other nodes when it is complete, and its name is taken before', async () => {
  const { share, a, b, backup } = await openBed()
  const gate = a.driver.block('mount')
  const restoring = a.backups.restore({ from: { backup }, to: 'new' })
  await gate.reached
  share.waitMs = 50
  expect(await b.mounts.find('new')).toBeUndefined()
  await expect(b.volumes.create({ name: 'new' })).rejects.toMatchObject({
    code: 'ABORTED',
    message: expect.stringContaining('node a is changing new'),
  })
  gate.open()
  await restoring
  await vi.waitUntil(() => names(b).includes('new'))
  expect([contentOf(b, 'new'), contentOf(b, 'db')]).toEqual(['first', 'second'])
})

test('in place: the snapshot of what was there shows on other nodes, too', async () => {
  const { a, b, backup } = await openBed()
  await a.backups.restore({ from: { backup }, to: 'db', inPlace: true })
  await vi.waitUntil(() => b.snapshots.list('db').length === 1)
  expect(b.snapshots.list('db')[0]?.name).toMatch(/^before-restore-/)
  expect([contentOf(b, 'db'), names(b)]).toEqual(['first', ['db']])
})

test('in place: refused at once while another node mounts the volume', async () => {
  const { a, b, share, backup } = await openBed()
  await vi.waitUntil(() => names(b).includes('db'))
  await b.mounts.mount('db', 'id')
  await expect(a.backups.restore({ from: { backup }, to: 'db', inPlace: true })).rejects.toMatchObject({
    code: 'IN_USE',
    message: expect.stringContaining('node b'),
  })
  expect([contentOf(b, 'db'), b.snapshots.list('db'), share.storage.size]).toEqual(['second', [], 1])
})

test('interrupted, it is gone on with by the next life of its node', async () => {
  const { a, b, backup } = await openBed()
  const gate = a.driver.block('createVolume')
  const restoring = a.backups.restore({ from: { backup }, to: 'new' })
  await gate.reached
  await Promise.all([a.core.operations.stop(1_000), expect(restoring).rejects.toMatchObject({ code: 'UNAVAILABLE' })])
  const again = await a.restart()
  await again.recover()
  await vi.waitUntil(() => names(b).includes('new'))
  expect(contentOf(again, 'new')).toBe('first')
})
