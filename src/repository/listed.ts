/**
 * What the store lists of packs and manifests. Who compares them reads the manifests first: all that a manifest needs was there before it, so that what is
 * listed later has it.
 */

import type { ListedObject } from './bridge.ts'
import { fetched } from './known-chunks.ts'
import { folders, idOf } from './layout.ts'
import type { TaskContext } from './tasks.ts'

/** All packs, by id. */
export function listPacks({ bridge }: TaskContext): Map<string, ListedObject> {
  const packs = new Map<string, ListedObject>()
  for (const object of bridge.list(folders.packs)) {
    const id = idOf('packs', object.key)
    if (id) packs.set(id, object)
  }
  return packs
}

/** All manifests, or the one of backup `only`; unopened. */
export function* listedManifests(
  { bridge }: TaskContext,
  only: string | null = null,
): Generator<{ id: string; name: string; object: Uint8Array }> {
  const listed = [...bridge.list(folders.manifests)].filter(({ key }) => {
    const id = idOf('manifests', key)
    return id !== undefined && (only === null || only === id)
  })
  for (const { name, object } of fetched(bridge, listed)) yield { id: idOf('manifests', name) ?? '', name, object }
}
