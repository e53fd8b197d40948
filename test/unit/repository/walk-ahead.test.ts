/** Unchanged trees of many entries, which a thread of its own walks ahead of the lead (walk-ahead.ts). Needs root, as backups do. */

import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { objectName } from '../../../src/repository/layout.ts'
import { type Backup, encodeManifest } from '../../../src/repository/manifest.ts'
import { Seal } from '../../../src/repository/seal.ts'
import {
  backUp,
  describeTree,
  makeHostileTree,
  newRepository,
  restored,
  scratch,
  type TestRepository,
} from './support.ts'

/** Makes a backup claim to be of so many files that the next one walks ahead. */
async function claimMany({ store, repository }: TestRepository, backup: Backup): Promise<void> {
  const { id, ...manifest } = backup
  const name = objectName('manifests', id)
  const seal = new Seal({ repositoryId: repository.config.id, masterKey: null })
  await store.put(name, seal.sealObject('M', name, encodeManifest({ ...manifest, files: 1_000_000 })))
}

/** 6,500 files, more directories than wait for the lead at once, beside each other and below each other. */
function makeLargeTree(root: string): void {
  makeHostileTree(root)
  for (let i = 0; i < 600; i++) mkdirSync(join(root, 'w', `directory ${i}`), { recursive: true })
  for (let i = 0; i < 6_500; i++) {
    writeFileSync(join(root, 'w', `directory ${i % 500}`, `${'a long name '.repeat(i % 20)}${i}`), `${i}`)
  }
  mkdirSync(join(root, 'deep', ...Array<string>(400).fill('x')), { recursive: true })
}

function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length
}

test('a large tree is the same when nothing has changed, and whatever has changed is seen', async () => {
  const root = scratch()
  makeLargeTree(root)
  const made = await newRepository()
  const { repository } = made
  const first = await backUp(repository, root)
  await claimMany(made, first)
  const before = openDescriptors()
  const second = await backUp(repository, root, first.id)
  expect(second).toMatchObject({ parent: first.id, root: first.root, files: first.files, size: first.size })
  expect(openDescriptors()).toBe(before)
  rmSync(join(root, 'w/directory 7'), { recursive: true })
  rmSync(join(root, 'w/directory 8'), { recursive: true })
  symlinkSync('/etc', join(root, 'w/directory 8'))
  renameSync(join(root, 'w/directory 9'), join(root, 'w/A'))
  writeFileSync(join(root, 'w/directory 10/10'), 'other')
  writeFileSync(join(root, 'z'), 'new')
  await claimMany(made, second)
  const third = await backUp(repository, root, second.id)
  expect(describeTree(await restored(repository, third.id))).toBe(describeTree(root))
})

test('a large tree with another file system in it is refused, and what was open is closed', async () => {
  const root = scratch()
  makeLargeTree(root)
  const made = await newRepository()
  const { repository } = made
  const first = await backUp(repository, root)
  await claimMany(made, first)
  const before = openDescriptors()
  const mounted = join(root, 'w/directory 300')
  execFileSync('mount', ['-t', 'tmpfs', 'none', mounted])
  try {
    await expect(backUp(repository, root, first.id)).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' })
  } finally {
    execFileSync('umount', [mounted])
  }
  expect(openDescriptors()).toBe(before)
})
