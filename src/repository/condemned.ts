/** The object that says which packs are going to be deleted (FORMAT.md 8.2): as waste, or as damaged. Writes it; finds none. */

import { AppError } from '../errors.ts'
import { newId, objectName } from './layout.ts'
import type { TaskContext } from './tasks.ts'

export interface Condemned {
  readonly id: string
  /** Ids of packs. */
  readonly packs: readonly string[]
  /** Bytes of theirs were found altered: what is in them may be lost. */
  readonly damaged: boolean
}

/** From now on no writer that starts relies on these packs; a prune deletes them after the grace period. Nothing for no packs. */
export function condemn({ bridge, seal }: TaskContext, packs: readonly string[], why: 'waste' | 'damage'): void {
  if (packs.length === 0) return
  const name = objectName('condemned', newId('condemned'))
  const content = JSON.stringify({ version: 1, packs, ...(why === 'damage' && { damaged: true }) })
  const bytes = new Uint8Array(seal.sealObject('C', name, Buffer.from(content)))
  bridge.call('put', { key: name, bytes }, [bytes.buffer])
}

/** @throws CORRUPT */
export function parseCondemned(id: string, content: Uint8Array): Condemned {
  const fail = () => new AppError('CORRUPT', `condemned/${id} is corrupt; it is ignored, and a later prune removes it`)
  let value: { version?: unknown; packs?: unknown; damaged?: unknown }
  try {
    value = JSON.parse(Buffer.from(content).toString())
  } catch {
    throw fail()
  }
  const packs = value?.version === 1 && Array.isArray(value.packs) ? (value.packs as unknown[]) : undefined
  if (!packs?.every((pack): pack is string => typeof pack === 'string' && /^[0-9a-f]{64}$/.test(pack))) throw fail()
  return { id, packs, damaged: value.damaged === true }
}
