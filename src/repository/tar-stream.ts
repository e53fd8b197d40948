/**
 * Records as entries of a tar archive, for GNU tar to make the files of: Node can neither set times to the nanosecond, nor extended attributes, nor make
 * devices. Format: ustar headers; GNU `L` and `K` entries for long names, as they take any bytes; pax records for what does not fit a header.
 * Names come from checked records, in directories held open. Does no I/O.
 */

import { AppError } from '../errors.ts'
import type { Attribute } from './attributes.ts'
import { type TreeStat, types } from './tree-record.ts'

export interface TarEntry {
  /** As the kernel takes it; raw bytes. */
  readonly path: Buffer
  readonly stat: TreeStat
  readonly target: Buffer | undefined
  readonly attributes: readonly Attribute[]
}

const blockLength = 512
const nameRoom = 100
const maxOctal = 0o7777777
const typeFlags: Readonly<Record<number, string>> = {
  [types.file]: '0',
  [types.symlink]: '2',
  [types.character]: '3',
  [types.block]: '4',
  [types.directory]: '5',
  [types.fifo]: '6',
}

/** Two blocks of zeros. */
export const endOfArchive: Buffer = Buffer.alloc(2 * blockLength)

/** Zeros that fill the last block behind `length` bytes of data. */
export function padding(length: number): Buffer {
  return Buffer.alloc((blockLength - (length % blockLength)) % blockLength)
}

/** What comes before the data of an entry; `length` bytes of data must follow, padded. @throws NOT_SUPPORTED for a socket */
export function tarHeader(entry: TarEntry, length: number): Buffer {
  const { path, stat, target } = entry
  const flag = typeFlags[stat.type]
  if (flag === undefined) throw new AppError('NOT_SUPPORTED', 'tar archives have no entry for a socket')
  const parts: Buffer[] = []
  if (path.length > nameRoom) parts.push(longName('L', path))
  if (target && target.length > nameRoom) parts.push(longName('K', target))
  parts.push(withData('x', Buffer.from('pax'), paxRecords(entry, length)))
  parts.push(header(path, flag, length, stat, target))
  return Buffer.concat(parts)
}

function longName(flag: string, name: Buffer): Buffer {
  return withData(flag, Buffer.from('././@LongLink'), Buffer.concat([name, Buffer.alloc(1)]))
}

function withData(flag: string, name: Buffer, data: Buffer): Buffer {
  return Buffer.concat([header(name, flag, data.length), data, padding(data.length)])
}

function paxRecords({ stat, attributes }: TarEntry, length: number): Buffer {
  const records = [paxRecord('mtime', Buffer.from(decimalSeconds(stat.mtimeNs)))]
  if (stat.uid > maxOctal) records.push(paxRecord('uid', Buffer.from(String(stat.uid))))
  if (stat.gid > maxOctal) records.push(paxRecord('gid', Buffer.from(String(stat.gid))))
  if (length > maxOctal) records.push(paxRecord('size', Buffer.from(String(length))))
  for (const { name, value } of attributes) records.push(paxRecord(`SCHILY.xattr.${name}`, value))
  return Buffer.concat(records)
}

/** `LENGTH KEY=VALUE\n`, where LENGTH counts itself. */
function paxRecord(key: string, value: Buffer): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${key}=`, 'latin1'), value, Buffer.from('\n')])
  let length = rest.length + 1
  while (String(length).length + rest.length > length) length++
  return Buffer.concat([Buffer.from(String(length)), rest])
}

/** Nanoseconds as seconds, exactly: `-1.500000000`. */
export function decimalSeconds(ns: bigint): string {
  const positive = ns < 0n ? -ns : ns
  const rest = String(positive % 1_000_000_000n).padStart(9, '0')
  return `${ns < 0n ? '-' : ''}${positive / 1_000_000_000n}.${rest}`
}

function header(name: Buffer, flag: string, length: number, stat?: TreeStat, target?: Buffer): Buffer {
  const block = Buffer.alloc(blockLength)
  name.copy(block, 0, 0, Math.min(nameRoom, name.length))
  octal(block, 100, 8, stat?.mode ?? 0o644)
  octal(block, 108, 8, Math.min(stat?.uid ?? 0, maxOctal))
  octal(block, 116, 8, Math.min(stat?.gid ?? 0, maxOctal))
  octal(block, 124, 12, length)
  octal(block, 136, 12, 0)
  block.write(flag, 156, 'latin1')
  target?.copy(block, 157, 0, Math.min(nameRoom, target.length))
  block.write('ustar\x0000', 257, 'latin1')
  if (stat && (stat.type === types.character || stat.type === types.block)) {
    octal(block, 329, 8, Number(stat.size >> 32n))
    octal(block, 337, 8, Number(stat.size & 0xffffffffn))
  }
  block.write('        ', 148, 'latin1')
  octal(block, 148, 7, sumOf(block))
  return block
}

function sumOf(block: Buffer): number {
  let sum = 0
  for (let at = 0; at < blockLength; at++) sum += block[at] as number
  return sum
}

function octal(block: Buffer, at: number, length: number, value: number): void {
  block.write(`${value.toString(8).padStart(length - 1, '0')}\0`, at, 'latin1')
}
