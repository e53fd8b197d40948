/**
 * A repository on S3 that fails, stalls, tears, lies and forgets: what went wrong on the way is tried again, what came back wrong is told, and nothing
 * that a listing forgot is lost. Every fault that is planted must have been met. Needs root, as backups do.
 */

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { ObjectStore } from '../../src/objectstore/objectstore.ts'
import { openObjectStore } from '../../src/objectstore/open.ts'
import { writeKeyFiles } from '../support/s3-keys.ts'
import { type S3Server, startS3Server } from '../support/s3-server.ts'
import { backUp, describeTree, liveOn, newRepository, noise, restored, scratch } from '../unit/repository/support.ts'

let server: S3Server
let opened: ObjectStore[]

beforeEach(async () => {
  opened = []
  server = await startS3Server({ pageSize: 3 })
})

afterEach(async () => {
  for (const store of opened) await store.close()
  await server.close()
})

async function open(): Promise<ObjectStore> {
  const store = await openObjectStore(`s3://${server.bucket}/p`, {
    endpoint: server.endpoint,
    keyFiles: writeKeyFiles(scratch(), server),
    timeoutMs: 700,
    retry: { firstWaitMs: 1, longestWaitMs: 10 },
  })
  opened.push(store)
  return store
}

function someTree(): string {
  const root = scratch()
  mkdirSync(join(root, 'inner'))
  for (let i = 0; i < 20; i++) writeFileSync(join(root, `inner/${i}`), noise(100_000 + i, i + 1))
  return root
}

const busy = { kind: 'fail', status: 503, code: 'SlowDown' } as const
const broken = { kind: 'fail', status: 500, code: 'InternalError' } as const

test('a whole life on a server without faults', async () => {
  await liveOn(await open())
})

test('a backup gets through refusals, stalls, torn and damaged uploads, lost answers and lies', async () => {
  const { repository } = await newRepository({ store: await open(), passphrase: 'secret' })
  server.plant(
    { on: 'put', key: /packs/, times: 2, effect: busy },
    { on: 'put', key: /packs/, effect: { kind: 'cut-upload', after: 1000 } },
    { on: 'put', key: /packs/, effect: { kind: 'damage-upload' } },
    { on: 'put', key: /packs/, effect: { kind: 'lie', keep: 100 } },
    { on: 'put', key: /packs/, effect: { kind: 'stall' } },
    { on: 'put', key: /packs/, effect: { kind: 'lie', keep: 'nothing' } },
    { on: 'put', key: /indexes/, effect: { kind: 'lie', keep: 'nothing' } },
    { on: 'put', key: /indexes/, effect: { kind: 'lose-answer' } },
    { on: 'put', key: /manifests/, effect: { kind: 'lose-answer' } },
    { on: 'put', key: /manifests/, effect: { kind: 'lie', keep: 10 } },
    { on: 'head', key: /packs/, effect: broken },
    { on: 'list', key: /indexes/, effect: busy },
    { on: 'list', key: /condemned/, effect: { kind: 'stall' } },
  )
  const root = someTree()
  const { id } = await backUp(repository, root)
  server.assertAllFaultsMet()
  expect(await repository.verify({ readData: true, backup: null })).toMatchObject({ problems: [], damaged: [] })
  expect((await repository.listBackups()).map((backup) => backup.id)).toEqual([id])
  expect(describeTree(await restored(repository, id))).toBe(describeTree(root))
})

test('a restore and a verify get through refusals, stalls and torn answers', async () => {
  const { repository } = await newRepository({ store: await open(), passphrase: 'secret' })
  const root = someTree()
  const { id } = await backUp(repository, root)
  const faults = [
    { on: 'get', key: /manifests/, effect: busy },
    { on: 'get', key: /indexes/, effect: { kind: 'cut-answer', after: 50 } },
    { on: 'get', key: /packs/, times: 2, effect: broken },
    { on: 'get', key: /packs/, effect: { kind: 'cut-answer', after: 20 } },
    { on: 'get', key: /packs/, effect: { kind: 'stall' } },
    { on: 'get', key: /packs/, effect: { kind: 'lose-answer' } },
    { on: 'list', key: /indexes/, effect: { kind: 'cut-answer', after: 30 } },
  ] as const
  server.plant(...faults)
  expect(describeTree(await restored(repository, id))).toBe(describeTree(root))
  server.assertAllFaultsMet()
  server.plant(...faults)
  expect(await repository.verify({ readData: true, backup: null })).toMatchObject({ problems: [], damaged: [] })
  server.assertAllFaultsMet()
})

test.each(['manifests', 'indexes', 'packs'])(
  'a bit of %s turned on the way is told and restores nothing wrong',
  async (what) => {
    const { repository } = await newRepository({ store: await open(), passphrase: 'secret' })
    const root = someTree()
    const { id } = await backUp(repository, root)
    server.plant({ on: 'get', key: new RegExp(what), effect: { kind: 'flip-bit' } })
    await expect(restored(repository, id)).rejects.toMatchObject({ code: 'CORRUPT' })
    server.assertAllFaultsMet()
    expect(describeTree(await restored(repository, id))).toBe(describeTree(root))
  },
)

test('a prune gets through refusals, lost answers and stalls', async () => {
  const { repository } = await newRepository({ store: await open() })
  const root = someTree()
  const first = await backUp(repository, root)
  for (let i = 0; i < 10; i++) writeFileSync(join(root, `inner/${i}`), noise(100_000, i + 50))
  const second = await backUp(repository, root, first.id)
  server.plant({ on: 'delete', effect: { kind: 'lose-answer' } })
  await repository.deleteBackups([first.id])
  server.plant(
    { on: 'put', key: /leases/, effect: { kind: 'lose-answer' } },
    { on: 'list', key: /manifests/, effect: busy },
    { on: 'list', key: /packs/, effect: { kind: 'stall' } },
    { on: 'put', key: /condemned/, effect: { kind: 'lie', keep: 'nothing' } },
  )
  await repository.prune({ dryRun: false })
  server.assertAllFaultsMet()
  server.plant(
    { on: 'get', key: /condemned/, effect: { kind: 'cut-answer', after: 5 } },
    { on: 'put', key: /indexes/, effect: { kind: 'lie', keep: 'nothing' } },
    { on: 'delete-many', effect: { kind: 'stall' } },
    { on: 'delete-many', effect: broken },
  )
  expect((await repository.prune({ dryRun: false })).deleted.packs).toBeGreaterThan(0)
  server.assertAllFaultsMet()
  expect(await repository.verify({ readData: true, backup: null })).toMatchObject({ problems: [], damaged: [] })
  expect(describeTree(await restored(repository, second.id))).toBe(describeTree(root))
})

test.each([
  ['a manifest', 'manifests', /manifests/],
  ['all indexes', 'indexes', /indexes/],
  ['all packs', 'packs', /packs/],
])('a listing that forgets %s in one prune loses nothing', async (_, folder, keys) => {
  const { repository } = await newRepository({ store: await open() })
  const root = someTree()
  const { id } = await backUp(repository, root)
  server.plant({ on: 'list', key: new RegExp(folder), effect: { kind: 'forget', keys } })
  await repository.prune({ dryRun: false }).catch((error: unknown) => {
    expect(error).toMatchObject({ code: 'FAILED_PRECONDITION' })
  })
  server.assertAllFaultsMet()
  await repository.prune({ dryRun: false })
  await repository.prune({ dryRun: false })
  expect(await repository.verify({ readData: true, backup: null })).toMatchObject({ problems: [], damaged: [] })
  expect(describeTree(await restored(repository, id))).toBe(describeTree(root))
})

test('a backup that is shown no index stores again what it does not see, or looks again, and is whole', async () => {
  const { repository } = await newRepository({ store: await open() })
  const root = someTree()
  const first = await backUp(repository, root)
  server.plant({ on: 'list', key: /indexes/, effect: { kind: 'forget', keys: /./ } })
  const second = await backUp(repository, root, first.id)
  server.assertAllFaultsMet()
  expect(await repository.verify({ readData: true, backup: null })).toMatchObject({ problems: [], damaged: [] })
  expect(describeTree(await restored(repository, second.id))).toBe(describeTree(root))
})

test('a server that stays away ends a backup with its name, in time', async () => {
  const { repository } = await newRepository({ store: await open() })
  server.plant({ on: 'put', key: /packs/, times: 10, effect: busy })
  await expect(backUp(repository, someTree())).rejects.toMatchObject({
    code: 'UNAVAILABLE',
    message: expect.stringMatching(/s3:\/\//),
  })
  server.assertAllFaultsMet()
  expect(await repository.listBackups()).toEqual([])
})
