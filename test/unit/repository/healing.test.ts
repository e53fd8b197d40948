/** What is lost or altered in a store is found, relied on by nobody, and whole again after the next backup of the same data. */

import { closeSync, mkdirSync, openSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { ObjectStore } from '../../../src/objectstore/objectstore.ts'
import {
  backUp,
  describeTree,
  keys,
  longestFirst,
  newRepository,
  noise,
  restored,
  scratch,
  type TestRepository,
} from './support.ts'

const whole = { problems: [], damaged: [] }
const every = { readData: true, backup: null }
const plain = { readData: false, backup: null }

async function flip(store: ObjectStore, key: string, at: number): Promise<void> {
  const bytes = new Uint8Array(await store.get(key))
  const index = at < 0 ? bytes.length + at : at
  await store.put(key, bytes.with(index, (bytes[index] ?? 0) ^ 4))
}

/** Files, one of them with holes and so with a list of chunks. */
function someTree(): string {
  const root = scratch()
  for (const name of ['a', 'b', 'c']) writeFileSync(join(root, name), noise(200_000, name.charCodeAt(0)))
  mkdirSync(join(root, 'd'))
  writeFileSync(join(root, 'd/small'), 'small')
  const fd = openSync(join(root, 'd/islands'), 'w')
  for (let i = 0; i < 24; i++) writeSync(fd, noise(4096, 100 + i), 0, 4096, i * 2 ** 18)
  closeSync(fd)
  return root
}

async function expectHealed({ store, repository, reopen }: TestRepository, root: string, first: string): Promise<void> {
  const second = await backUp(repository, root, first)
  expect(await repository.verify(every)).toMatchObject(whole)
  for (const id of [first, second.id]) expect(describeTree(await restored(repository, id))).toBe(describeTree(root))
  expect(await backUp(repository, root, second.id)).toMatchObject({ added: 0, parent: second.id })
  const impatient = await reopen({ graceMs: 0 })
  for (let i = 0; i < 2; i++) await impatient.prune({ dryRun: false })
  expect(await keys(store, 'condemned/')).toEqual([])
  expect(await repository.verify(every)).toMatchObject(whole)
  for (const id of [first, second.id]) expect(describeTree(await restored(repository, id))).toBe(describeTree(root))
}

describe.each([
  ['plain', undefined],
  ['encrypted', 'secret'],
])('a %s repository', (_, passphrase) => {
  async function backedUp() {
    const place = await newRepository({ passphrase, graceMs: 3_600_000 })
    const root = someTree()
    const { id } = await backUp(place.repository, root)
    return { ...place, root, id, all: await longestFirst(place.store) }
  }

  test.each(['seen by a verify', 'that nobody has seen'])(
    'heals of a lost pack %s, whichever it is',
    async (seen) => {
      const { length } = (await backedUp()).all
      expect(length).toBeGreaterThan(1)
      for (let i = 0; i < length; i++) {
        const { root, id, all, ...place } = await backedUp()
        await place.store.delete([all[i] ?? ''])
        if (seen === 'seen by a verify') {
          expect((await place.repository.verify(plain)).damaged).toMatchObject([{ id }])
          expect((await place.repository.verify(plain)).problems).toMatchObject([{ object: all[i] }])
        }
        await expectHealed(place, root, id)
      }
    },
    300_000,
  )

  test('heals of a flipped byte in contents that a verify has found', async () => {
    const { root, id, all, ...place } = await backedUp()
    await flip(place.store, all[0] ?? '', 1000)
    expect((await place.repository.verify(every)).damaged).toMatchObject([{ id }])
    // What was found stays known: a verify that reads little says the same.
    expect((await place.repository.verify(plain)).damaged).toMatchObject([{ id }])
    expect(await keys(place.store, 'condemned/')).toHaveLength(1)
    await expectHealed(place, root, id)
  }, 180_000)

  test('heals of a flipped byte in the tree that a plain verify has found', async () => {
    const { root, id, all, ...place } = await backedUp()
    await flip(place.store, all.at(-1) ?? '', 40)
    expect((await place.repository.verify(plain)).damaged).toMatchObject([{ id }])
    await expectHealed(place, root, id)
  }, 180_000)

  test('keeps the rest of a pack whose directory is damaged, and repairs without loss', async () => {
    const { root, id, all, ...place } = await backedUp()
    for (const key of all) await flip(place.store, key, -30)
    expect((await place.repository.verify(every)).problems).toHaveLength(all.length)
    const repaired = await place.repository.repair({ readData: false })
    expect(repaired).toMatchObject({ packs: 0, lostChunks: 0 })
    expect(repaired.leftOut).toHaveLength(all.length)
    expect(await place.repository.verify(every)).toMatchObject(whole)
    await expectHealed(place, root, id)
  }, 180_000)

  test('a plain repair tells what is lost of the tree, of what a verify has found, and of a pack that is gone', async () => {
    const { repository, store, all, id } = await backedUp()
    await flip(store, all.at(-1) ?? '', 40)
    expect(await repository.repair({ readData: false })).toMatchObject({ lostChunks: 1 })
    expect(await repository.damagedBackups()).toEqual(new Set([id]))
    await flip(store, all[0] ?? '', 1000)
    expect((await repository.verify(every)).damaged).toMatchObject([{ id }])
    expect(await repository.repair({ readData: false })).toMatchObject({ lostChunks: 2 })
    const other = await backedUp()
    await other.store.delete([other.all[0] ?? ''])
    expect((await other.repository.repair({ readData: false })).lostChunks).toBeGreaterThan(2)
    expect(await other.repository.damagedBackups()).toEqual(new Set([other.id]))
  }, 180_000)

  test('a verify of one backup says nothing of what others lack', async () => {
    const { repository, store, all, id } = await backedUp()
    const root = scratch()
    writeFileSync(join(root, 'other'), noise(100_000, 99))
    const other = await backUp(repository, root, null, 'other')
    await store.delete([all[0] ?? ''])
    expect(await repository.verify({ readData: true, backup: other.id })).toMatchObject({ backups: 1, ...whole })
    expect((await repository.verify({ readData: true, backup: id })).damaged).toMatchObject([{ id }])
  })

  test('a pack that was cut off counts as lost', async () => {
    const { root, id, all, ...place } = await backedUp()
    await place.store.put(all[0] ?? '', (await place.store.get(all[0] ?? '')).subarray(0, 500))
    await expectHealed(place, root, id)
  }, 180_000)

  test('flipped bits in condemnations, marks and leases do no harm', async () => {
    const { root, id, all, ...place } = await backedUp()
    const { store, repository, reopen } = place
    await flip(store, all[0] ?? '', 1000)
    await repository.verify(every)
    const [condemned = ''] = await keys(store, 'condemned/')
    const [mark = ''] = await keys(store, 'damaged/')
    const lease = `leases/${'ab'.repeat(16)}`
    await store.put(lease, Buffer.from('HFL\u0001 nothing'))
    await flip(store, condemned, 30)
    await flip(store, mark, 30)
    expect(await repository.damagedBackups()).toEqual(new Set([id]))
    await expect(restored(repository, id)).rejects.toMatchObject({ code: 'CORRUPT' })
    const { problems, damaged } = await repository.verify(every)
    expect(problems.map(({ object }) => object).sort()).toEqual([condemned, all[0]].sort())
    expect(damaged).toMatchObject([{ id }])
    await expect(repository.prune({ dryRun: false })).rejects.toMatchObject({ code: 'ABORTED' })
    await store.delete([lease])
    await backUp(repository, root, id)
    expect(describeTree(await restored(repository, id))).toBe(describeTree(root))
    await (await reopen({ graceMs: 0 })).prune({ dryRun: false })
    expect(await keys(store, 'condemned/')).not.toContain(condemned)
    expect(await repository.verify(every)).toMatchObject(whole)
    expect(await keys(store, 'damaged/')).toEqual([])
  }, 180_000)
})
