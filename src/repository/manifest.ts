/** Manifests: the objects that are the backups (FORMAT.md 7). Parsing trusts nothing. Does no I/O. */

import { AppError } from '../errors.ts'
import type { Bytes, Timestamp } from '../model.ts'

export type BackupKind = 'tree' | 'block'

export interface Manifest {
  readonly version: 1
  readonly kind: BackupKind
  /** The moment whose state it holds. */
  readonly createdAt: Timestamp
  readonly host: string
  readonly volume: string
  readonly snapshot: string | null
  readonly labels: Readonly<Record<string, string>>
  /** Id of the backup that this one was compared with. */
  readonly parent: string | null
  /** Id of the root chunk, hex. */
  readonly root: string
  /** Logical bytes: of all files, or of the device. */
  readonly size: Bytes
  /** Entries of a tree; 0 for a block backup. */
  readonly files: number
  /** Bytes that this backup stored in packs. */
  readonly added: Bytes
  /** Files that changed while they were read. */
  readonly changed: number
  /** What wrote it: `holdfast 0.1.0`. */
  readonly program: string
}

/** A manifest with its id. */
export interface Backup extends Manifest {
  /** 32 hex digits. */
  readonly id: string
}

const maxLength = 2 ** 20
const timePattern = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/

/** @throws INVALID_ARGUMENT when labels and names are together longer than a manifest may be */
export function encodeManifest(manifest: Manifest): Buffer {
  const bytes = Buffer.from(JSON.stringify(manifest))
  if (bytes.length > maxLength) {
    throw new AppError('INVALID_ARGUMENT', `the labels of a backup have ${bytes.length} bytes; keep them below 1 MiB`)
  }
  return bytes
}

/** Fields that this version does not know are passed over. @throws CORRUPT, NOT_SUPPORTED for a newer version */
export function parseManifest(id: string, content: Uint8Array): Backup {
  const value = parseJson(id, content)
  if (typeof value.version === 'number' && value.version > 1) {
    throw new AppError(
      'NOT_SUPPORTED',
      `backup ${id} has format version ${value.version}; this Holdfast reads version 1: update it`,
    )
  }
  const { kind, createdAt, host, volume, snapshot, labels, parent, root, size, files, added, changed, program } = value
  const sound =
    value.version === 1 &&
    (kind === 'tree' || kind === 'block') &&
    isTime(createdAt) &&
    isText(host) &&
    isText(volume) &&
    (snapshot === null || isText(snapshot)) &&
    isLabels(labels) &&
    (parent === null || isHex(parent, 32)) &&
    isHex(root, 64) &&
    [size, files, added, changed].every((count) => Number.isSafeInteger(count) && (count as number) >= 0) &&
    isText(program)
  if (!sound) throw corrupt(id)
  return { id, version: 1, kind, createdAt, host, volume, snapshot, labels, parent, root, program, ...counts(value) }
}

function counts(value: Record<string, unknown>) {
  const { size, files, added, changed } = value as Record<string, number>
  return { size: size ?? 0, files: files ?? 0, added: added ?? 0, changed: changed ?? 0 }
}

function parseJson(id: string, content: Uint8Array): Record<string, unknown> {
  if (content.length > maxLength) throw corrupt(id)
  let value: unknown
  try {
    value = JSON.parse(Buffer.from(content).toString())
  } catch {
    throw corrupt(id)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw corrupt(id)
  return value as Record<string, unknown>
}

function isText(value: unknown): value is string {
  return typeof value === 'string'
}

function isTime(value: unknown): value is string {
  return isText(value) && timePattern.test(value) && Number.isFinite(Date.parse(value))
}

function isHex(value: unknown, length: number): value is string {
  return isText(value) && value.length === length && /^[0-9a-f]+$/.test(value)
}

function isLabels(value: unknown): value is Record<string, string> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && Object.values(value).every(isText)
}

function corrupt(id: string): AppError {
  return new AppError(
    'CORRUPT',
    `the manifest of backup ${id} is corrupt; delete it with 'backup rm' and this whole id, and use another backup`,
  )
}
