/**
 * Writers that are killed at random moments, beside others that back up, forget and prune: whatever backup is listed afterwards can be restored, nothing it
 * needs is lost, and disk use comes back to normal after a prune. `HOLDFAST_STORM_ROUNDS` sets the number of kills (default 25).
 */

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, onTestFinished, test } from 'vitest'
import { isAppError } from '../../src/errors.ts'
import { openDirStore } from '../../src/objectstore/dir.ts'
import { initRepository, openRepository } from '../../src/repository/repository.ts'
import { exec } from '../../src/system/exec.ts'
import { cheapKey, describeTree, noise } from '../unit/repository/support.ts'

const rounds = Number(process.env.HOLDFAST_STORM_ROUNDS ?? 25)
const actor = fileURLToPath(new URL('./repository-actor.ts', import.meta.url))
const tools = { exec }

function scratch(): string {
  const path = mkdtempSync(join(process.env.HOLDFAST_TEST_DIR ?? tmpdir(), 'holdfast-storm-'))
  onTestFinished(() => rmSync(path, { recursive: true, force: true }))
  return path
}

function start(store: string, action: string, ...args: string[]): ChildProcess {
  const child = spawn(process.execPath, [actor, store, action, ...args], { stdio: ['ignore', 'ignore', 'pipe'] })
  onTestFinished(() => void child.kill('SIGKILL'))
  return child
}

async function ended(child: ChildProcess): Promise<number | null> {
  let text = ''
  child.stderr?.on('data', (chunk: Buffer) => (text += chunk.toString()))
  const [code] = await once(child, 'close')
  if (code !== 0 && code !== null && !text.includes('ABORTED')) throw new Error(text)
  return code as number | null
}

function tree(root: string, version: number): void {
  mkdirSync(join(root, 'inner'), { recursive: true })
  for (let i = 0; i < 12; i++) writeFileSync(join(root, `inner/${i}`), noise(60_000 + i, i + 1))
  for (let i = 0; i < 4; i++) writeFileSync(join(root, `changing-${i}`), noise(400_000, version * 10 + i + 100))
}

test(`${rounds} kills of backup, forget and prune leave every listed backup whole`, {
  timeout: 60_000 + rounds * 8_000,
}, async () => {
  const directory = scratch()
  const store = await openDirStore(directory, { create: true })
  const options = { store, tools, passphrase: 'storm', graceMs: 0 }
  const repository = await initRepository({ ...options, cost: cheapKey })
  const root = scratch()
  const states = new Map<string, string>()
  for (let round = 0; round < rounds; round++) {
    tree(root, round)
    states.set(String(round), describeTree(root))
    for await (const { key } of store.list('leases/')) await store.delete([key])
    const action = (['backup', 'backup', 'prune', 'forget'] as const)[round % 4] ?? 'backup'
    const child = start(directory, action, root, String(round))
    const timer = setTimeout(() => child.kill('SIGKILL'), 250 + Math.random() * 900)
    await ended(child)
    clearTimeout(timer)
  }
  const backups = await repository.listBackups()
  expect(await repository.verify({ readData: true, backup: null })).toMatchObject({ problems: [], damaged: [] })
  for (const { id, volume } of backups) {
    const target = join(scratch(), 'out')
    mkdirSync(target)
    await repository.restoreTree({ backup: id, target, path: '' })
    expect(describeTree(target)).toBe(states.get(volume))
  }
  await repository.deleteBackups(backups.map(({ id }) => id))
  // A killed prune's lease would hold for five minutes of the store's clock.
  for await (const { key } of store.list('leases/')) await store.delete([key])
  for (let i = 0; i < 3; i++) await (await openRepository(options)).prune({ dryRun: false })
  const left: string[] = []
  for await (const { key } of store.list('')) left.push(key)
  expect(left.filter((key) => !key.startsWith('keys/'))).toEqual(['config'])
})

test('two nodes back up, forget and prune into one repository at once', { timeout: 150_000 }, async () => {
  const directory = scratch()
  const store = await openDirStore(directory, { create: true })
  // The grace period is what makes prune safe beside writers: here a whole one passes between two prunes.
  const options = { store, tools, passphrase: 'storm', graceMs: 4_000 }
  const repository = await initRepository({ ...options, cost: cheapKey })
  const roots = [scratch(), scratch()]
  const node = async (root: string, name: string) => {
    for (let i = 0; i < 4; i++) {
      tree(root, i)
      await ended(start(directory, 'backup', root, `${name}${i}`, '4000'))
      if (i % 2 === 1) await ended(start(directory, 'forget', root, '', '4000'))
    }
  }
  const pruner = async () => {
    for (let i = 0; i < 6; i++) await ended(start(directory, 'prune', '', '', '4000'))
  }
  await Promise.all([node(roots[0] ?? '', 'a'), node(roots[1] ?? '', 'b'), pruner()])
  expect((await repository.listBackups()).length).toBeGreaterThan(0)
  expect(await repository.verify({ readData: true, backup: null })).toMatchObject({ problems: [], damaged: [] })
})

test('a restore that is killed goes on when it is called again', { timeout: 120_000 }, async () => {
  const directory = scratch()
  const store = await openDirStore(directory, { create: true })
  const repository = await initRepository({ store, tools, passphrase: 'storm', graceMs: 0, cost: cheapKey })
  const root = scratch()
  tree(root, 1)
  writeFileSync(join(root, 'large'), noise(30_000_000, 5))
  const about = {
    createdAt: new Date().toISOString(),
    host: 'h',
    volume: 'v',
    snapshot: null,
    labels: {},
    program: 'test',
  }
  const { id } = await repository.backupTree({ root, about, parent: null, compare: 'inode' })
  /** False when the target is full and no longer a restore's. */
  const goneOn = async (target: string, backup: string): Promise<boolean> => {
    try {
      await repository.restoreTree({ backup, target, path: '' })
      return true
    } catch (error) {
      if (isAppError(error, 'FAILED_PRECONDITION')) return false
      throw error
    }
  }
  const withoutRoot = (path: string) => describeTree(path).replace(/^\. d .*$/m, '')
  for (const delayMs of [300, 500, 700, 900, 1100]) {
    const target = join(scratch(), 'out')
    mkdirSync(target)
    const child = start(directory, 'restore', target, id)
    const timer = setTimeout(() => child.kill('SIGKILL'), delayMs)
    const code = await ended(child)
    clearTimeout(timer)
    if (code === null && !(await goneOn(target, id))) {
      // Killed in its last moment: all is there, and only the root's own mtime and attributes may not be.
      expect(withoutRoot(target)).toBe(withoutRoot(root))
      continue
    }
    expect(describeTree(target)).toBe(describeTree(root))
  }
})
