/** Records of a tree: one file, directory, link or node with all its metadata (FORMAT.md 6.3). Does no I/O. */

import type { BigIntStats } from 'node:fs'
import type { Bytes } from '../model.ts'
import { idLength } from './chunk-entry.ts'
import { type Content, checkReferences, inlineReferences, referenceLength } from './content.ts'
import { type ByteReader, ByteWriter } from './cursor.ts'

export const types = {
  file: 1,
  directory: 2,
  symlink: 3,
  fifo: 4,
  character: 5,
  block: 6,
  socket: 7,
  end: 15,
} as const

export const flags = { linked: 1, attributes: 2, attributesChunk: 4, changed: 8 } as const

/** Bytes 2 to 56 of a record without its flags and profile: what a file's stat says. */
export interface TreeStat {
  readonly type: number
  readonly mode: number
  readonly uid: number
  readonly gid: number
  /** Since 1970. */
  readonly mtimeNs: bigint
  readonly ctimeNs: bigint
  readonly inode: bigint
  /** A file's length; a device's `major << 32 | minor`. */
  readonly size: bigint
}

export interface TreeRecord extends TreeStat {
  readonly flags: number
  readonly profile: number
  /** Bytes, 0 to 255; empty for the root only. */
  readonly name: Buffer
  /** A symlink's. */
  readonly target: Buffer | undefined
  /** A file's. */
  readonly content: Content | undefined
  /** Encoded (attributes.ts), when they are short. */
  readonly attributes: Buffer | undefined
  /** Else the id of their chunk. */
  readonly attributesId: Buffer | undefined
}

export const headLength = 56
export const maxInlineAttributes = 1024
const nsPerSecond = 1_000_000_000n
const formatMask = 0o170000
const typeByFormat: ReadonlyMap<number, number> = new Map([
  [0o100000, types.file],
  [0o040000, types.directory],
  [0o120000, types.symlink],
  [0o010000, types.fifo],
  [0o020000, types.character],
  [0o060000, types.block],
  [0o140000, types.socket],
])

/** The type of a record for a `st_mode`. */
function typeOfMode(mode: number): number {
  return typeByFormat.get(mode & formatMask) ?? types.socket
}

/** What a record says of this stat. */
export function statOf(stat: BigIntStats): TreeStat {
  const type = typeOfMode(Number(stat.mode))
  const isDevice = type === types.character || type === types.block
  return {
    type,
    mode: Number(stat.mode & 0o7777n),
    uid: Number(stat.uid),
    gid: Number(stat.gid),
    mtimeNs: stat.mtimeNs,
    ctimeNs: stat.ctimeNs,
    inode: stat.ino,
    size: type === types.file ? stat.size : isDevice ? deviceNumber(stat.rdev) : 0n,
  }
}

/** The kernel's packed number, as glibc unpacks it, to `major << 32 | minor`. */
function deviceNumber(rdev: bigint): bigint {
  const major = ((rdev >> 32n) & 0xfffff000n) | ((rdev >> 8n) & 0xfffn)
  const minor = ((rdev >> 12n) & 0xffffff00n) | (rdev & 0xffn)
  return (major << 32n) | minor
}

const writer = new ByteWriter(16_384)

/** The record's bytes: a copy. */
export function encodeRecord(record: Omit<TreeRecord, 'flags'> & { readonly flags: number }): Buffer {
  writer.clear()
  const kept = record.flags & (flags.linked | flags.changed)
  const given = record.attributesId ? flags.attributesChunk : record.attributes ? flags.attributes : 0
  writer
    .u16(0)
    .u8(record.type)
    .u8(kept | given)
    .u16(record.mode)
  writer.u8(record.name.length).u8(record.profile).u32(record.uid).u32(record.gid)
  const [mtime, mtimeRest] = split(record.mtimeNs)
  const [ctime, ctimeRest] = split(record.ctimeNs)
  writer.i64(mtime).i64(ctime).u32(mtimeRest).u32(ctimeRest)
  writer.i64(BigInt.asIntN(64, record.inode)).i64(BigInt.asIntN(64, record.size)).put(record.name)
  if (record.target) writer.u16(record.target.length).put(record.target)
  if (record.content) {
    const { level, references } = record.content
    writer
      .u8(level)
      .u16(references.length / referenceLength)
      .put(references)
  }
  if (record.attributesId) writer.put(record.attributesId)
  else if (record.attributes) writer.u16(record.attributes.length).put(record.attributes)
  writer.patchU16(0, writer.length)
  return Buffer.from(writer.view())
}

/** The record that ends a directory. */
export const endRecord: Buffer = Buffer.from([4, 0, types.end, 0])

function split(ns: bigint): [bigint, number] {
  const rest = ((ns % nsPerSecond) + nsPerSecond) % nsPerSecond
  return [(ns - rest) / nsPerSecond, Number(rest)]
}

/** Reads the next record, or null for the end of a directory. @throws CORRUPT for whatever breaks section 6.3 */
export function readRecord(reader: ByteReader): TreeRecord | null {
  const start = reader.position
  const length = reader.u16()
  const type = reader.u8()
  const recordFlags = reader.u8()
  if (type === types.end && length === endRecord.length && recordFlags === 0) return null
  if (type < types.file || type > types.socket || length < headLength) reader.fail('unknown record')
  const mode = reader.u16()
  const nameLength = reader.u8()
  const profile = reader.u8()
  const [uid, gid, mtime, ctime] = [reader.u32(), reader.u32(), reader.i64(), reader.i64()]
  const mtimeNs = mtime * nsPerSecond + BigInt(reader.u32())
  const ctimeNs = ctime * nsPerSecond + BigInt(reader.u32())
  const [inode, size] = [BigInt.asUintN(64, reader.i64()), BigInt.asUintN(64, reader.i64())]
  const name = checkedName(reader, reader.take(nameLength))
  const target = type === types.symlink ? reader.take(reader.u16()) : undefined
  const content = type === types.file ? readContent(reader, size) : undefined
  const attributesId = recordFlags & flags.attributesChunk ? reader.take(idLength) : undefined
  const attributes = recordFlags & flags.attributes ? reader.take(reader.u16()) : undefined
  if (reader.position !== start + length || mode > 0o7777) reader.fail('a record of another length')
  const stat = { type, mode, uid, gid, mtimeNs, ctimeNs, inode, size }
  return { ...stat, flags: recordFlags, profile, name, target, content, attributes, attributesId }
}

function readContent(reader: ByteReader, size: bigint): Content {
  if (size > BigInt(Number.MAX_SAFE_INTEGER)) reader.fail('a file is too large')
  const level = reader.u8()
  const count = reader.u16()
  if (count > inlineReferences) reader.fail('too many references')
  const references = reader.take(count * referenceLength)
  checkReferences(references, level, Number(size), 'a record')
  return { level, references }
}

/** @returns `name` @throws CORRUPT for one that would lead elsewhere */
export function checkedName(reader: ByteReader, name: Buffer): Buffer {
  if (name.includes(0) || name.includes(0x2f)) reader.fail('a name with / or NUL')
  if (name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e))) reader.fail('a name . or ..')
  return name
}

/** A record's file length. */
export function sizeOf(record: TreeStat): Bytes {
  return record.type === types.file ? Number(record.size) : 0
}
