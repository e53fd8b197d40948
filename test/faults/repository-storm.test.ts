/**
 * Writers that are killed at random moments, alone and beside others that back up, forget, prune and verify: whatever backup is listed afterwards can be
 * restored, nothing it needs is lost, and disk use comes back to normal after a prune. `HOLDFAST_STORM_ROUNDS` sets the number of kills (default 200).
 */

import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { backUp, describeTree, noise, restored, scratch } from '../unit/repository/support.ts'
import { changingTree, dropLeases, ended, killedRepository, leftAfterPrunes, start } from './repository-killed.ts'

const rounds = Number(process.env.HOLDFAST_STORM_ROUNDS ?? 200)

test(`${rounds} kills of backup, forget and prune leave every listed backup whole`, {
  timeout: 60_000 + rounds * 8_000,
}, async () => {
  const bed = await killedRepository(0)
  const { directory, repository, store } = bed
  const root = scratch()
  const states = new Map<string, string>()
  for (let round = 0; round < rounds; round++) {
    changingTree(root, round)
    states.set(String(round), describeTree(root))
    await dropLeases(store)
    const action = (['backup', 'backup', 'prune', 'forget'] as const)[round % 4] ?? 'backup'
    const child = start(directory, [action, root, String(round)])
    const timer = setTimeout(() => child.kill('SIGKILL'), 250 + Math.random() * 900)
    await ended(child)
    clearTimeout(timer)
  }
  const backups = await repository.listBackups()
  expect(await repository.verify({ readData: true, backup: null })).toMatchObject({ problems: [], damaged: [] })
  for (const { id, volume } of backups) {
    expect(describeTree(await restored(repository, id))).toBe(states.get(volume))
  }
  expect(await leftAfterPrunes(bed)).toEqual(['config'])
})

test('two nodes whose backups are killed now and then, and forget, beside a pruner: no verify finds fault', {
  timeout: 150_000,
}, async () => {
  // The grace period is what makes prune safe beside writers: here whole ones pass.
  const graceMs = 6_000
  const { directory, repository } = await killedRepository(graceMs)
  const states = new Map<string, string>()
  const act = (action: string, root = '', name = '') => start(directory, [action, root, name, String(graceMs)])
  const backUpOrDie = async (root: string, name: string): Promise<void> => {
    const child = act('backup', root, name)
    const timer = Math.random() < 0.4 ? setTimeout(() => child.kill('SIGKILL'), 250 + Math.random() * 900) : undefined
    await ended(child)
    clearTimeout(timer)
  }
  const node = async (name: string) => {
    const root = scratch()
    for (let i = 0; i < 8; i++) {
      changingTree(root, i)
      states.set(`${name}${i}`, describeTree(root))
      await backUpOrDie(root, `${name}${i}`)
      if (i % 2 === 1) await ended(act('forget'))
    }
  }
  let isOver = false
  const pruner = async () => {
    while (!isOver) await ended(act('prune'))
  }
  const verifier = async () => {
    while (!isOver) expect((await repository.verify({ readData: false, backup: null })).damaged).toEqual([])
  }
  const nodes = Promise.all([node('a'), node('b')]).finally(() => {
    isOver = true
  })
  await Promise.all([nodes, pruner(), verifier()])
  const backups = await repository.listBackups()
  expect(backups.length).toBeGreaterThan(0)
  expect(await repository.verify({ readData: true, backup: null })).toMatchObject({ problems: [], damaged: [] })
  for (const { id, volume } of backups) {
    expect(describeTree(await restored(repository, id))).toBe(states.get(volume))
  }
})

test('a restore killed at a random moment goes on when it is called again', { timeout: 120_000 }, async () => {
  const { directory, repository } = await killedRepository(0)
  const root = scratch()
  changingTree(root, 1)
  writeFileSync(join(root, 'large'), noise(30_000_000, 5))
  const { id } = await backUp(repository, root)
  for (let round = 0; round < Math.ceil(rounds / 5); round++) {
    const target = join(scratch(), 'out')
    mkdirSync(target)
    const child = start(directory, ['restore', target, id])
    const timer = setTimeout(() => child.kill('SIGKILL'), 250 + Math.random() * 900)
    await ended(child)
    clearTimeout(timer)
    await repository.restoreTree({ backup: id, target, path: '' })
    expect(describeTree(target)).toBe(describeTree(root))
    rmSync(target, { recursive: true })
  }
})
