/**
 * A process for the repository's tests to kill: `STORE ACTION ROOT NAME [GRACE_MS]`. With HOLDFAST_KILL_AT=N it kills itself at the Nth of its
 * steps: before and after everything that it changes in the store, and every other program that it runs.
 */

import { openDirStore } from '../../src/objectstore/dir.ts'
import type { ObjectStore } from '../../src/objectstore/objectstore.ts'
import { openRepository } from '../../src/repository/repository.ts'
import { exec } from '../../src/system/exec.ts'

const [directory = '', action, root = '', name = '', graceMs = '0'] = process.argv.slice(2)
const killAt = Number(process.env.HOLDFAST_KILL_AT ?? 0)
let steps = 0

async function stepped<T>(work: () => Promise<T>): Promise<T> {
  if (++steps === killAt) process.kill(process.pid, 'SIGKILL')
  const result = await work()
  if (++steps === killAt) process.kill(process.pid, 'SIGKILL')
  return result
}

const store = await openDirStore(directory)
const steppedStore: ObjectStore = {
  ...store,
  put: (...args) => stepped(() => store.put(...args)),
  delete: (...args) => stepped(() => store.delete(...args)),
}
const tools = { exec: (...args: Parameters<typeof exec>) => stepped(() => exec(...args)) }
const repository = await openRepository({
  store: steppedStore,
  tools,
  passphrase: 'storm',
  graceMs: Number(graceMs),
})

async function act(): Promise<void> {
  if (action === 'backup') {
    const about = {
      createdAt: new Date().toISOString(),
      host: 'h',
      volume: name,
      snapshot: null,
      labels: {},
      program: 'test',
    }
    const parent = (await repository.listBackups()).at(-1)?.id ?? null
    await repository.backupTree({ root, about, parent })
  } else if (action === 'restore') await repository.restoreTree({ backup: name, target: root, path: '' })
  else if (action === 'prune') await repository.prune({ dryRun: false })
  else if (action === 'forget') {
    const backups = await repository.listBackups()
    await repository.deleteBackups(backups.slice(0, -2).map(({ id }) => id))
    await repository.prune({ dryRun: false })
  } else throw new Error(`unknown action ${action}`)
}

try {
  await act()
} catch (error) {
  const { code, message } = error as { code?: string; message: string }
  console.error(code, message)
  process.exitCode = 1
}
