/** Extended attributes of one file, ACLs included: their encoding in a record (FORMAT.md 6.3) and getfattr's dump of them. */

import { AppError } from '../errors.ts'
import { ByteReader, ByteWriter } from './cursor.ts'

export interface Attribute {
  /** With its namespace: `user.mime`, `system.posix_acl_access`. */
  readonly name: string
  readonly value: Buffer
}

/** @returns undefined for none */
export function encodeAttributes(attributes: readonly Attribute[]): Buffer | undefined {
  if (attributes.length === 0) return undefined
  const writer = new ByteWriter()
  writer.u16(attributes.length)
  for (const { name, value } of attributes.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    const bytes = Buffer.from(name, 'latin1')
    writer.u16(bytes.length).put(bytes).u32(value.length).put(value)
  }
  return Buffer.from(writer.view())
}

/** @throws CORRUPT */
export function decodeAttributes(bytes: Uint8Array): Attribute[] {
  const reader = new ByteReader(bytes, 'a list of attributes')
  const attributes: Attribute[] = []
  for (let count = reader.u16(); count > 0; count--) {
    const name = reader.take(reader.u16()).toString('latin1')
    if (name.length === 0 || name.length > 255 || /[\0=\n%]/.test(name)) reader.fail('an impossible name')
    attributes.push({ name, value: reader.take(reader.u32()) })
  }
  reader.end()
  return attributes
}

/**
 * Reads what `getfattr --dump --encoding=hex` prints. @returns attributes by the path as it was given
 * @throws INTERNAL for text that is not such a dump
 */
export function parseDump(text: string): Map<string, Attribute[]> {
  const files = new Map<string, Attribute[]>()
  let current: Attribute[] | undefined
  for (const line of text.split('\n')) {
    if (line === '') current = undefined
    else if (line.startsWith('# file: ')) {
      current = []
      files.set(unquote(line.slice(8)), current)
    } else current = appended(current, line)
  }
  return files
}

function appended(current: Attribute[] | undefined, line: string): Attribute[] {
  const match = /^([^=]+)(?:=0[xX]([0-9a-fA-F]*))?$/.exec(line)
  if (!current || !match?.[1])
    throw new AppError('INTERNAL', `getfattr printed what is not understood: ${line.slice(0, 80)}`)
  current.push({ name: unquote(match[1]), value: Buffer.from(match[2] ?? '', 'hex') })
  return current
}

/** getfattr writes some bytes as a backslash and three octal digits. */
function unquote(text: string): string {
  return text.replace(/\\([0-3][0-7]{2})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)))
}
