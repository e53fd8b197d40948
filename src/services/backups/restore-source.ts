/** What is restored: checks what a user asked for, and says which backup of which repository goes where. Changes nothing. */

import type { Driver } from '../../driver.ts'
import { AppError } from '../../errors.ts'
import type { Bytes, StoreAccess, Volume } from '../../model.ts'
import { formatSize } from '../../units.ts'
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
  /** The size of the device that it is a backup of; undefined for one of files. */
  readonly device?: Bytes
}

/** A backup, and where it is. */
export interface Found {
  readonly repository: FoundRepository
  readonly backup: StoredBackup
}

/** @throws NOT_SUPPORTED for the backup of a device where there are none, and for a path in one */
export function sourceOf({ repository, backup }: Found, path: string, driver: Driver): Source {
  const { url, access, repositoryId } = repository
  const source = { url, access, repositoryId, backup: backup.id, path }
  if (backup.kind === 'tree') return source
  if (!driver.device) {
    const fact = `is of a block device, and driver ${driver.name} keeps directories`
    throw new AppError('NOT_SUPPORTED', `backup ${backup.id} ${fact}; restore it with a driver of block devices`)
  }
  if (path !== '') {
    const fact = 'is of a block device, of which no single path can be restored'
    const remedy = 'restore all of it to a new volume, and copy what you need from there'
    throw new AppError('NOT_SUPPORTED', `backup ${backup.id} ${fact}; ${remedy}`)
  }
  return { ...source, device: backup.size }
}

export function isOfDevice(source: Source): source is Source & { readonly device: Bytes } {
  return source.device !== undefined
}

/**
 * The size of a volume that is made from the backup of a device.
 * @param asked null: that device's @throws INVALID_ARGUMENT for a smaller one, NOT_SUPPORTED for a larger one that cannot be
 */
export function sizeFor(
  asked: Bytes | null,
  device: Bytes,
  { backup, driver }: { backup: string; driver: Driver },
): Bytes {
  if (asked === null || asked === device) return device
  const fact = `backup ${backup} is of a device of ${formatSize(device)} (${device} bytes)`
  if (asked < device) {
    const remedy = 'leave the size out, or ask for no less'
    throw new AppError(
      'INVALID_ARGUMENT',
      `${fact}, which does not fit into a volume of ${formatSize(asked)}; ${remedy}`,
    )
  }
  if (driver.resize) return asked
  throw new AppError('NOT_SUPPORTED', `${fact}, and driver ${driver.name} cannot enlarge it; leave the size out`)
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
