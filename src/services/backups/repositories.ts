/**
 * From what a user typed to the repository or the backup that is meant: names of targets, URLs, ids cut short. Reads the catalog; which
 * backup it is, backup-choice.ts finds.
 */

import { isAbsolute } from 'node:path'
import type { JobResult } from '../../engine/jobs.ts'
import type { Place } from '../../engine/place.ts'
import { AppError } from '../../errors.ts'
import type { StoreAccess, Target } from '../../model.ts'
import { normalizeStoreUrl } from '../../objectstore/store-url.ts'
import { parseVolumeName, suggestion } from '../../units.ts'
import type { Core } from '../core.ts'
import type { BackupRef, BackupView, RepositoryRef } from './contract.ts'

/** A repository that can be opened. */
export interface FoundRepository {
  /** As users see it: the target's name, or the URL. */
  readonly name: string
  /** Normalized. */
  readonly url: string
  readonly access: StoreAccess
  /** A target's: no other one is opened. */
  readonly repositoryId?: string | undefined
}

/** A backup that was asked for, by one of two. */
export interface WantedBackup {
  readonly repository: FoundRepository
  /** 8 to 32 hex digits, or null: the latest. */
  readonly id: string | null
  /** The volume whose latest is meant, where that was said. */
  readonly latestOf: string | null
}

export type StoredBackup = JobResult<'getBackup'>

const mark = '?backup='
const idPattern = /^[0-9a-f]{8,32}$/

/** What only an S3 server has, by the words that users type. */
const s3Words: Readonly<Partial<Record<keyof StoreAccess, string>>> = {
  endpoint: 'endpoint',
  region: 'region',
  accessKeyFile: 'access-key-file',
  secretKeyFile: 'secret-key-file',
  pathStyle: 'path-style',
  storageClass: 'storage-class',
  encryption: 'encryption',
  kmsKeyId: 'kms-key-id',
}

/**
 * Without what was not said. @param url of the store, normalized
 * @throws INVALID_ARGUMENT for a file that is not an absolute path, a key without the other, and what that kind of store does not have
 */
export function checkAccess(url: string, access: StoreAccess = {}): StoreAccess {
  const said = Object.fromEntries(Object.entries(access).filter(([, value]) => value !== undefined)) as StoreAccess
  for (const file of filesOf(said)) checkFile(file)
  const foreign = Object.keys(said).flatMap((key) => s3Words[key as keyof StoreAccess] ?? [])
  if (!url.startsWith('s3:') && foreign.length > 0) {
    const words = foreign.map((word) => `--${word}`).join(', ')
    throw new AppError('INVALID_ARGUMENT', `${url} is a directory, for which ${words} mean nothing; leave them out`)
  }
  if ((said.accessKeyFile === undefined) !== (said.secretKeyFile === undefined)) {
    throw new AppError('INVALID_ARGUMENT', 'an access key file and a secret key file belong together; give both')
  }
  return said
}

/** @returns the file @throws INVALID_ARGUMENT */
export function checkFile(file: string): string {
  if (isAbsolute(file)) return file
  throw new AppError('INVALID_ARGUMENT', `'${file}' is not an absolute path; begin it with /`)
}

/** The files that hold its secrets. */
export function filesOf({ accessKeyFile, secretKeyFile, passphraseFile }: StoreAccess): string[] {
  return [accessKeyFile, secretKeyFile, passphraseFile].filter((file) => file !== undefined)
}

/** What the engine needs to open it. */
export function placeOf({ url, access, repositoryId }: Omit<FoundRepository, 'name'>): Place {
  const { encryption, ...rest } = access
  return { url, repositoryId, ...rest, sse: encryption }
}

/** @throws NOT_FOUND, with the nearest name */
export function requireTarget({ catalog }: Core, name: string): Target {
  const target = catalog.target(name)
  if (target) return target
  const names = catalog.targets().map((known) => known.name)
  const remedy = names.length > 0 ? suggestion(name, names) : '; there are none yet: holdfast target add'
  throw new AppError('NOT_FOUND', `there is no target ${name}${remedy}`)
}

/** The one form of a URL. @throws INVALID_ARGUMENT, for a path and for a backup with what may be meant */
export function parseRepositoryUrl(text: string): string {
  if (isAbsolute(text)) {
    throw new AppError('INVALID_ARGUMENT', `'${text}' is not a URL; did you mean file://${text}?`)
  }
  const cut = text.includes('://') ? text.lastIndexOf(mark) : -1
  if (cut > 0) throw namesBackup(text, text.slice(0, cut))
  return normalizeStoreUrl(text)
}

function namesBackup(text: string, at: string): AppError {
  return new AppError('INVALID_ARGUMENT', `'${text}' names a backup, and a repository is wanted here: ${at}`)
}

/** @throws INVALID_ARGUMENT, NOT_FOUND for a target */
export function findRepository(core: Core, { at, access }: RepositoryRef): FoundRepository {
  const isGiven = Object.values(access ?? {}).some((value) => value !== undefined)
  if (!at.includes('://') && !isAbsolute(at)) {
    const slash = at.indexOf('/')
    if (slash > 0) throw namesBackup(at, at.slice(0, slash))
    const target = requireTarget(core, at)
    if (!isGiven) return target
    throw new AppError('INVALID_ARGUMENT', `target ${at} has its own settings; leave the options for its store out`)
  }
  const url = parseRepositoryUrl(at)
  const given = checkAccess(url, access)
  const target = core.catalog.targets().find((known) => known.url === url)
  return isGiven || !target ? { name: url, url, access: given } : target
}

/** @throws INVALID_ARGUMENT, NOT_FOUND for a target */
export function parseBackup(core: Core, { backup, access }: BackupRef): WantedBackup {
  const [at, name] = splitBackup(backup)
  return { ...parseChoice(backup, name), repository: findRepository(core, { at, access }) }
}

function splitBackup(text: string): [at: string, name: string] {
  if (isAbsolute(text)) parseRepositoryUrl(text)
  const [separator, cut] = text.includes('://') ? [mark, text.lastIndexOf(mark)] : ['/', text.indexOf('/')]
  if (cut > 0) return [text.slice(0, cut), text.slice(cut + separator.length)]
  const fact = text === '' ? 'nothing was given where' : `'${text}' names a repository, and`
  const remedy = `add ${separator}VOLUME@latest or ${separator}ID; see: holdfast backup ls`
  throw new AppError('INVALID_ARGUMENT', `${fact} a backup is wanted; ${remedy}`)
}

function parseChoice(text: string, name: string): Pick<WantedBackup, 'id' | 'latestOf'> {
  const id = name.toLowerCase()
  if (id === 'latest') return { id: null, latestOf: null }
  if (idPattern.test(id)) return { id, latestOf: null }
  if (id.endsWith('@latest')) return { id: null, latestOf: parseVolumeName(name.slice(0, name.lastIndexOf('@'))) }
  throw new AppError(
    'INVALID_ARGUMENT',
    `'${text}' is not a backup: behind the repository stands VOLUME@latest, or an id or its first 8 digits or more`,
  )
}

export function backupUrl(url: string, id: string): string {
  return url + mark + id
}

/** The backup as users see it. */
export function backupView(url: string, backup: Omit<StoredBackup, 'damaged'> & { damaged?: boolean }): BackupView {
  const { id, volume, snapshot, createdAt, size, added, kind, host, labels, parent, files, changed } = backup
  const shown = { volume, snapshot, createdAt, size, added, kind, host, labels, parent, files, changed }
  return { id, url: backupUrl(url, id), ...shown, ...(backup.damaged && { damaged: true }) }
}
