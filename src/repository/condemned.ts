/** The object in which a prune says what it is going to delete (FORMAT.md 8.2). Does no I/O. */

import { AppError } from '../errors.ts'

export interface Condemned {
  readonly id: string
  /** Ids of packs. */
  readonly packs: readonly string[]
}

export function encodeCondemned(packs: readonly string[]): Buffer {
  return Buffer.from(JSON.stringify({ version: 1, packs }))
}

/** @throws CORRUPT */
export function parseCondemned(id: string, content: Uint8Array): Condemned {
  const fail = () =>
    new AppError('CORRUPT', `condemned/${id} is corrupt; delete that object: the next prune writes it anew`)
  let value: { version?: unknown; packs?: unknown }
  try {
    value = JSON.parse(Buffer.from(content).toString())
  } catch {
    throw fail()
  }
  const packs = value?.version === 1 && Array.isArray(value.packs) ? (value.packs as unknown[]) : undefined
  if (!packs?.every((pack): pack is string => typeof pack === 'string' && /^[0-9a-f]{64}$/.test(pack))) throw fail()
  return { id, packs }
}
