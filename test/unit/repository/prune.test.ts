/** What prune removes, what it spares, and what backups beside it rely on. */

import { execFileSync } from 'node:child_process'
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import type { ObjectStore } from '../../../src/objectstore/objectstore.ts'
import { newId, objectName } from '../../../src/repository/layout.ts'
import { encodeManifest } from '../../../src/repository/manifest.ts'
import { openRepository, type Repository } from '../../../src/repository/repository.ts'
import { Seal } from '../../../src/repository/seal.ts'
import {
  about,
  aged,
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

describe('prune', () => {
  const graceMs = 3_600_000

  /** The repository as it is seen when all packs are older than the grace period. */
  function muchLater(store: ObjectStore): Promise<Repository> {
    return openRepository({ store: aged(store, 'packs/', 2 * graceMs), tools, graceMs })
  }
  test('deletes what nobody needs, in two steps, and nothing else', async () => {
    const { store, repository } = await newRepository()
    const root = someTree()
    const first = await backUp(repository, root)
    writeFileSync(join(root, 'a'), noise(3_000_000, 77))
    const second = await backUp(repository, root, first.id)
    await repository.deleteBackups([first.id])
    await repository.prune({ dryRun: false })
    await repository.prune({ dryRun: false })
    expect(describeTree(await restored(repository, second.id))).toBe(describeTree(root))
    await repository.deleteBackups([second.id])
    expect((await repository.prune({ dryRun: true })).condemned.packs).toBeGreaterThan(0)
    await repository.prune({ dryRun: false })
    await repository.prune({ dryRun: false })
    expect(await keys(store)).toEqual(['config'])
  })

  test('waits for the grace period, and spares what a backup needs again meanwhile', async () => {
    const { store, repository, reopen } = await newRepository({ graceMs })
    const root = someTree()
    const first = await backUp(repository, root)
    await repository.deleteBackups([first.id])
    expect((await (await muchLater(store)).prune({ dryRun: false })).condemned.packs).toBeGreaterThan(0)
    const before = await keys(store, 'packs/')
    expect((await repository.prune({ dryRun: false })).deleted.packs).toBe(0)
    expect(await keys(store, 'packs/')).toEqual(before)
    // A writer that began before the condemnation relies on the condemned packs: its manifest appears now.
    const seal = new Seal({ repositoryId: repository.config.id, masterKey: null })
    const { id, ...manifest } = first
    const late = objectName('manifests', newId('manifests'))
    await store.put(late, seal.sealObject('M', late, encodeManifest(manifest)))
    const impatient = await reopen({ graceMs: 0 })
    expect((await impatient.prune({ dryRun: false })).deleted.packs).toBe(before.length)
    expect(id).not.toBe(late)
    expect(describeTree(await restored(impatient, late.slice('manifests/'.length)))).toBe(describeTree(root))
    expect(await impatient.verify({ readData: true, backup: null })).toMatchObject({ problems: [], damaged: [] })
  })

  test('leaves alone what a backup has stored that is still being made', async () => {
    const { store, repository } = await newRepository({ graceMs })
    const root = someTree()
    const { id } = await backUp(repository, root)
    // Packs and indexes without a manifest: just what is there while a backup is made.
    await repository.deleteBackups([id])
    const nothing = { packs: 0, bytes: 0 }
    expect(await repository.prune({ dryRun: false })).toMatchObject({ condemned: nothing, deleted: nothing })
    expect(await backUp(repository, root)).toMatchObject({ added: 0 })
    expect(await keys(store, 'condemned/')).toEqual([])
  })

  test('a new backup does not rely on what is condemned', async () => {
    const { store, repository, reopen } = await newRepository({ graceMs })
    const root = someTree()
    const first = await backUp(repository, root)
    await repository.deleteBackups([first.id])
    await (await muchLater(store)).prune({ dryRun: false })
    const second = await backUp(repository, root)
    expect(second.added).toBeGreaterThan(500_000)
    const impatient = await reopen({ graceMs: 0 })
    await impatient.prune({ dryRun: false })
    expect(describeTree(await restored(impatient, second.id))).toBe(describeTree(root))
  })

  test.each(['files', 'a device'])('%s of which lists alone name what is condemned are read again', async (what) => {
    const { store, repository } = await newRepository({ graceMs })
    const root = scratch()
    const path = join(root, 'islands')
    writeIslands(path)
    // What was changed a moment before a backup is read again by the next.
    await pause(100)
    const device = { device: path, size: statSync(path).size, allocated: null, changed: [], about: about() }
    const back = (parent: string | null) =>
      what === 'files' ? backUp(repository, root, parent) : repository.backupBlock({ ...device, parent })
    const first = await back(null)
    expect(await back(first.id)).toMatchObject({ added: 0 })
    const [full = '', ...others] = await longestFirst(store)
    expect(others).not.toEqual([])
    await condemn(store, repository, [full])
    const second = await back(first.id)
    expect(second.added).toBeGreaterThan(7_000_000)
    await store.delete([full])
    if (what === 'files') return expect(describeTree(await restored(repository, second.id))).toBe(describeTree(root))
    const target = join(scratch(), 'image')
    writeFileSync(target, '')
    await repository.restoreBlock({ backup: second.id, target, isZeroed: false })
    expect(readFileSync(target).equals(readFileSync(path))).toBe(true)
  })

  test('packs that are mostly waste are copied together', async () => {
    const { store, repository } = await newRepository()
    const root = scratch()
    for (let i = 0; i < 20; i++) writeFileSync(join(root, `f${i}`), noise(100_000, i + 1))
    const first = await backUp(repository, root)
    execFileSync('bash', ['-c', 'rm "$1"/f?', 'bash', root])
    const second = await backUp(repository, root, first.id)
    await repository.deleteBackups([first.id])
    const size = async () =>
      (await Promise.all((await keys(store, 'packs/')).map((key) => store.get(key)))).reduce(
        (sum, { length }) => sum + length,
        0,
      )
    const before = await size()
    await repository.prune({ dryRun: false })
    await repository.prune({ dryRun: false })
    expect(await size()).toBeLessThan(before * 0.6)
    expect(describeTree(await restored(repository, second.id))).toBe(describeTree(root))
  })

  test('packs of very small chunks are no waste for their directories', async () => {
    const { repository } = await newRepository()
    const root = scratch()
    for (let i = 0; i < 2_000; i++) writeFileSync(join(root, `f${i}`), `${i}`)
    const { id } = await backUp(repository, root)
    expect(await repository.prune({ dryRun: false })).toMatchObject({ copied: 0, condemned: { packs: 0 } })
    expect(await repository.verify({ readData: true, backup: id })).toMatchObject({ problems: [], damaged: [] })
  })

  test('one at a time; a lease that has died holds nobody up', async () => {
    const { store, repository } = await newRepository()
    const seal = new Seal({ repositoryId: repository.config.id, masterKey: null })
    const name = objectName('leases', newId('leases'))
    await store.put(name, seal.sealObject('L', name, Buffer.from('{"holder":"00","host":"other"}')))
    await expect(repository.prune({ dryRun: false })).rejects.toMatchObject({ code: 'ABORTED' })
    const later = await openRepository({ store: aged(store, name, 6 * 60_000), tools, graceMs: 0 })
    await later.prune({ dryRun: false })
    expect(await keys(store, 'leases/')).toEqual([])
  })
})
