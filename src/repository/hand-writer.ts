/** The way of a hand's chunks to the store in a backup: one writer in each hand, for all its tasks, and the end of all of them. */

import type { Bridge } from './bridge.ts'
import { ChunkTable, type SharedTable } from './chunk-table.ts'
import { ChunkWriter } from './chunk-writer.ts'
import type { IndexedPack } from './index-object.ts'
import type { IndexWriter } from './index-writer.ts'
import { perWorker } from './per-worker.ts'
import type { TaskContext } from './tasks.ts'

/** The writer of this hand. */
export const writerOf = perWorker(
  ({ bridge, seal }, table: SharedTable) => new ChunkWriter(bridge, seal, new ChunkTable(table)),
)

/** Makes durable what this hand has stored. A task of every hand. */
export function flushWriter(context: TaskContext, { table }: { readonly table: SharedTable }): readonly IndexedPack[] {
  const writer = writerOf(context, table)
  writer.flush()
  return writer.takeStored()
}

/** Has all hands flush their writers, and indexes what they have stored. For the lead, when no task is under way. */
export function flushHands(bridge: Bridge, table: ChunkTable, index: IndexWriter): void {
  const packs = bridge.call('hand', { task: 'every:flushWriter', args: { table: table.shared } })
  index.add((packs as (readonly IndexedPack[])[]).flat())
}
