/** Repositories that earlier versions wrote are still read, whole and right. */

import { cpSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { openDirStore } from '../../../src/objectstore/dir.ts'
import { openRepository } from '../../../src/repository/repository.ts'
import { goldenPassphrase, makeGoldenImage, makeGoldenTree } from '../../golden/tree.ts'
import { describeTree, restored, scratch, tools } from './support.ts'

test.each([
  ['plain', undefined],
  ['encrypted', goldenPassphrase],
])('version 1, %s', async (kind, passphrase) => {
  const directory = join(scratch(), 'repository')
  cpSync(fileURLToPath(new URL(`../../golden/repository-v1-${kind}`, import.meta.url)), directory, { recursive: true })
  const repository = await openRepository({ store: await openDirStore(directory), tools, passphrase })
  expect(await repository.verify({ readData: true, backup: null })).toMatchObject({
    backups: 3,
    problems: [],
    damaged: [],
  })
  const backups = await repository.listBackups()
  expect(backups.map(({ volume }) => volume).sort()).toEqual(['block', 'tree', 'tree'])
  expect(backups[0]).toMatchObject({
    host: 'golden',
    snapshot: 's1',
    labels: { made: 'once' },
    createdAt: '2026-11-23T04:00:00.000Z',
  })
  const root = scratch()
  makeGoldenTree(root)
  for (const { id } of backups.filter(({ kind: type }) => type === 'tree')) {
    expect(describeTree(await restored(repository, id))).toBe(describeTree(root))
  }
  const [image, target] = [join(scratch(), 'image'), join(scratch(), 'target')]
  makeGoldenImage(image)
  writeFileSync(target, '')
  const [block] = backups.filter(({ kind: type }) => type === 'block')
  await repository.restoreBlock({ backup: block?.id ?? '', target, isZeroed: false })
  expect(readFileSync(target).equals(readFileSync(image))).toBe(true)
})
