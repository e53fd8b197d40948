/** Index objects: the directories of some packs, one behind the other (FORMAT.md 4.2). Does no I/O. */

import { entryLength, maxPack } from './chunk-entry.ts'
import { ByteReader, ByteWriter } from './cursor.ts'

/** A pack as an index describes it. */
export interface IndexedPack {
  readonly id: string
  /** Bytes of the whole object. */
  readonly size: number
  readonly directory: Uint8Array
}

const packLength = 40

/** The content of an index object, to be sealed. */
export function encodeIndex(packs: readonly IndexedPack[]): Buffer {
  const writer = new ByteWriter(4 + packs.reduce((sum, pack) => sum + packLength + pack.directory.length, 0))
  writer.u32(packs.length)
  for (const { id, size, directory } of packs) {
    writer
      .put(Buffer.from(id, 'hex'))
      .u32(size)
      .u32(directory.length / entryLength)
  }
  for (const pack of packs) writer.put(pack.directory)
  return writer.view()
}

/** Packs of an index object, in order; directories are views of `content`. @throws CORRUPT */
export function* readIndex(content: Uint8Array, name: string): Generator<IndexedPack> {
  const heads = new ByteReader(content, name)
  const count = heads.u32()
  const directories = new ByteReader(content, name)
  directories.position = 4
  directories.take(count * packLength)
  for (let i = 0; i < count; i++) {
    const id = heads.take(32).toString('hex')
    const size = heads.u32()
    if (size > maxPack) heads.fail('impossible size of a pack')
    yield { id, size, directory: directories.take(heads.u32() * entryLength) }
  }
  directories.end()
}
