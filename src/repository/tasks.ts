/** All tasks that workers do, by name; a worker loads only what its own need. */

import type { Bridge } from './bridge.ts'
import type { Seal } from './seal.ts'

/** What every task works with. */
export interface TaskContext {
  readonly bridge: Bridge
  readonly seal: Seal
}

type Task = (context: TaskContext, args: never) => unknown

/** Where each task is. */
const tasks: Readonly<Record<string, () => Promise<Task>>> = {
  backupTree: async () => (await import('./tree-backup.ts')).backupTree,
  walkAhead: async () => (await import('./walk-ahead.ts')).walkAhead,
  readFiles: async () => (await import('./read-files.ts')).readFiles,
  flushWriter: async () => (await import('./hand-writer.ts')).flushWriter,
  restoreTree: async () => (await import('./tree-restore.ts')).restoreTree,
  writeEntries: async () => (await import('./write-files.ts')).writeEntries,
  writeStretch: async () => (await import('./write-files.ts')).writeStretch,
  finishEntries: async () => (await import('./write-files.ts')).finishEntries,
  listFiles: async () => (await import('./list-files.ts')).listFiles,
  verify: async () => (await import('./check.ts')).verify,
  repair: async () => (await import('./repair.ts')).repair,
  checkPack: async () => (await import('./check-pack.ts')).checkPack,
  prune: async () => (await import('./prune.ts')).prune,
  backupBlock: async () => (await import('./block-backup.ts')).backupBlock,
  readSpan: async () => (await import('./block-backup.ts')).readSpan,
  restoreBlock: async () => (await import('./block-restore.ts')).restoreBlock,
  openBlock: async () => (await import('./block-restore.ts')).openBlock,
  readBlock: async () => (await import('./block-restore.ts')).readBlock,
}

/** Does a task to its end. @throws what it throws */
export async function doTask(context: TaskContext, name: string, args: unknown): Promise<unknown> {
  const task = await tasks[name]?.()
  return task?.(context, args as never)
}
