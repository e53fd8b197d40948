/** What is restored: checks what a user asked for, and says which backup of which repository goes where. Changes nothing. */

import type { Driver } from '../../driver.ts'
import { AppError } from '../../errors.ts'
import type { StoreAccess, Volume } from '../../model.ts'
import type { NewVolume } from '../volumes/contract.ts'
import type { FoundRepository, StoredBackup } from './repositories.ts'

/** What is restored, as the journal keeps it. */
export type Source = {
  readonly url: string
  readonly access: StoreAccess
  readonly repositoryId?: string | undefined
  readonly backup: string
  /** '' for all. */
  readonly path: string
}

/** A backup, and where it is. */
export interface Found {
  readonly repository: FoundRepository
  readonly backup: StoredBackup
}

/** @throws NOT_SUPPORTED */
export function sourceOf({ repository, backup }: Found, path: string, driver: Driver): Source {
  // A driver that offers a device to restore onto would be asked here.
  if (backup.kind === 'block') {
    const fact = `is of a block device, and driver ${driver.name} keeps directories`
    throw new AppError('NOT_SUPPORTED', `backup ${backup.id} ${fact}; restore it with a driver of block devices`)
  }
  const { url, access, repositoryId } = repository
  return { url, access, repositoryId, backup: backup.id, path }
}

/** A volume's content is replaced by another's only when the backup itself was named. @throws FAILED_PRECONDITION */
export function requireOwn({ name }: Volume, { backup }: Found): void {
  if (backup.volume === name) return
  const fact = `the latest backup is of volume ${backup.volume}, not of ${name}`
  const remedy = `restore it to a new volume, or if it is meant, give its id: ${backup.id}`
  throw new AppError('FAILED_PRECONDITION', `${fact}; ${remedy}`)
}

/** @throws INVALID_ARGUMENT */
export function requireNothingAsked(name: string, asked: NewVolume): void {
  const isAsked = (value: unknown): boolean =>
    typeof value === 'object' ? Object.keys(value as object).length > 0 : value !== undefined
  const [key] = Object.entries(asked).find(([, value]) => isAsked(value)) ?? []
  if (key === undefined) return
  const remedy = `${key} is for a new one; leave it out, or restore to another name`
  throw new AppError('INVALID_ARGUMENT', `volume ${name} is restored in place, and stays what it is: ${remedy}`)
}

/** @returns the path without slashes that mean nothing @throws INVALID_ARGUMENT */
export function checkPath(path: string): string {
  const parts = path.split('/').filter((part) => part !== '')
  if (!parts.some((part) => part === '.' || part === '..')) return parts.join('/')
  throw new AppError('INVALID_ARGUMENT', `'${path}' is not a path within a backup; leave out '.' and '..'`)
}
