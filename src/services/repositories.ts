/**
 * From what a user typed to the repository or the backup that is meant: names of targets, URLs, ids cut short. Reads the catalog; only
 * an id that is not whole costs a listing.
 */

import { isAbsolute } from 'node:path'
import type { JobResult } from '../engine/jobs.ts'
import type { Place } from '../engine/place.ts'
import { AppError } from '../errors.ts'
import type { StoreAccess } from '../model.ts'
import { normalizeStoreUrl } from '../objectstore/store-url.ts'
import type { BackupRef, BackupView, RepositoryRef } from './contract.ts'
import type { Core } from './core.ts'

/** A repository that can be opened. */
export interface FoundRepository {
  /** As users see it: the target's name, or the URL. */
  readonly name: string
  /** Normalized. */
  readonly url: string
  readonly access: StoreAccess
}

/** A backup that was asked for, looked at as little as an id needs. */
export interface WantedBackup {
  readonly repository: FoundRepository
  /** `latest`, or 8 to 32 hex digits. */
  readonly id: string
  /** The volume whose latest is meant; none: that of any. */
  readonly latestOf?: string
}

export type StoredBackup = JobResult<'getBackup'>

const mark = '?backup='
const idPattern = /^(latest|[0-9a-f]{8,32})$/
const wholeId = 32

/** Without what was not said. @throws INVALID_ARGUMENT for a file that is not an absolute path, or a key without the other */
export function checkAccess(access: StoreAccess = {}): StoreAccess {
  const said = Object.fromEntries(Object.entries(access).filter(([, value]) => value !== undefined)) as StoreAccess
  for (const file of filesOf(said)) {
    if (!isAbsolute(file)) throw new AppError('INVALID_ARGUMENT', `'${file}' is not an absolute path; begin it with /`)
  }
  if ((said.accessKeyFile === undefined) !== (said.secretKeyFile === undefined)) {
    throw new AppError('INVALID_ARGUMENT', 'an access key file and a secret key file belong together; give both')
  }
  return said
}

/** The files that hold its secrets. */
export function filesOf({ accessKeyFile, secretKeyFile, passphraseFile }: StoreAccess): string[] {
  return [accessKeyFile, secretKeyFile, passphraseFile].filter((file) => file !== undefined)
}

/** What the engine needs to open it. */
export function placeOf({ url, access }: Pick<FoundRepository, 'url' | 'access'>): Place {
  const { encryption, ...rest } = access
  return { url, ...rest, sse: encryption }
}

/** @throws INVALID_ARGUMENT, NOT_FOUND for a target */
export function findRepository(core: Core, { at, access }: RepositoryRef): FoundRepository {
  const given = checkAccess(access)
  const isGiven = Object.keys(given).length > 0
  if (!at.includes('://')) {
    const target = core.catalog.target(at)
    if (!target) throw new AppError('NOT_FOUND', `there is no target ${at}; see: holdfast target ls`)
    if (!isGiven) return target
    throw new AppError('INVALID_ARGUMENT', `target ${at} has its own settings; leave the options for its store out`)
  }
  const url = normalizeStoreUrl(at)
  const target = core.catalog.targets().find((known) => known.url === url)
  return isGiven || !target ? { name: url, url, access: given } : target
}

/** @throws INVALID_ARGUMENT, NOT_FOUND for a target */
export function parseBackup(core: Core, { backup, access }: BackupRef): WantedBackup {
  const [at, id] = splitBackup(backup)
  return { repository: findRepository(core, { at, access }), id }
}

function splitBackup(text: string): [string, string] {
  const isUrl = text.includes('://')
  const cut = isUrl ? text.lastIndexOf(mark) : text.indexOf('/')
  const id = text.slice(cut + (isUrl ? mark.length : 1)).toLowerCase()
  if (cut > 0 && idPattern.test(id)) return [text.slice(0, cut), id]
  throw new AppError(
    'INVALID_ARGUMENT',
    `'${text}' is not a backup; name it as TARGET/ID or URL${mark}ID, with at least 8 digits of the id or 'latest'`,
  )
}

/** Finds the backup in its repository. @throws NOT_FOUND, INVALID_ARGUMENT for digits of several */
export async function findBackup(core: Core, wanted: WantedBackup, signal?: AbortSignal): Promise<StoredBackup> {
  const { repository, id, latestOf } = wanted
  const { name } = repository
  if (id.length === wholeId) return core.engine.run(placeOf(repository), 'getBackup', { id }, { signal })
  const isLatest = id === 'latest'
  const filter = isLatest && latestOf !== undefined ? { volume: latestOf } : {}
  const backups = await core.engine.run(placeOf(repository), 'listBackups', filter, { signal })
  const [found, other] = isLatest ? backups.slice(-1) : backups.filter((backup) => backup.id.startsWith(id))
  if (other) throw new AppError('INVALID_ARGUMENT', `several backups in ${name} begin with ${id}; give more digits`)
  if (found) return found
  const what = isLatest ? `backup${latestOf === undefined ? '' : ` of volume ${latestOf}`}` : `backup ${id}`
  throw new AppError('NOT_FOUND', `there is no ${what} in ${name}; see: holdfast backup ls ${name}`)
}

export function backupUrl(url: string, id: string): string {
  return url + mark + id
}

/** The backup as users see it. */
export function backupView(url: string, backup: Omit<StoredBackup, 'damaged'>): BackupView {
  const { id, volume, snapshot, createdAt, size, added, kind, host, labels, parent, files, changed } = backup
  const shown = { volume, snapshot, createdAt, size, added, kind, host, labels, parent, files, changed }
  return { id, url: backupUrl(url, id), ...shown }
}
