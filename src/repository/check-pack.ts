/** The task of a hand in verify and repair: reads one pack whole and opens every chunk in it. */

import { isAppError } from '../errors.ts'
import type { Bytes } from '../model.ts'
import { idLength } from './chunk-entry.ts'
import { ChunkReader } from './chunk-reader.ts'
import { ChunkTable } from './chunk-table.ts'
import { ChunkWriter } from './chunk-writer.ts'
import { compress } from './compression.ts'
import type { IndexedPack } from './index-object.ts'
import { objectName } from './layout.ts'
import { directoryEntries, readPackDirectory } from './pack.ts'
import type { TaskContext } from './tasks.ts'

export interface CheckedPack {
  /** What is wrong; undefined when nothing is. */
  readonly fact: string | undefined
  /** Ids of the chunks that do not open. */
  readonly lost: readonly Uint8Array[]
  /** With `salvage`: new packs of the chunks that do, when something is wrong. */
  readonly salvaged: readonly IndexedPack[]
}

export interface CheckPackArgs {
  readonly id: string
  readonly size: Bytes
  /** As the index has it. */
  readonly directory: Uint8Array
  readonly salvage?: boolean
}

export function checkPack(context: TaskContext, args: CheckPackArgs): CheckedPack {
  const { bridge } = context
  const name = objectName('packs', args.id)
  const object = bridge.call('getIfThere', { key: name })
  const fact = object ? frameFact(context, args, object) : 'is missing'
  const table = ChunkTable.create(args.directory.length / 44, 1)
  const pack = table.addPack(args)
  const reader = new ChunkReader(bridge, context.seal, table)
  const writer = new ChunkWriter(bridge, context.seal, table)
  const lost: Uint8Array[] = []
  for (const entry of directoryEntries(args.directory, name)) {
    const content = object && open(context, reader, { ...entry, pack }, object)
    if (!content) lost.push(new Uint8Array(entry.id))
    else if (args.salvage) {
      // Kept in mind in case another chunk of the pack is lost; a sound pack's copy is dropped unsent below.
      const { method, bytes } = compress(content)
      writer.add({ id: entry.id, length: content.length, method, kind: entry.kind }, bytes)
    }
  }
  const chunksFact = lost.length > 0 ? `${lost.length} of its chunks are corrupt` : undefined
  const wrong = fact ?? chunksFact
  if (wrong && args.salvage) writer.flush()
  return { fact: wrong, lost, salvaged: wrong ? writer.takeStored() : [] }
}

/** What is wrong with a pack's size, head, directory or foot. */
function frameFact({ seal }: TaskContext, args: CheckPackArgs, object: Uint8Array): string | undefined {
  if (object.length !== args.size) return `has ${object.length} bytes instead of ${args.size}`
  try {
    const name = objectName('packs', args.id)
    const directory = readPackDirectory(seal, name, object.length, (start, end) => object.subarray(start, end))
    return directory.equals(args.directory) ? undefined : 'has another directory than its index says'
  } catch (error) {
    if (isAppError(error, 'CORRUPT')) return error.message
    throw error
  }
}

function open(
  { seal }: TaskContext,
  reader: ChunkReader,
  place: Parameters<ChunkReader['open']>[0],
  object: Uint8Array,
): Uint8Array | undefined {
  if (place.offset + place.stored > object.length) return undefined
  try {
    const stored = Buffer.from(object.buffer, object.byteOffset + place.offset, place.stored)
    const content = reader.open(place, stored)
    return seal.chunkId(content).equals(place.id.subarray(0, idLength)) ? content : undefined
  } catch (error) {
    if (isAppError(error, 'CORRUPT')) return undefined
    throw error
  }
}
