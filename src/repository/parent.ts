/** What a backup may take over from its parent without reading it again (FORMAT.md 9). */

import type { ChunkReader } from './chunk-reader.ts'
import type { ChunkTable } from './chunk-table.ts'
import { type Content, visitContent } from './content.ts'
import type { Backup } from './manifest.ts'
import type { TaskContext } from './tasks.ts'

/** Whether a verify has found that the backup lacks something: then it is nobody's parent. */
export function isDamaged({ bridge }: TaskContext, backup: Backup): boolean {
  return bridge.call('list', { prefix: `damaged/${backup.id}/`, after: null }).length > 0
}

/** Whether all lists and chunks of `content` are in the table. @param reader of the same table */
export function isStored(content: Content, reader: ChunkReader, table: ChunkTable): boolean {
  let isWhole = true
  const meet = (id: Buffer): boolean => {
    isWhole &&= table.has(id)
    return isWhole
  }
  // A list that this run is storing has chunks that were stored before it.
  const enter = (id: Buffer): boolean => meet(id) && table.locate(id) !== undefined
  visitContent(content, (id) => reader.read(id), { enter, chunk: meet })
  return isWhole
}
