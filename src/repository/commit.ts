/** Makes a backup exist: the last step of its order of writes (FORMAT.md 7), after a look at what prunes did meanwhile (8.1). */

import { AppError } from '../errors.ts'
import type { IndexWriter } from './index-writer.ts'
import { loadReliableChunks } from './known-chunks.ts'
import { newId, objectName } from './layout.ts'
import { type Backup, encodeManifest, type Manifest, parseManifest } from './manifest.ts'
import { Reachable } from './reachable.ts'
import type { TaskContext } from './tasks.ts'

/** What the caller of a backup says about it. */
export interface BackupLabels {
  readonly createdAt: string
  readonly host: string
  readonly volume: string
  readonly snapshot: string | null
  readonly labels: Readonly<Record<string, string>>
  readonly program: string
}

/**
 * Writes the indexes that are left, then the manifest. All packs must be durable.
 * @param since when the known chunks were read, ms
 * @throws ABORTED when a prune condemned meanwhile what the backup relies on: run it again
 */
export function commit(
  { bridge, seal }: TaskContext,
  manifest: Omit<Manifest, 'version' | 'added'>,
  { index, since, graceMs }: { readonly index: IndexWriter; readonly since: number; readonly graceMs: number },
): Backup {
  index.flush()
  if (Date.now() - since > graceMs / 2) lookAgain({ bridge, seal }, manifest)
  const id = newId('manifests')
  const name = objectName('manifests', id)
  const complete: Manifest = { version: 1, ...manifest, added: index.added }
  const bytes = new Uint8Array(seal.sealObject('M', name, encodeManifest(complete)))
  bridge.call('put', { key: name, bytes }, [bytes.buffer])
  return { id, ...complete }
}

function lookAgain(context: TaskContext, manifest: Omit<Manifest, 'version' | 'added'>): void {
  const table = loadReliableChunks(context, 0)
  const reachable = new Reachable(context, table)
  reachable.addBackup({ kind: manifest.kind, root: manifest.root })
  if (reachable.missing.length === 0) return
  throw new AppError(
    'ABORTED',
    `the backup of ${manifest.volume} took longer than half of the repository's grace period and a prune removed what it relied on; run it again`,
  )
}

/** Reads a manifest. @throws NOT_FOUND, CORRUPT */
export function readBackup({ bridge, seal }: TaskContext, id: string): Backup {
  const name = objectName('manifests', id)
  const object = bridge.call('getIfThere', { key: name })
  if (!object)
    throw new AppError('NOT_FOUND', `there is no backup ${id} in this repository; list them with 'backup ls'`)
  return parseManifest(id, seal.openObject('M', name, object))
}
