/** Trees, from directory to repository and back. Needs root, as backups do. */

import { execFileSync } from 'node:child_process'
import {
  appendFileSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { openMemoryStore } from '../../../src/objectstore/memory.ts'
import type { ObjectStore } from '../../../src/objectstore/objectstore.ts'
import type { Tools } from '../../../src/repository/crew.ts'
import type { ListedFile } from '../../../src/repository/list-files.ts'
import { initRepository } from '../../../src/repository/repository.ts'
import {
  about,
  backUp,
  describeTree,
  makeHostileTree,
  newRepository,
  noise,
  restored,
  scratch,
  tools,
} from './support.ts'

describe.each([
  ['plain', undefined],
  ['encrypted', 'secret'],
])('a tree in a %s repository', (_, passphrase) => {
  test('comes back with all its attributes', async () => {
    const root = scratch()
    makeHostileTree(root)
    const before = describeTree(root)
    const { reopen } = await newRepository({ passphrase })
    const repository = await reopen()
    const backup = await backUp(repository, root)
    expect(describeTree(root)).toBe(before)
    expect(describeTree(await restored(repository, backup.id))).toBe(before)
    expect(backup.size).toBeGreaterThan(100 * 2 ** 30)
    expect(backup.changed).toBe(0)
  })

  test('is stored once: unchanged, in another volume, moved, by another host', async () => {
    const root = scratch()
    makeHostileTree(root)
    const { repository, reopen } = await newRepository({ passphrase })
    const first = await backUp(repository, root)
    const second = await backUp(await reopen(), root, first.id)
    expect(second).toMatchObject({ added: 0, root: first.root, files: first.files, size: first.size, parent: first.id })
    const other = await backUp(await reopen(), root, null, 'other')
    expect(other).toMatchObject({ added: 0, root: first.root })
    renameSync(join(root, 'd/large'), join(root, 'd/renamed'))
    const moved = await backUp(repository, root, second.id)
    expect(moved.added).toBeLessThan(100_000)
    expect(describeTree(await restored(repository, moved.id))).toBe(describeTree(root))
  })
})

test('a change costs about what has changed', async () => {
  const root = scratch()
  writeFileSync(
    join(root, 'base'),
    Buffer.concat(Array.from({ length: 8192 }, (_, i) => Buffer.concat([noise(2048, i + 1), Buffer.alloc(6144)]))),
  )
  writeFileSync(join(root, 'log'), noise(8_000_000))
  const { repository } = await newRepository()
  const first = await backUp(repository, root)
  execFileSync('bash', [
    '-c',
    'for i in 5 500 5000; do printf changed | dd of="$1/base" bs=8192 seek=$i conv=notrunc status=none; done',
    'bash',
    root,
  ])
  appendFileSync(join(root, 'log'), noise(1000, 9))
  const second = await backUp(repository, root, first.id)
  expect(second.added).toBeLessThan(3 * 70_000 + 4 * 2 ** 20)
  expect(describeTree(await restored(repository, second.id))).toBe(describeTree(root))
})

test('entries that were added, removed, replaced and renamed are seen', async () => {
  const root = scratch()
  for (const name of ['a', 'b', 'c', 'd']) mkdirSync(join(root, name, 'inner'), { recursive: true })
  for (const name of ['a', 'b', 'c', 'd']) writeFileSync(join(root, name, 'inner/file'), name)
  const { repository } = await newRepository()
  const first = await backUp(repository, root)
  rmSync(join(root, 'a'), { recursive: true })
  rmSync(join(root, 'b/inner'), { recursive: true })
  writeFileSync(join(root, 'b/inner'), 'now a file')
  renameSync(join(root, 'c'), join(root, 'aa'))
  mkdirSync(join(root, 'z'))
  rmSync(join(root, 'd/inner/file'))
  mkdirSync(join(root, 'd/inner/file'))
  const second = await backUp(repository, root, first.id)
  expect(describeTree(await restored(repository, second.id))).toBe(describeTree(root))
})

test('a file that was changed in the tick of the backup is looked at again', async () => {
  const root = scratch()
  writeFileSync(join(root, 'file'), 'text')
  const changedAt = statSync(join(root, 'file')).ctimeMs
  // Later than any tick: only the time of the backup can tell.
  await pause(100)
  let asked = 0
  const exec: Tools['exec'] = (program, args, options) => {
    if (program === 'getfattr') asked += args.filter((arg) => arg.endsWith('/file')).length
    return tools.exec(program, args, options)
  }
  const repository = await initRepository({ store: openMemoryStore(), tools: { exec } })
  const backUpAt = async (laterMs: number, parent: string | null) => {
    asked = 0
    const moment = new Date(changedAt + laterMs).toISOString()
    return (await repository.backupTree({ root, about: about('v', moment), parent })).id
  }
  const first = await backUpAt(5, null)
  expect(asked).toBe(1)
  const second = await backUpAt(90, first)
  expect(asked).toBe(1)
  await backUpAt(95, second)
  expect(asked).toBe(0)
})

test('progress counts what is read and what is not, up to the whole', async () => {
  const root = scratch()
  writeFileSync(join(root, 'large'), noise(60_000_000))
  writeFileSync(join(root, 'other'), noise(1_000_000))
  const memory = openMemoryStore()
  const slow: ObjectStore['put'] = async (...args) => {
    await pause(200)
    return memory.put(...args)
  }
  const { repository } = await newRepository({ store: { ...memory, put: slow } })
  const told: [number, number | null][] = []
  const args = { root, about: about(), parent: null }
  await repository.backupTree(args, { progress: (done, total) => void told.push([done, total]) })
  const between = told.filter(([done]) => done > 0 && done < 61_000_000)
  expect(between.length).toBeGreaterThan(0)
  expect(new Set(told.slice(1).map(([, total]) => total))).toEqual(new Set([61_000_000]))
  expect(told.map(([done]) => done)).toEqual(told.map(([done]) => done).sort((a, b) => a - b))
})

test('one path is restored with the directories above it, and nothing else', async () => {
  const root = scratch()
  makeHostileTree(root)
  const { repository } = await newRepository()
  const backup = await backUp(repository, root)
  const target = await restored(repository, backup.id, 'd/e')
  expect(execFileSync('find', ['.'], { cwd: target }).toString().trim().split('\n').sort()).toEqual([
    '.',
    './d',
    './d/e',
    './d/e/f',
    './d/e/large2',
    './d/e/second',
  ])
  expect(statSync(join(target, 'd/e'), { bigint: true }).mtimeNs).toBe(
    statSync(join(root, 'd/e'), { bigint: true }).mtimeNs,
  )
  await expect(restored(repository, backup.id, 'd/nowhere')).rejects.toMatchObject({ code: 'NOT_FOUND' })
  await expect(restored(repository, backup.id, '../x')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
})

test('many directories: any path is found, and the listing is complete', async () => {
  const root = scratch()
  for (let i = 0; i < 60; i++) {
    const directory = join(root, `dir-${i}`, 'sub')
    mkdirSync(directory, { recursive: true })
    for (let j = 0; j < 60; j++) writeFileSync(join(directory, `file-${j}-${'x'.repeat(120)}`), `${i} ${j}`)
  }
  const { repository } = await newRepository()
  const backup = await backUp(repository, root)
  const files: ListedFile[] = []
  await repository.listFiles({ backup: backup.id, path: '', recursive: true }, async (page) => void files.push(...page))
  expect(files.length).toBe(60 * 62 + 1)
  const inOne: ListedFile[] = []
  await repository.listFiles(
    { backup: backup.id, path: 'dir-37/sub', recursive: false },
    async (page) => void inOne.push(...page),
  )
  expect(inOne.length).toBe(61)
  const path = `dir-59/sub/file-7-${'x'.repeat(120)}`
  expect(readFileSync(join(await restored(repository, backup.id, path), path), 'utf8')).toBe('59 7')
})

test('more directories than a restore holds open come back with their attributes', async () => {
  const root = scratch('/dev/shm')
  for (let i = 0; i < 2100; i++) {
    mkdirSync(join(root, `d${i}/e`), { recursive: true })
    writeFileSync(join(root, `d${i}/e/f`), `${i}`)
    utimesSync(join(root, `d${i}`), 1e9, 1e9)
  }
  const { repository } = await newRepository()
  const { id } = await backUp(repository, root)
  expect(describeTree(await restored(repository, id, '', '/dev/shm'))).toBe(describeTree(root))
})

test('a cancelled backup leaves no backup, and the next one succeeds', async () => {
  const root = scratch()
  writeFileSync(join(root, 'file'), noise(60_000_000))
  const { repository } = await newRepository()
  const controller = new AbortController()
  const reason = new Error('enough')
  const running = repository.backupTree({ root, about: about(), parent: null }, { signal: controller.signal })
  setTimeout(() => controller.abort(reason), 250)
  await expect(running).rejects.toBe(reason)
  expect(await repository.listBackups()).toEqual([])
  const backup = await backUp(repository, root)
  expect(describeTree(await restored(repository, backup.id))).toBe(describeTree(root))
})
