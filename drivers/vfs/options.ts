/** The vfs driver's options of a volume and what it remembers of one: parsing and checking, no I/O. */

import { isAbsolute, normalize } from 'node:path'
import type { OptionHelp } from '../../src/driver.ts'
import { AppError } from '../../src/errors.ts'
import type { DriverState, Volume, VolumeSpec } from '../../src/model.ts'

/** The keys of `-o` that are this driver's own. */
export const volumeOptions: Readonly<Record<string, OptionHelp>> = {
  uid: { description: "owner of the volume's root directory", example: '999' },
  gid: { description: "group of the volume's root directory", example: '999' },
  mode: { description: "permissions of the volume's root directory, octal", example: '0750' },
  adopt: { description: 'use this existing directory; it is never deleted', example: '/srv/data' },
  fs: { description: 'with size: keep the volume in an image file with this file system, ext4 or xfs', example: 'xfs' },
}

/** What an image may hold, the default first. */
export const imageFileSystems = ['ext4', 'xfs'] as const

/** The file system in an image. */
export type ImageFileSystem = (typeof imageFileSystems)[number]

/** What a user asked of the root directory; null leaves it as it is. */
export interface Attributes {
  readonly uid: number | null
  readonly gid: number | null
  readonly mode: number | null
}

/** A volume's options, parsed; null is not given. */
export interface VfsOptions extends Attributes {
  /** As given: absolute and normal, symlinks not resolved. */
  readonly adopt: string | null
  readonly fs: ImageFileSystem | null
}

function parseNumber(
  key: string,
  text: string | undefined,
  pattern: RegExp,
  radix: number,
  max: number,
): number | null {
  if (text === undefined) return null
  const value = pattern.test(text) ? Number.parseInt(text, radix) : Number.NaN
  if (value <= max) return value
  const form = radix === 8 ? 'an octal number from 0 to 7777, such as 0750' : 'a number from 0 to 4294967294'
  throw new AppError('INVALID_ARGUMENT', `'${text}' is no value for ${key}; give ${form}`)
}

/** @throws INVALID_ARGUMENT for anything else than `ext4` and `xfs` */
export function parseFileSystem(key: string, text: string): ImageFileSystem {
  const known = imageFileSystems.find((name) => name === text)
  if (known) return known
  throw new AppError('INVALID_ARGUMENT', `'${text}' is no value for ${key}; give one of ${imageFileSystems.join(', ')}`)
}

function parseAdopt(text: string | undefined): string | null {
  if (text === undefined) return null
  if (!isAbsolute(text) || text.includes('\0')) {
    throw new AppError(
      'INVALID_ARGUMENT',
      `'${text}' cannot be adopted; give the absolute path of an existing directory`,
    )
  }
  return normalize(text).replace(/(.)\/$/, '$1')
}

/** @throws INVALID_ARGUMENT for a value or a combination that cannot be, NOT_SUPPORTED for an adopted directory with a size */
export function parseOptions(spec: VolumeSpec): VfsOptions {
  const { uid, gid, mode, adopt, fs } = spec.options
  const options: VfsOptions = {
    uid: parseNumber('uid', uid, /^\d{1,10}$/, 10, 2 ** 32 - 2),
    gid: parseNumber('gid', gid, /^\d{1,10}$/, 10, 2 ** 32 - 2),
    mode: parseNumber('mode', mode, /^[0-7]{1,5}$/, 8, 0o7777),
    adopt: parseAdopt(adopt),
    fs: fs === undefined ? null : parseFileSystem('fs', fs),
  }
  if (options.fs && spec.size === null) {
    throw new AppError('INVALID_ARGUMENT', `fs=${fs} is for a volume with a size; give size as well, or leave fs out`)
  }
  if (options.adopt !== null && spec.size !== null) {
    throw new AppError(
      'NOT_SUPPORTED',
      `a size cannot be enforced on the adopted directory ${options.adopt}, which may hold anything already; ` +
        'leave size out, or create a volume of that size and copy the data into it',
    )
  }
  return options
}

/** How a volume is kept. */
export type Kind = 'directory' | 'subvolume' | 'image'

/** How a snapshot is kept: as a volume is, or in the archive. */
export type SnapshotKind = Kind | 'archive'

/** What enforces a size. */
export type Limit = 'project' | 'qgroup' | 'image'

/** What the driver remembers of a volume: its `Volume.state`. */
export interface VfsState extends DriverState {
  readonly kind: Kind
  readonly limit: Limit | null
  /** The adopted directory, symlinks resolved. */
  readonly adopt: string | null
  readonly trashed: boolean
}

/** @throws CORRUPT when the record is not one of this driver's */
export function stateOf(volume: Volume): VfsState {
  const state = volume.state as Partial<VfsState> | null
  if (state && ['directory', 'subvolume', 'image'].includes(state.kind ?? '') && typeof state.trashed === 'boolean') {
    return state as VfsState
  }
  throw new AppError(
    'CORRUPT',
    `the record of volume ${volume.name} does not say how it is kept; its data is untouched`,
  )
}
