/** A process that is killed at each step of a backup, a forget, a prune and a restore, one after another: before and after every write. */

import { execFileSync } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { backUp, describeTree, noise, restored, scratch } from '../unit/repository/support.ts'
import {
  changingTree,
  dropLeases,
  ended,
  type KilledRepository,
  killedRepository,
  leftAfterPrunes,
  start,
} from './repository-killed.ts'

const timeout = 150_000
/** More steps than any of these jobs has: a job that never ends by itself is a failure. */
const mostSteps = 100

async function expectSound({ repository }: KilledRepository): Promise<void> {
  expect(await repository.verify({ readData: true, backup: null })).toMatchObject({ problems: [], damaged: [] })
}

test('a backup killed at any step leaves a sound repository without it, and the next one succeeds', {
  timeout,
}, async () => {
  const bed = await killedRepository(0)
  const root = scratch()
  changingTree(root, 0)
  expect(await ended(start(bed.directory, ['backup', root, 'whole']))).toBe(0)
  let kills = 0
  for (let step = 1; step < mostSteps; step++) {
    changingTree(root, step)
    const before = await bed.repository.listBackups()
    if ((await ended(start(bed.directory, ['backup', root, 'v'], step))) === 0) break
    kills++
    await expectSound(bed)
    const made = (await bed.repository.listBackups()).slice(before.length)
    // Only behind its last write, the manifest's, a killed backup is there; then it is whole.
    for (const { id } of made) expect(describeTree(await restored(bed.repository, id))).toBe(describeTree(root))
  }
  expect(kills).toBeGreaterThan(6)
  const last = (await bed.repository.listBackups()).at(-1)
  expect(describeTree(await restored(bed.repository, last?.id ?? ''))).toBe(describeTree(root))
  expect(await leftAfterPrunes(bed)).toEqual(['config'])
})

test('a forget with its prune killed at any step loses nothing that is kept, and another ends the work', {
  timeout,
}, async () => {
  const bed = await killedRepository(0)
  const root = scratch()
  let kills = 0
  for (let step = 1; step < mostSteps; step++) {
    for (let i = 0; i < 3; i++) {
      changingTree(root, step * 3 + i)
      await backUp(bed.repository, root)
    }
    await dropLeases(bed.store)
    const code = await ended(start(bed.directory, ['forget'], step))
    await expectSound(bed)
    const last = (await bed.repository.listBackups()).at(-1)
    expect(describeTree(await restored(bed.repository, last?.id ?? ''))).toBe(describeTree(root))
    if (code === 0) break
    kills++
  }
  expect(kills).toBeGreaterThan(5)
  expect(await leftAfterPrunes(bed)).toEqual(['config'])
})

test('a restore killed at any step ends right when the same call is made again, and once more', {
  timeout,
}, async () => {
  const bed = await killedRepository(0)
  const root = scratch()
  changingTree(root, 1)
  writeFileSync(join(root, 'large'), noise(3_000_000, 5))
  execFileSync('bash', [
    '-c',
    `cd "$1"; ln large inner/large2; ln inner/3 third; ln -s third link; mkfifo fifo; truncate -s 5M hole; mkdir lost+found empty
     chmod 700 lost+found; setfattr -n user.root -v 1 .; chmod 1751 .; touch -d '2001-02-03 04:05:06.7' inner empty .`,
    'bash',
    root,
  ])
  const { id, files } = await backUp(bed.repository, root)
  const before = describeTree(root)
  let kills = 0
  for (let step = 1; step < mostSteps; step++) {
    const target = join(scratch(), 'out')
    mkdirSync(join(target, 'lost+found'), { recursive: true, mode: 0o700 })
    const code = await ended(start(bed.directory, ['restore', target, id], step))
    for (let call = 0; call < 2; call++) {
      const result = await bed.repository.restoreTree({ backup: id, target, path: '' })
      expect(result.files).toBe(files - 1)
      expect(describeTree(target), `killed at step ${step}, call ${call}`).toBe(before)
    }
    rmSync(target, { recursive: true })
    if (code === 0) break
    kills++
  }
  expect(kills).toBeGreaterThan(20)
})
