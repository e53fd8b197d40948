/**
 * Labels: what tells whose a thin device is. A label is one page of a thin device, far behind the end of any volume, so that no
 * file system sees it; snapshots have that of their volume. It is read and written through a device that is as long as that.
 */

import { open } from 'node:fs/promises'
import type { Bytes } from '../../src/model.ts'
import { largestVolume } from './options.ts'

export interface Label {
  /** Id of the volume. */
  readonly volume: string
  /** When the volume was made. */
  readonly name: string
  readonly size: Bytes
  /** False while it is being made. */
  readonly complete: boolean
  /** Id of the volume that had this content before it became this one's. */
  readonly from?: string
}

const pageSize = 4096
const magic = 'holdfast thin volume 1\n'

/** Where the label begins, and how long a device must be to have one. Node takes no position beyond 2^53. */
const offset = largestVolume
export const labelledSize = offset + pageSize

/** Durable when it resolves, with all that was written to the thin device and flushed before. */
export async function writeLabel(device: string, label: Label): Promise<void> {
  const page = Buffer.alloc(pageSize)
  page.write(`${magic}${JSON.stringify(label)}`)
  const file = await open(device, 'r+')
  try {
    await file.write(page, 0, pageSize, offset)
    await file.sync()
  } finally {
    await file.close()
  }
}

/** @returns null when there is none */
export async function readLabel(device: string): Promise<Label | null> {
  const file = await open(device, 'r')
  try {
    const { buffer } = await file.read(Buffer.alloc(pageSize), 0, pageSize, offset)
    return parseLabel(buffer)
  } finally {
    await file.close()
  }
}

/** @returns null for anything else than a label */
export function parseLabel(page: Buffer): Label | null {
  const text = page.toString('utf8')
  if (!text.startsWith(magic)) return null
  try {
    const label = JSON.parse(text.slice(magic.length, text.indexOf('\0'))) as Partial<Label>
    return typeof label.volume === 'string' && typeof label.size === 'number' ? (label as Label) : null
  } catch {
    return null
  }
}
