/** The root chunk of a block backup (FORMAT.md 5.3). Does no I/O. */

import type { Bytes } from '../model.ts'
import { type Content, checkReferences, referenceLength } from './content.ts'
import { ByteReader, ByteWriter } from './cursor.ts'

export interface BlockRoot {
  readonly size: Bytes
  readonly content: Content
}

export const blockLength = 64 * 1024

const magic = Buffer.from('HFB\x01', 'latin1')

export function encodeBlockRoot({ size, content }: BlockRoot): Buffer {
  const writer = new ByteWriter()
  writer.put(magic).u64(size).u32(blockLength).u8(content.level).u8(0)
  writer.u16(content.references.length / referenceLength).put(content.references)
  return Buffer.from(writer.view())
}

/** @throws CORRUPT */
export function readBlockRoot(bytes: Uint8Array): BlockRoot {
  const reader = new ByteReader(bytes, 'the root of a block backup')
  if (!reader.take(4).equals(magic)) reader.fail('it is none')
  const size = reader.u64()
  if (reader.u32() !== blockLength) reader.fail('another length of blocks')
  const level = reader.u8()
  if (reader.u8() !== 0) reader.fail('unknown flags')
  const references = reader.take(reader.u16() * referenceLength)
  reader.end()
  checkReferences(references, level, size, 'the root of a block backup')
  return { size, content: { level, references } }
}
