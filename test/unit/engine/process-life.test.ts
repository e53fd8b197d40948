/**
 * How a job's process ends: by cancel, by its own death, by the daemon's; and what others can see of it. Needs root, as
 * restores do.
 */

import { spawn } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { getPriority } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { expect, onTestFinished, test, vi } from 'vitest'
import type { Place } from '../../../src/engine/place.ts'
import { openDirStore } from '../../../src/objectstore/dir.ts'
import { openRepository } from '../../../src/repository/repository.ts'
import { exec } from '../../../src/system/exec.ts'
import { until } from '../../support/processes.ts'
import {
  about,
  emptyDirectory,
  jobProcesses,
  jobWithTar,
  makeTree,
  newEngine,
  newPlace,
  type Process,
  processes,
  type TestEngine,
} from './support.ts'

// Many processes one after another, each of which strips its types anew: slow on a busy machine.
vi.setConfig({ testTimeout: 90_000 })

const passphrase = 'the-passphrase-of-this-test'

interface Backed {
  readonly engine: TestEngine
  /** Read so slowly that a restore takes many seconds. */
  readonly slow: Place
  readonly backup: string
}

/** A backup of several packs. */
async function backedUp(): Promise<Backed> {
  const engine = newEngine()
  const place = newPlace(passphrase)
  await engine.run(place, 'init', { label: '' })
  const args = { root: makeTree(400, 100_000), about: about(), parent: null }
  const { id } = await engine.run(place, 'backupTree', args)
  return { engine, slow: { ...place, downloadLimit: 2 * 2 ** 20 }, backup: id }
}

/** Begins a slow restore, and waits until its tar is at work. */
async function restoring({ engine, slow, backup }: Backed, signal?: AbortSignal) {
  const target = emptyDirectory()
  const end = engine.run(slow, 'restoreTree', { backup, target, path: '' }, { signal }).then(
    () => undefined,
    (error: unknown) => error,
  )
  return { target, end, job: await jobWithTar(process.pid) }
}

function alive(pids: readonly { pid: number }[]): number {
  return processes().filter(({ pid }) => pids.some((it) => it.pid === pid)).length
}

function leaderOf(job: readonly Process[]): number {
  return job.find(({ pid, session }) => pid === session)?.pid ?? Number.NaN
}

/** All of a tree, with sizes. */
function content(root: string): string {
  return readdirSync(root, { recursive: true, withFileTypes: true })
    .map((it) => `${it.parentPath}/${it.name} ${it.isFile() ? readFileSync(join(it.parentPath, it.name)).length : ''}`)
    .sort()
    .join('\n')
}

test('a cancelled job throws the reason, and leaves no process and no work', async () => {
  const backed = await backedUp()
  const abort = new AbortController()
  const { end, job, target } = await restoring(backed, abort.signal)
  expect(job.length).toBeGreaterThanOrEqual(2)
  const reason = new Error('enough')
  abort.abort(reason)
  const since = performance.now()
  expect(await end).toBe(reason)
  expect(performance.now() - since).toBeLessThan(4_000)
  expect(alive(job)).toBe(0)
  const left = content(target)
  await pause(300)
  expect(content(target)).toBe(left)
  await expect(backed.engine.run(backed.slow, 'open', {}, { signal: abort.signal })).rejects.toBe(reason)
})

test('a job that does not hear is killed, with its programs', async () => {
  const backed = await backedUp()
  const abort = new AbortController()
  const { end, job } = await restoring(backed, abort.signal)
  process.kill(leaderOf(job), 'SIGSTOP')
  abort.abort(new Error('enough'))
  expect(await end).toMatchObject({ message: 'enough' })
  expect(alive(job)).toBe(0)
})

test('a job whose process dies fails, says so, and takes its programs along', async () => {
  const backed = await backedUp()
  const { end, job } = await restoring(backed)
  process.kill(leaderOf(job), 'SIGTRAP')
  const message = 'the backup process died (SIGTRAP); nothing is lost, try again'
  expect(await end).toMatchObject({ name: 'AppError', code: 'INTERNAL', message })
  expect(alive(job)).toBe(0)
  expect(backed.engine.logged).toMatchObject([{ message: 'a backup process died', fields: { how: 'SIGTRAP' } }])
})

test('signals that stop a daemon do not stop a job', async () => {
  const backed = await backedUp()
  const { end, job } = await restoring(backed)
  process.kill(leaderOf(job), 'SIGTERM')
  await pause(200)
  expect(alive([{ pid: leaderOf(job) }])).toBe(1)
  await backed.engine.stop()
  expect(await end).toMatchObject({ code: 'CANCELLED', message: 'the daemon is stopping' })
  expect(alive(job)).toBe(0)
  await expect(backed.engine.run(backed.slow, 'open', {})).rejects.toMatchObject({ code: 'CANCELLED' })
})

test('when the daemon is killed, nothing of a job goes on', async () => {
  const { slow, backup } = await backedUp()
  const target = emptyDirectory()
  const script = join(import.meta.dirname, 'restoring-daemon.ts')
  const args = [...process.execArgv, script, JSON.stringify(slow), backup, target]
  const daemon = spawn(process.execPath, args, { stdio: 'inherit' })
  onTestFinished(() => void daemon.kill('SIGKILL'))
  const job = await jobWithTar(daemon.pid ?? 0)
  await until('files', 20_000, () => content(target) !== '')
  daemon.kill('SIGKILL')
  const since = performance.now()
  await until('the end of the job', 5_000, () => alive(job) === 0)
  expect(performance.now() - since).toBeLessThan(500)
  const left = content(target)
  await pause(500)
  expect(content(target)).toBe(left)
})

test('nobody can read a secret from the processes, and they give way to others', async () => {
  const backed = await backedUp()
  const store = await openDirStore(new URL(backed.slow.url).pathname)
  const { knownKey } = await openRepository({ store, tools: { exec }, passphrase })
  const key = Buffer.from(knownKey?.masterKey ?? '')
  expect(key).toHaveLength(32)
  const { end, job } = await restoring(backed)
  const secrets = [passphrase, key.toString('hex'), key.toString('base64'), key.toString('latin1')]
  for (const { pid } of [...job, { pid: process.pid }]) {
    const seen = ['cmdline', 'environ'].map((name) => readFileSync(`/proc/${pid}/${name}`, 'latin1')).join()
    expect(seen).not.toBe('')
    expect(secrets.filter((secret) => seen.includes(secret))).toEqual([])
  }
  expect(job.map(({ pid }) => getPriority(pid))).toEqual(job.map(() => 10))
  await backed.engine.stop()
  await end
  expect(jobProcesses(process.pid)).toEqual([])
})
