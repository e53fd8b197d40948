/** The trash: where removed volumes go, when they go for good, and that nothing is ever deleted that was brought back. */

import Database from 'better-sqlite3'
import { beforeEach, describe, expect, test, vi } from 'vitest'
import { AppError } from '../../../../src/errors.ts'
import { openCore, type TestCore } from '../../../support/core.ts'

const kernel = vi.hoisted(() => ({ uses: [] as { pid: number; mountpoint: string }[] }))
vi.mock(import('../../../../src/system/mount.ts'), async (original) => ({
  ...(await original()),
  usesOf: async () => kernel.uses,
}))
beforeEach(() => {
  kernel.uses = []
})

async function coreWithVolume(onRemove?: string, options: Parameters<typeof openCore>[0] = {}): Promise<TestCore> {
  const t = await openCore(options)
  await t.volumes.create({ name: 'db', onRemove, labels: { a: 'b' } })
  await t.snapshots.create('db', { name: 's1' })
  for (const stored of t.driver.storage.values()) stored.content = 'precious'
  return t
}

const contents = (t: TestCore): string[] =>
  [...t.driver.storage.values()].map(({ name, trashed, content }) => `${name} ${trashed} ${content}`)
const names = (t: TestCore): string[] => t.volumes.list().map(({ name }) => name)
const deletions = (t: TestCore): string[] => t.driver.calls.filter((call) => call.startsWith('deleteVolume'))

describe('remove', () => {
  test('trash: out of sight, and purged when trash-keep has passed', async () => {
    await using t = await coreWithVolume('trash', { trashKeepMs: 3_600_000 })
    await t.volumes.remove('db')
    const [trashed] = t.trash.list()
    expect(trashed).toMatchObject({ name: 'db', snapshots: 1 })
    expect(Date.parse(trashed?.purgeAt ?? '') - Date.parse(trashed?.deletedAt ?? '')).toBe(3_600_000)
    expect([names(t), t.mounts.list(), t.mounts.get('db')]).toEqual([[], [], undefined])
    await t.trash.purgeExpired()
    expect(contents(t)).toEqual(['db true precious'])
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 3_600_001 })
    await t.trash.purgeExpired().finally(() => vi.useRealTimers())
    expect([contents(t), t.trash.list()]).toEqual([[], []])
  })

  test('delete, or trash-keep 0: gone for good, soon', async () => {
    for (const t of [await coreWithVolume('delete'), await coreWithVolume('trash', { trashKeepMs: 0 })]) {
      await using core = t
      await core.volumes.remove('db')
      await vi.waitUntil(() => core.trash.list().length === 0)
      expect(contents(core)).toEqual([])
    }
  })

  test('a purge that fails then is logged, and done later', async () => {
    await using t = await coreWithVolume('delete')
    t.driver.fail('deleteVolume', new AppError('IN_USE', 'busy'))
    await t.volumes.remove('db')
    await vi.waitUntil(() => t.logged.some((line) => line.includes('busy')))
    expect(t.trash.list()).toHaveLength(1)
    await t.trash.purgeExpired()
    expect([contents(t), t.trash.list()]).toEqual([[], []])
  })

  test('retain: kept until somebody says otherwise', async () => {
    await using t = await coreWithVolume('retain')
    await t.volumes.remove('db')
    expect(t.trash.list()[0]?.purgeAt).toBeNull()
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 10 ** 12 })
    await t.trash.purgeExpired().finally(() => vi.useRealTimers())
    expect(await t.trash.empty([])).toEqual([])
    expect(contents(t)).toEqual(['db true precious'])
    expect(await t.trash.empty(['db'])).toEqual(['db'])
    expect(contents(t)).toEqual([])
  })

  test('with purge: gone for good before it is answered, whatever on-remove says', async () => {
    await using t = await coreWithVolume('retain')
    await t.volumes.remove('db', { purge: true })
    expect([contents(t), t.trash.list()]).toEqual([[], []])
    expect(t.phases.filter((phase) => phase.endsWith('committed')).slice(-2)).toEqual([
      'volume.discard committed',
      'volume.delete committed',
    ])
  })

  test('that fails leaves the volume as it was', async () => {
    await using t = await coreWithVolume()
    t.driver.fail('trash.discard', new AppError('INTERNAL', 'no'), true)
    await expect(t.volumes.remove('db')).rejects.toThrow('no')
    expect([names(t), contents(t)]).toEqual([['db'], ['db false precious']])
  })

  test('frees the name at once', async () => {
    await using t = await coreWithVolume()
    await t.volumes.remove('db')
    expect((await t.volumes.create({ name: 'db' })).existed).toBe(false)
    await t.volumes.remove('db')
    expect(t.trash.list().map(({ name }) => name)).toEqual(['db', 'db'])
  })

  test('by a driver without a trash deletes, but never what is to be retained', async () => {
    await using t = await openCore({ without: ['trash'] })
    await t.volumes.create({ name: 'gone' })
    await t.volumes.create({ name: 'kept', onRemove: 'retain' })
    await t.volumes.remove('gone')
    await expect(t.volumes.remove('kept')).rejects.toMatchObject({
      code: 'NOT_SUPPORTED',
      message: expect.stringContaining('--purge'),
    })
    expect([...t.driver.storage.values()].map(({ name }) => name)).toEqual(['kept'])
    await t.volumes.remove('kept', { purge: true })
    expect(t.driver.storage.size).toBe(0)
  })
})

describe('restore', () => {
  test('brings it back whole, snapshots and labels included', async () => {
    await using t = await coreWithVolume()
    const before = t.volumes.list()
    await t.volumes.remove('db')
    await t.trash.restore('db')
    expect([t.volumes.list(), t.trash.list(), contents(t)]).toEqual([before, [], ['db false precious']])
  })

  test('under another name, by name or id; of several the one deleted last', async () => {
    await using t = await coreWithVolume()
    await t.volumes.remove('db')
    const [first] = t.trash.list()
    await t.volumes.create({ name: 'db', labels: { second: 'yes' } })
    await expect(t.trash.restore(first?.id ?? '')).rejects.toMatchObject({
      code: 'ALREADY_EXISTS',
      message: expect.stringContaining('--as'),
    })
    await t.volumes.remove('db')
    expect(await t.trash.restore('db', 'newer')).toMatchObject({ name: 'newer', labels: { second: 'yes' } })
    expect(await t.trash.restore(first?.id ?? '', 'older')).toMatchObject({ name: 'older', labels: { a: 'b' } })
    expect(t.snapshots.list('older').map(({ name }) => name)).toEqual(['s1'])
    await expect(t.trash.restore('db')).rejects.toMatchObject({ code: 'NOT_FOUND' })
  })

  test('by an id is never mistaken for a volume that has the id as its name', async () => {
    await using t = await openCore()
    await t.volumes.create({ name: 'victim' })
    const { id } = t.core.catalog.volume('victim') ?? { id: '' }
    await t.volumes.remove('victim')
    await t.volumes.create({ name: id })
    await t.volumes.remove(id)
    await t.trash.restore('victim')
    expect(t.core.catalog.volume('victim')?.id).toBe(id)
  })

  test('to a name that cannot be is refused', async () => {
    await using t = await coreWithVolume()
    await t.volumes.remove('db')
    await expect(t.trash.restore('db', '../x')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
    expect(t.trash.list()).toHaveLength(1)
  })

  test('that fails leaves it in the trash, closed', async () => {
    await using t = await coreWithVolume()
    await t.volumes.remove('db')
    t.driver.fail('trash.restore', new AppError('INTERNAL', 'no'))
    await expect(t.trash.restore('db')).rejects.toThrow('no')
    expect([t.trash.list().length, contents(t), t.core.catalog.runningOperations()]).toEqual([
      1,
      ['db true precious'],
      [],
    ])
  })

  describe.each([[undefined], ['other']])('that cannot be written down (as %s)', (as) => {
    const name = as ?? 'db'

    async function unwritten(): Promise<TestCore> {
      const t = await coreWithVolume()
      await t.volumes.remove('db')
      const gate = t.driver.block('trash.restore')
      const restoring = t.trash.restore('db', as)
      await gate.reached
      vi.spyOn(t.core.catalog, 'write').mockRejectedValueOnce(new AppError('NO_SPACE', 'full'))
      gate.open()
      await expect(restoring).rejects.toMatchObject({ code: 'NO_SPACE' })
      return t
    }

    test('is finished by the next start', async () => {
      await using t = await unwritten()
      await using next = await t.restart()
      await next.recover()
      expect([names(next), next.trash.list(), contents(next)]).toEqual([[name], [], [`${name} false precious`]])
    })

    test('is finished by the same call, and not done again by a later start', async () => {
      await using t = await unwritten()
      await t.trash.restore('db', as)
      expect([names(t), contents(t)]).toEqual([[name], [`${name} false precious`]])
      await t.volumes.remove(name)
      await using next = await t.restart()
      await next.recover()
      expect([names(next), next.trash.list().length, contents(next)]).toEqual([[], 1, [`${name} true precious`]])
    })
  })
})

describe('what was brought back is never deleted', () => {
  test('by a purge that had chosen it before', async () => {
    await using t = await coreWithVolume()
    await t.volumes.remove('db')
    const [chosen] = t.core.catalog.trash()
    await t.trash.restore('db')
    if (chosen) await t.trash.purge(chosen)
    expect([names(t), contents(t), deletions(t)]).toEqual([['db'], ['db false precious'], []])
  })

  test('by one that waited for the restore to end', async () => {
    await using t = await coreWithVolume()
    await t.volumes.remove('db')
    const gate = t.driver.block('trash.restore')
    const restoring = t.trash.restore('db', 'other')
    await gate.reached
    const emptying = t.trash.empty(['db'])
    gate.open()
    await restoring
    await emptying
    expect([names(t), contents(t), deletions(t)]).toEqual([['other'], ['other false precious'], []])
  })

  test('by one that had chosen it before it was removed once more', async () => {
    await using t = await coreWithVolume()
    await t.volumes.remove('db')
    const [chosen] = t.core.catalog.trash()
    await t.trash.restore('db')
    await new Promise((resolve) => setTimeout(resolve, 2))
    await t.volumes.remove('db')
    if (chosen) await t.trash.purge(chosen)
    expect([t.trash.list().length, deletions(t)]).toEqual([1, []])
  })

  test('and what is being purged cannot be restored half-deleted', async () => {
    await using t = await coreWithVolume()
    await t.volumes.remove('db')
    const gate = t.driver.block('deleteVolume')
    const emptying = t.trash.empty(['db'])
    await gate.reached
    const restoring = t.trash.restore('db')
    gate.open()
    await emptying
    await expect(restoring).rejects.toMatchObject({ code: 'NOT_FOUND' })
  })
})

test('a damaged record stays as it is: neither restored, nor emptied, nor purged', async () => {
  await using t = await coreWithVolume('delete', { trashKeepMs: 0 })
  t.driver.fail('deleteVolume', new AppError('IN_USE', 'busy'))
  await t.volumes.remove('db')
  await vi.waitUntil(() => t.logged.length > 0)
  const db = new Database(`${t.core.config.root}/catalog.db`)
  db.exec(`UPDATE volumes SET options = '{'`)
  db.close()
  await expect(t.trash.restore('db')).rejects.toMatchObject({ code: 'CORRUPT' })
  await expect(t.trash.empty(['db'])).rejects.toMatchObject({ code: 'CORRUPT' })
  expect(await t.trash.empty([])).toEqual([])
  await t.trash.purgeExpired()
  expect([contents(t), deletions(t), t.trash.list().length]).toEqual([['db true precious'], ['deleteVolume db'], 1])
})

test('emptying nothing empties all that has a time; an unknown name is an error', async () => {
  await using t = await coreWithVolume()
  await t.volumes.create({ name: 'kept', onRemove: 'retain' })
  await t.volumes.create({ name: 'live' })
  for (const name of ['db', 'kept']) await t.volumes.remove(name)
  expect(await t.trash.empty([])).toEqual(['db'])
  expect([t.trash.list().map(({ name }) => name), names(t)]).toEqual([['kept'], ['live']])
  await expect(t.trash.empty(['live'])).rejects.toMatchObject({ code: 'NOT_FOUND' })
})
