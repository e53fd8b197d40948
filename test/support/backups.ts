/** Backups for tests of the services: a target in the core's own directory, and volumes of the fake driver with a text in them. */

import type { Operation } from '../../src/model.ts'
import { type CoreOptions, openCore, type TestCore } from './core.ts'

/** A core with the volume `db`, which holds `first`, and the target `t`. */
export async function coreWithTarget(options: CoreOptions = {}): Promise<TestCore> {
  const t = await openCore(options)
  await t.targets.add('t', `file://${t.beside('repository')}`)
  await t.volumes.create({ name: 'db' })
  setContent(t, 'db', 'first')
  return t
}

export function setContent(t: TestCore, volume: string, content: string): void {
  const id = t.core.catalog.volume(volume)?.id ?? ''
  const stored = t.driver.storage.get(id)
  if (!stored) throw new Error(`volume ${volume} has no data`)
  stored.content = content
}

/** Undefined when there is no such volume. */
export function contentOf(t: TestCore, volume: string): string | undefined {
  return t.driver.storage.get(t.core.catalog.volume(volume)?.id ?? '')?.content
}

/** The last operation of a kind. */
export function lastOf(t: TestCore, kind: string): Operation | undefined {
  return t.core.catalog.operations().findLast((operation) => operation.kind === kind)
}
