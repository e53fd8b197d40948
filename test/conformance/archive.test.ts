/** The archive keeps what src/driver.ts says of it, with the real engine on the machine's own file system. */

import { existsSync } from 'node:fs'
import { appendFile, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createEngine, type Engine } from '../../src/engine/engine.ts'
import type { Bytes } from '../../src/model.ts'
import { Archive } from '../../src/services/backups/archive.ts'
import { context, makeScratch, removeScratch, sh, silent } from './driver-bed.ts'

let scratch: string
let engine: Engine
let directory: string
let archive: Archive
let count = 0

beforeEach(async () => {
  scratch = await makeScratch()
  directory = join(scratch, 'repository')
  engine = createEngine({ log: silent })
  archive = new Archive(engine, directory)
})

afterEach(async () => {
  await engine.stop()
  await removeScratch(scratch)
})

async function makeTree(name: string, files: number): Promise<string> {
  const root = join(scratch, name)
  await mkdir(root)
  for (let i = 0; i < files; i++) await sh('dd', 'if=/dev/urandom', `of=${join(root, `f${i}`)}`, 'bs=256K', 'count=1')
  return root
}

const copyOf = (group: string) => ({ id: `${group}-${++count}`, group })

async function expectRestored(id: string, root: string, by = archive): Promise<void> {
  const target = join(scratch, `restored-${++count}`)
  await mkdir(target)
  await by.restore(context(), id, target)
  await sh('diff', '-r', root, target)
}

const room = async (): Promise<Bytes> => Number.parseInt(await sh('du', '-s', '-B1', directory), 10)

test('is made when it is first used, for root alone, and not by a question', async () => {
  expect(await archive.find(context(), 'none')).toBeNull()
  await archive.delete(context(), ['none'])
  await archive.prune(context())
  await expect(archive.restore(context(), 'none', scratch)).rejects.toMatchObject({ code: 'NOT_FOUND' })
  expect(existsSync(directory)).toBe(false)
  await archive.save(context(), await makeTree('a', 1), copyOf('a'))
  expect((await sh('stat', '-c', '%a', directory)).trim()).toBe('700')
})

test('what a program wrote through mmap since the last copy is in the next', async () => {
  const root = await makeTree('a', 1)
  // SQLite writes its index of a write-ahead log, `db-shm`, in no other way.
  const db = new Database(join(root, 'db'))
  try {
    db.pragma('journal_mode = WAL')
    db.exec('CREATE TABLE t (x)')
    await archive.save(context(), root, copyOf('a'))
    for (let i = 0; i < 50; i++) db.exec(`INSERT INTO t VALUES (${i})`)
    const second = copyOf('a')
    await archive.save(context(), root, second)
    await expectRestored(second.id, root)
    db.exec('INSERT INTO t VALUES (50)')
    const third = copyOf('a')
    await archive.save(context(), root, third)
    await expectRestored(third.id, root)
  } finally {
    db.close()
  }
})

test('a copy costs what differs, is made once, and gives its room back', async () => {
  const root = await makeTree('a', 16)
  const [first, second] = [copyOf('a'), copyOf('a')]
  const { added } = await archive.save(context(), root, first)
  expect(added).toBeGreaterThan(4 * 2 ** 20)
  await writeFile(join(root, 'f0'), 'less')
  await appendFile(join(root, 'f1'), 'more')
  const differs = await archive.save(context(), root, second)
  expect(differs.added).toBeLessThan(added / 8)
  expect(await archive.save(context(), root, second)).toEqual(differs)
  // Another daemon's life finds the same.
  const later = new Archive(engine, directory)
  expect(await later.find(context(), second.id)).toEqual(differs)
  await expectRestored(second.id, root, later)
  const before = await room()
  await later.delete(context(), [first.id, 'none'])
  await later.delete(context(), [first.id])
  expect(await later.find(context(), first.id)).toBeNull()
  await expectRestored(second.id, root, later)
  await writeFile(join(root, 'f2'), '')
  const third = copyOf('a')
  await later.save(context(), root, third)
  await later.delete(context(), [second.id])
  await later.prune(context())
  expect(await room()).toBeLessThan(before)
  await expectRestored(third.id, root, later)
  await later.delete(context(), [third.id])
  await later.prune(context())
  expect(await room()).toBeLessThan(2 ** 20)
})

test('saves, restores, removals and prunes at once end well', async () => {
  const roots = await Promise.all(['a', 'b', 'c'].map((name) => makeTree(name, 8)))
  const firsts = roots.map((_, i) => copyOf(`g${i}`))
  await Promise.all(roots.map((root, i) => archive.save(context(), root, firsts[i] as { id: string; group: string })))
  const seconds = roots.map((_, i) => copyOf(`g${i}`))
  const work = roots.map(async (root, i) => {
    await writeFile(join(root, 'f0'), `changed ${i}`)
    await archive.delete(context(), [(firsts[i] as { id: string }).id])
    const pruned = archive.prune(context())
    await archive.save(context(), root, seconds[i] as { id: string; group: string })
    await pruned
    await expectRestored((seconds[i] as { id: string }).id, root)
  })
  await Promise.all(work)
  await archive.prune(context())
  for (const [i, root] of roots.entries()) await expectRestored((seconds[i] as { id: string }).id, root)
  expect(await room()).toBeLessThan(8 * 2 ** 20)
})

test('a prune gives way to a save, at whatever it was, and ends after it', async () => {
  const root = await makeTree('a', 8)
  let last = copyOf('a')
  await archive.save(context(), root, last)
  for (let round = 0; round < 3; round++) {
    const next = copyOf('a')
    await writeFile(join(root, 'f0'), `round ${round}`)
    await archive.delete(context(), [last.id])
    let isOver = false
    const pruned = archive.prune(context()).finally(() => (isOver = true))
    const leases = async () => (await sh('ls', join(directory, 'leases')).catch(() => '')) !== ''
    await expect.poll(async () => isOver || (await leases()), { interval: 1, timeout: 10_000 }).toBe(true)
    await archive.save(context(), root, next)
    await pruned
    await expectRestored(next.id, root)
    last = next
  }
  expect(await room()).toBeLessThan(3 * 2 ** 20)
})

test('what is cancelled leaves its reason, and the same call succeeds', async () => {
  const root = await makeTree('a', 40)
  const copy = copyOf('a')
  let cancelled = 0
  for (const delayMs of [0, 50, 300, 600]) {
    const reason = new Error('cancelled by the test')
    const controller = new AbortController()
    const timer = setTimeout(() => controller.abort(reason), delayMs)
    await archive.save(context(controller.signal), root, copy).catch((error: unknown) => {
      expect(error).toBe(reason)
      cancelled++
    })
    clearTimeout(timer)
  }
  expect(cancelled).toBeGreaterThan(0)
  await archive.save(context(), root, copy)
  await expectRestored(copy.id, root)
})

test('what has lost its copies says so', async () => {
  const root = await makeTree('a', 1)
  const copy = copyOf('a')
  await archive.save(context(), root, copy)
  await sh('rm', '-r', join(directory, 'manifests'))
  await mkdir(join(directory, 'manifests'))
  expect(await archive.find(context(), copy.id)).toBeNull()
  await expect(archive.restore(context(), copy.id, join(scratch, 'a'))).rejects.toMatchObject({ code: 'NOT_FOUND' })
  expect((await readFile(join(root, 'f0'))).length).toBe(2 ** 18)
})
