/** What the kernel says of a thin pool and of a thin device in its status lines and tables: parsing, no I/O. */

import { AppError } from '../../src/errors.ts'
import type { Bytes } from '../../src/model.ts'

export const sectorSize = 512

export type PoolMode = 'rw' | 'ro' | 'out_of_data_space' | 'failed'

export interface PoolStatus {
  readonly mode: PoolMode
  readonly needsCheck: boolean
  /** Of the metadata snapshot that is held, or null. */
  readonly heldRoot: number | null
  readonly metadata: Room
  /** In blocks of the pool. */
  readonly data: Room
}

/** Blocks. */
export interface Room {
  readonly used: number
  readonly total: number
}

const nothing: Room = { used: 0, total: 0 }

function parseRoom(text: string | undefined): Room {
  const [used, total] = (text ?? '').split('/').map(Number)
  return { used: used ?? 0, total: total ?? 0 }
}

/** @throws INTERNAL for anything that is not a pool's status */
export function parsePoolStatus(line: string): PoolStatus {
  const [, , target, transaction, metadata, data, held, ...flags] = line.split(/\s+/)
  if (target !== 'thin-pool') throw new AppError('INTERNAL', `'${line}' is not the status of a thin pool`)
  if (transaction === 'Fail' || transaction === 'Error') {
    return { mode: 'failed', needsCheck: true, heldRoot: null, metadata: nothing, data: nothing }
  }
  return {
    mode: (['rw', 'ro', 'out_of_data_space'] as const).find((mode) => flags.includes(mode)) ?? 'failed',
    needsCheck: flags.includes('needs_check'),
    heldRoot: held === '-' ? null : Number(held),
    metadata: parseRoom(metadata),
    data: parseRoom(data),
  }
}

/** Bytes that a thin device holds; null when the device has failed. */
export function parseMapped(line: string): Bytes | null {
  const [, , target, mapped] = line.split(/\s+/)
  if (target !== 'thin') throw new AppError('INTERNAL', `'${line}' is not the status of a thin device`)
  return mapped !== undefined && /^\d+$/.test(mapped) ? Number(mapped) * sectorSize : null
}

export interface PoolTable {
  readonly size: Bytes
  /** `MAJOR:MINOR` */
  readonly metadata: string
  readonly data: string
  readonly blockSize: Bytes
}

/** @returns null when it is not a pool's table */
export function parsePoolTable(line: string): PoolTable | null {
  const [, length, target, metadata, data, block] = line.split(/\s+/)
  if (target !== 'thin-pool' || metadata === undefined || data === undefined) return null
  return { size: Number(length) * sectorSize, metadata, data, blockSize: Number(block) * sectorSize }
}

export const metadataBlock: Bytes = 4096

/** The kernel uses no more of a metadata device: THIN_METADATA_MAX_BLOCKS. */
export const mostMetadataBlocks = 255 * (2 ** 14 - 64)

/** The kernel keeps a tenth, 4 MiB at most, for itself. */
export function isMetadataFull({ metadata: { used, total } }: PoolStatus): boolean {
  return total > 0 && used + Math.min(1024, Math.floor(total / 10)) >= total
}

/** What the metadata device of a pool must hold, by the kernel's formula: 48 bytes for each block, 2 MiB at least, 16 GiB at most. */
export function metadataSize(data: Bytes, blockSize: Bytes): Bytes {
  const bytes = Math.ceil((48 * data) / blockSize / metadataBlock) * metadataBlock
  return Math.min(Math.max(bytes, 2 * 2 ** 20), 16 * 2 ** 30)
}
