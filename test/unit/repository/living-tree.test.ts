/** Trees whose names come to stand for other files while they are backed up, and trees of several file systems. Needs root, as backups do. */

import { execFileSync } from 'node:child_process'
import { linkSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { openMemoryStore } from '../../../src/objectstore/memory.ts'
import type { Tools } from '../../../src/repository/crew.ts'
import type { ReadContent } from '../../../src/repository/file-batches.ts'
import { LinkedReads, type NamedFile } from '../../../src/repository/linked-reads.ts'
import { PendingRecord } from '../../../src/repository/record-queue.ts'
import { initRepository } from '../../../src/repository/repository.ts'
import { SourceDirectory } from '../../../src/repository/source-file.ts'
import { statOf, type TreeStat } from '../../../src/repository/tree-record.ts'
import { backUp, describeTree, newRepository, restored, scratch, tools } from './support.ts'

/** A repository whose next backup finds that `act` has been done when it has met all names and read no file yet. */
async function actBetween(act: () => void) {
  let acted = false
  const exec: Tools['exec'] = (program, args, options) => {
    if (program === 'getfattr' && !acted) {
      acted = true
      act()
    }
    return tools.exec(program, args, options)
  }
  return await initRepository({ store: openMemoryStore(), tools: { exec } })
}

function contentsOf(root: string): Record<string, string> {
  return Object.fromEntries(readdirSync(root).map((name) => [name, readFileSync(join(root, name), 'utf8')]))
}

function write(root: string, name: string, text: string): void {
  writeFileSync(join(root, name), text)
}

test('names of one file keep its content when one of them is given to another file, or removed', async () => {
  const root = scratch()
  for (const name of ['replaced', 'removed', 'written']) {
    write(root, name, `old ${name}`)
    linkSync(join(root, name), join(root, `${name}-2`))
    linkSync(join(root, name), join(root, `${name}-3`))
  }
  await pause(50)
  const repository = await actBetween(() => {
    write(root, 'new', 'something else')
    renameSync(join(root, 'new'), join(root, 'replaced'))
    rmSync(join(root, 'removed'))
    write(root, 'written', 'new text')
  })
  const { id } = await backUp(repository, root)
  const target = await restored(repository, id)
  expect(contentsOf(target)).toEqual({
    replaced: 'something else',
    'replaced-2': 'old replaced',
    'replaced-3': 'old replaced',
    'removed-2': 'old removed',
    'removed-3': 'old removed',
    written: 'new text',
    'written-2': 'new text',
    'written-3': 'new text',
  })
  const links = (name: string) => statSync(join(target, name)).nlink
  expect(['replaced', 'replaced-2', 'removed-2'].map(links)).toEqual([1, 2, 2])
  expect(await repository.verify({ readData: true, backup: null })).toMatchObject({ problems: [] })
  await pause(50)
  const second = await backUp(repository, root, id)
  expect(describeTree(await restored(repository, second.id))).toBe(describeTree(root))
})

test('names that were linked just before the backup are linked after a restore', async () => {
  const root = scratch()
  for (let i = 0; i < 50; i++) {
    write(root, `a${i}`, `text ${i}`)
    linkSync(join(root, `a${i}`), join(root, `b${i}`))
  }
  const { repository } = await newRepository()
  const { id } = await backUp(repository, root)
  expect(describeTree(await restored(repository, id))).toBe(describeTree(root))
})

test('a name waits for the content of another only while both are certainly one file', () => {
  const root = scratch()
  write(root, 'file', 'text')
  const directory = SourceDirectory.open(root, root) as SourceDirectory
  const stat = statOf(statSync(join(root, 'file'), { bigint: true }))
  const aged = { ctimeNs: stat.ctimeNs - 10n ** 9n }
  const named = (more: Partial<TreeStat> = {}, isLinked = true): NamedFile => {
    const record = new PendingRecord(Buffer.from('file'), stat)
    const own = { ...stat, ...aged, ...more }
    return { record, directory, name: 'file', stat: own, isLinked, isSparse: false, former: undefined }
  }
  const links = new LinkedReads()
  const reading = links.begin(named())
  const further = named()
  expect(links.join(further)).toBe(true)
  expect(links.join(named({ ctimeNs: aged.ctimeNs + 1n }))).toBe(false)
  expect(links.join(named({ size: 5n }))).toBe(false)
  expect(links.join(named({}, false))).toBe(false)
  expect(links.join(named({ inode: stat.inode + 1n }))).toBe(false)
  const read: ReadContent = {
    content: { level: 0, references: Buffer.alloc(0) },
    profile: 1,
    changed: false,
    stat: undefined,
  }
  const taken: NamedFile[] = []
  links.end(reading, read, (file) => taken.push(file))
  expect(taken).toEqual([further])
  for (const other of [null, { ...read, changed: true }, { ...read, stat }]) {
    const again = links.begin(named())
    links.join(further)
    links.end(again, other, (file) => taken.push(file))
    expect(links.takeApart()).toEqual([further])
    directory.release()
  }
  expect(taken).toEqual([further])
  // Within a tick of the clock a ctime proves nothing.
  const now = { ctimeNs: BigInt(Date.now()) * 1_000_000n }
  links.begin(named(now))
  expect(links.join(named(now))).toBe(false)
  directory.release()
})

test('a tree with another file system in it is not backed up without it', async () => {
  const root = scratch()
  const inner = join(root, 'd/mounted')
  mkdirSync(inner, { recursive: true })
  const { repository } = await newRepository()
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1M', 'tmpfs', inner])
  try {
    write(inner, 'precious', 'x')
    await expect(backUp(repository, root)).rejects.toMatchObject({
      code: 'FAILED_PRECONDITION',
      message: expect.stringContaining("'d/mounted' in v is another file system"),
    })
    expect(await repository.listBackups()).toEqual([])
    // As a root of its own it is whole.
    expect(await backUp(repository, inner)).toMatchObject({ files: 2 })
  } finally {
    execFileSync('umount', [inner])
  }
  const { id } = await backUp(repository, root)
  expect(describeTree(await restored(repository, id))).toBe(describeTree(root))
})
