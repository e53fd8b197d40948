/** What the tests that kill a repository's writers share: processes, a repository on a directory, a changing tree. */

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { onTestFinished } from 'vitest'
import { openDirStore } from '../../src/objectstore/dir.ts'
import type { ObjectStore } from '../../src/objectstore/objectstore.ts'
import { initRepository, type Repository, type RepositoryOptions } from '../../src/repository/repository.ts'
import { exec } from '../../src/system/exec.ts'
import { cheapKey, noise, scratch } from '../unit/repository/support.ts'

const actor = fileURLToPath(new URL('./repository-actor.ts', import.meta.url))

export interface KilledRepository {
  readonly directory: string
  readonly store: ObjectStore
  readonly options: RepositoryOptions
  readonly repository: Repository
}

/** A repository on a directory that the actors can open. */
export async function killedRepository(graceMs: number): Promise<KilledRepository> {
  const directory = scratch()
  const store = await openDirStore(directory, { create: true })
  const options = { store, tools: { exec }, passphrase: 'storm', graceMs }
  return { directory, store, options, repository: await initRepository({ ...options, cost: cheapKey }) }
}

/** Starts an actor (repository-actor.ts); it ends with the test at the latest. @param killAt the step at which it kills itself */
export function start(directory: string, args: readonly string[], killAt = 0): ChildProcess {
  const env = { ...process.env, HOLDFAST_KILL_AT: String(killAt) }
  const child = spawn(process.execPath, [actor, directory, ...args], { env, stdio: ['ignore', 'ignore', 'pipe'] })
  onTestFinished(() => void child.kill('SIGKILL'))
  return child
}

/** Waits for an actor. @returns its exit code, null when it was killed @throws for any failure but a prune's ABORTED */
export async function ended(child: ChildProcess): Promise<number | null> {
  let text = ''
  child.stderr?.on('data', (chunk: Buffer) => (text += chunk.toString()))
  const [code] = await once(child, 'close')
  if (code !== 0 && code !== null && !text.includes('ABORTED')) throw new Error(text)
  return code as number | null
}

/** Some files, of which a third is another in each version. */
export function changingTree(root: string, version: number): void {
  mkdirSync(join(root, 'inner'), { recursive: true })
  for (let i = 0; i < 12; i++) writeFileSync(join(root, `inner/${i}`), noise(60_000 + i, i + 1))
  for (let i = 0; i < 4; i++) writeFileSync(join(root, `changing-${i}`), noise(400_000, version * 10 + i + 100))
}

/** A killed prune's lease would hold for five minutes of the store's clock. */
export async function dropLeases(store: ObjectStore): Promise<void> {
  for await (const { key } of store.list('leases/')) await store.delete([key])
}

/** What is left in the store when every backup has been forgotten and pruned. */
export async function leftAfterPrunes({ repository, store }: KilledRepository): Promise<string[]> {
  await repository.deleteBackups((await repository.listBackups()).map(({ id }) => id))
  await dropLeases(store)
  for (let i = 0; i < 3; i++) await repository.prune({ dryRun: false })
  const left: string[] = []
  for await (const { key } of store.list('')) left.push(key)
  return left.filter((key) => !key.startsWith('keys/'))
}
