/** Jobs beside each other, met at the moments at which it matters: nothing that is whole is called damaged, nothing is relied on that goes. */

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as later } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { openMemoryStore } from '../../../src/objectstore/memory.ts'
import type { ObjectStore, StoredObject } from '../../../src/objectstore/objectstore.ts'
import { openRepository, type Repository } from '../../../src/repository/repository.ts'
import {
  backUp,
  condemn,
  describeTree,
  keys,
  longestFirst,
  newRepository,
  noise,
  restored,
  scratch,
  someTree,
  tools,
  writeIslands,
} from './support.ts'

/** A store in which `happens` has happened when the indexes have been listed for the first time, and not before. */
function interrupted(store: ObjectStore, happens: () => Promise<unknown>): ObjectStore {
  let met = false
  return {
    ...store,
    async *list(prefix, options) {
      const found: StoredObject[] = []
      for await (const object of store.list(prefix, options)) found.push(object)
      if (prefix === 'indexes/' && !met) {
        met = true
        await happens()
      }
      yield* found
    },
  }
}

const all = { readData: false, backup: null }

test.each([
  ['verify', (repository: Repository) => repository.verify(all)],
  ['prune', (repository: Repository) => repository.prune({ dryRun: false })],
] as const)('a %s does not miss what a backup needs that is made beside it', async (_, work) => {
  const { store, repository } = await newRepository({ graceMs: 3_600_000 })
  const root = someTree()
  await backUp(repository, root)
  let made = 0
  const happens = async () => {
    writeFileSync(join(root, 'new'), noise(300_000, 9))
    made = (await backUp(repository, root)).added
  }
  const slow = await openRepository({ store: interrupted(store, happens), tools, graceMs: 3_600_000 })
  const result = await work(slow)
  expect(made).toBeGreaterThan(300_000)
  if ('problems' in result) expect(result).toMatchObject({ backups: 1, problems: [], damaged: [] })
  expect(await keys(store, 'damaged/')).toEqual([])
  expect(await repository.verify(all)).toMatchObject({ backups: 2, problems: [], damaged: [] })
})

test('a verify finds what it needs when all indexes are replaced meanwhile', async () => {
  const { store, repository } = await newRepository()
  await backUp(repository, someTree())
  const before = await keys(store, 'indexes/')
  const happens = () => repository.repair({ readData: false })
  const slow = await openRepository({ store: interrupted(store, happens), tools, graceMs: 0 })
  expect(await slow.verify(all)).toMatchObject({ backups: 1, problems: [], damaged: [] })
  expect(await keys(store, 'indexes/')).not.toEqual(before)
})

test('a verify says nothing of a backup that is removed meanwhile, with its packs', async () => {
  const { store, repository } = await newRepository()
  const root = someTree()
  const { id } = await backUp(repository, root)
  const happens = async () => {
    await repository.deleteBackups([id])
    for (let i = 0; i < 2; i++) await repository.prune({ dryRun: false })
    expect(await keys(store, 'packs/')).toEqual([])
  }
  const slow = await openRepository({ store: interrupted(store, happens), tools, graceMs: 0 })
  expect((await slow.verify(all)).damaged).toEqual([])
  expect(await keys(store, 'damaged/')).toEqual([])
})

test('a long backup is not made when what it has stored was condemned meanwhile, and is when run again', async () => {
  const graceMs = 600
  const inner = openMemoryStore()
  const { repository } = await newRepository({ store: inner, graceMs })
  let isCondemned = false
  const store: ObjectStore = {
    ...inner,
    async put(key, data, options) {
      await inner.put(key, data, options)
      if (!key.startsWith('packs/') || isCondemned) return
      isCondemned = true
      await later(graceMs)
      await condemn(inner, repository, [key])
    },
  }
  const root = someTree()
  const slow = await openRepository({ store, tools, graceMs })
  await expect(backUp(slow, root)).rejects.toMatchObject({ code: 'ABORTED' })
  expect(await keys(inner, 'manifests/')).toEqual([])
  const { id } = await backUp(slow, root)
  const impatient = await openRepository({ store: inner, tools, graceMs: 0 })
  for (let i = 0; i < 2; i++) await impatient.prune({ dryRun: false })
  expect(describeTree(await restored(impatient, id))).toBe(describeTree(root))
  expect(await impatient.verify({ readData: true, backup: null })).toMatchObject({ problems: [], damaged: [] })
})

test('a backup relies on nothing that a repair has found lost, before anybody has verified', async () => {
  const { store, repository } = await newRepository({ graceMs: 3_600_000 })
  const root = scratch()
  writeIslands(join(root, 'islands'))
  await later(100)
  const first = await backUp(repository, root)
  const [full = ''] = await longestFirst(store)
  await store.delete([full])
  await repository.repair({ readData: false })
  // As if the repair had been killed before its end.
  await store.delete(await keys(store, 'damaged/'))
  const second = await backUp(repository, root, first.id)
  expect(second.added).toBeGreaterThan(7_000_000)
  expect(describeTree(await restored(repository, second.id))).toBe(describeTree(root))
  expect(await repository.verify({ readData: true, backup: null })).toMatchObject({ problems: [], damaged: [] })
})

test('equal files of which lists alone name what is condemned are read again once', async () => {
  const { store, repository } = await newRepository({ graceMs: 3_600_000 })
  const root = scratch()
  for (const name of ['one', 'two']) writeIslands(join(root, name))
  await later(100)
  const first = await backUp(repository, root)
  await condemn(store, repository, (await keys(store, 'packs/')).slice(0, -1))
  const second = await backUp(repository, root, first.id)
  expect(second.added).toBeLessThan(16_000_000)
  expect(describeTree(await restored(repository, second.id))).toBe(describeTree(root))
})
