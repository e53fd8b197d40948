/** All tasks that workers do, by name. */

import { backupBlock, flushSpans, readSpan } from './block-backup.ts'
import { openBlock, readBlock, restoreBlock } from './block-restore.ts'
import type { Bridge } from './bridge.ts'
import { repair, verify } from './check.ts'
import { checkPack } from './check-pack.ts'
import { listFiles } from './list-files.ts'
import { prune } from './prune.ts'
import { flushFiles, readFiles } from './read-files.ts'
import type { Seal } from './seal.ts'
import { backupTree } from './tree-backup.ts'
import { restoreTree } from './tree-restore.ts'
import { finishEntries, writeEntries, writeStretch } from './write-files.ts'

/** What every task works with. */
export interface TaskContext {
  readonly bridge: Bridge
  readonly seal: Seal
}

export const tasks: Readonly<Record<string, (context: TaskContext, args: never) => unknown>> = {
  backupTree,
  readFiles,
  flushFiles,
  restoreTree,
  writeEntries,
  writeStretch,
  finishEntries,
  listFiles,
  verify,
  checkPack,
  repair,
  prune,
  backupBlock,
  readSpan,
  flushSpans,
  restoreBlock,
  openBlock,
  readBlock,
}
