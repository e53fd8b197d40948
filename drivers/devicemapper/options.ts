/** The device-mapper driver's settings, its options of a volume, and what it remembers of one: parsing and checking, no I/O. */

import { isAbsolute } from 'node:path'
import type { OptionHelp } from '../../src/driver.ts'
import { AppError } from '../../src/errors.ts'
import type { Bytes, DriverState, Snapshot, Volume, VolumeSpec } from '../../src/model.ts'
import { type Attributes, attributeOptions, parseAttributes } from '../../src/system/attributes.ts'
import { formatSize, parseSize } from '../../src/units.ts'

/** What a volume may hold, the default first. */
export const fileSystems = ['ext4', 'xfs'] as const

export type FileSystem = (typeof fileSystems)[number]

/** The keys of `--driver-opt devicemapper.KEY`. */
export const settingsHelp: Readonly<Record<string, OptionHelp>> = {
  'data-device': { description: 'device that holds the blocks of the thin pool', example: '/dev/sdb2' },
  'metadata-device': { description: "device that holds the pool's metadata", example: '/dev/sdb1' },
  'pool-name': {
    description: 'device-mapper name of the pool; without data-device: of one that another program made, such as LVM',
    example: 'vg0-pool-tpool',
  },
  'block-size': { description: 'blocks of a new pool, 64K to 1G; default 64K', example: '128K' },
  'loop-size': { description: 'without any device: size of the sparse file that stands for one; default 100G' },
  fs: { description: 'file system of volumes, ext4 or xfs; default ext4', example: 'xfs' },
  'default-size': { description: 'size of volumes for which none is asked; default 10G', example: '20G' },
  'mkfs-options': { description: 'further arguments of mkfs for volumes with the default fs', example: '-i 65536' },
  'mount-options': { description: 'further mount options of volumes with the default fs', example: 'noatime' },
  overcommit: {
    description: 'how many times the size of the pool volumes may have together, or off; default 10',
    example: '2.5',
  },
  'low-water': { description: 'percentage of the pool that must be free to make a volume; default 5', example: '10' },
  'error-if-no-space': {
    description: 'give writers errors when the pool is full (true), or let them wait (false); default true',
  },
}

/** The keys of `-o` that are this driver's own. */
export const volumeOptions: Readonly<Record<string, OptionHelp>> = {
  ...attributeOptions,
  fs: { description: 'file system, ext4 or xfs', example: 'xfs' },
}

/** Where the pool is. */
export type PoolPlace =
  | { readonly kind: 'devices'; readonly name: string; readonly data: string; readonly metadata: string }
  | { readonly kind: 'existing'; readonly name: string }
  | { readonly kind: 'loop'; readonly name: string; readonly size: Bytes }

export interface Settings {
  readonly pool: PoolPlace
  readonly blockSize: Bytes
  readonly fs: FileSystem
  readonly defaultSize: Bytes
  readonly mkfsOptions: readonly string[]
  readonly mountOptions: readonly string[]
  /** Null: no limit. */
  readonly overcommit: number | null
  /** Share of the pool, 0 to 1. */
  readonly lowWater: number
  readonly errorIfNoSpace: boolean
}

const KiB = 2 ** 10
const GiB = 2 ** 30
const prefix = 'devicemapper'

/** @throws INVALID_ARGUMENT */
export function parseSettings(given: Readonly<Record<string, string>>): Settings {
  return {
    pool: parsePool(given),
    blockSize: parseBlockSize(given['block-size'] ?? '64K'),
    fs: parseFileSystem(`${prefix}.fs`, given.fs ?? fileSystems[0]),
    defaultSize: parseSizeOf('default-size', given['default-size'] ?? '10G'),
    mkfsOptions: parseMkfsOptions(given['mkfs-options'] ?? ''),
    mountOptions: parseMountOptions(given['mount-options'] ?? ''),
    overcommit: parseOvercommit(given.overcommit ?? '10'),
    lowWater: parsePercentage(given['low-water'] ?? '5'),
    errorIfNoSpace: parseFlag(given['error-if-no-space'] ?? 'true'),
  }
}

function refuse(key: string, text: string, remedy: string): AppError {
  return new AppError('INVALID_ARGUMENT', `'${text}' is no value for ${prefix}.${key}; ${remedy}`)
}

function parsePool(given: Readonly<Record<string, string>>): PoolPlace {
  const { 'data-device': data, 'metadata-device': metadata, 'pool-name': name } = given
  if (name !== undefined && !/^[A-Za-z0-9_.+-]{1,100}$/.test(name)) {
    throw refuse('pool-name', name, 'give the name that `dmsetup ls` shows')
  }
  if (data === undefined && metadata === undefined) {
    if (name !== undefined) return { kind: 'existing', name }
    return { kind: 'loop', name: ownName, size: parseSizeOf('loop-size', given['loop-size'] ?? '100G') }
  }
  return {
    kind: 'devices',
    name: checkOwnName(name ?? ownName),
    data: parseDevice('data-device', data),
    metadata: parseDevice('metadata-device', metadata),
  }
}

function parseDevice(key: string, path: string | undefined): string {
  if (path === undefined) {
    throw new AppError('INVALID_ARGUMENT', `${prefix}.${key} is missing: a pool of Holdfast's own needs two devices`)
  }
  if (isAbsolute(path) && !path.includes('\0')) return path
  throw refuse(key, path, 'give the absolute path of a block device')
}

function checkOwnName(name: string): string {
  if (!name.startsWith('holdfast-')) return name
  throw refuse('pool-name', name, "volumes' devices are named holdfast-NAME; choose another")
}

/** A volume's device is never named so. */
const ownName = 'holdfast_pool'

function parseSizeOf(key: string, text: string): Bytes {
  try {
    return parseSize(text)
  } catch (error) {
    throw new AppError('INVALID_ARGUMENT', `${prefix}.${key}: ${(error as Error).message}`)
  }
}

function parseBlockSize(text: string): Bytes {
  const size = parseSizeOf('block-size', text)
  if (size >= 64 * KiB && size <= GiB && size % (64 * KiB) === 0) return size
  throw refuse('block-size', text, 'give a multiple of 64K up to 1G')
}

function parseMkfsOptions(text: string): string[] {
  const words = text.split(/\s+/).filter((word) => word !== '')
  if (words.length === 0 || words[0]?.startsWith('-')) return words
  throw refuse('mkfs-options', text, 'begin with an option, such as -i 65536')
}

function parseMountOptions(text: string): string[] {
  const words = text.split(',').filter((word) => word !== '')
  const bad = words.find((word) => !/^[\w.:=@/+-]+$/.test(word))
  if (bad === undefined) return words
  throw refuse('mount-options', text, 'give options of mount(8), separated by commas')
}

function parseOvercommit(text: string): number | null {
  if (text === 'off') return null
  const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN
  if (value >= 1) return value
  throw refuse('overcommit', text, 'give a number of at least 1, or off')
}

function parsePercentage(text: string): number {
  const value = /^\d+(\.\d+)?%?$/.test(text) ? Number.parseFloat(text) : Number.NaN
  if (value < 100) return value / 100
  throw refuse('low-water', text, 'give a percentage from 0 to 99')
}

function parseFlag(text: string): boolean {
  if (text === 'true' || text === 'false') return text === 'true'
  throw refuse('error-if-no-space', text, 'give true or false')
}

/** @throws INVALID_ARGUMENT for anything else than `ext4` and `xfs` */
function parseFileSystem(key: string, text: string): FileSystem {
  const known = fileSystems.find((name) => name === text)
  if (known) return known
  throw new AppError('INVALID_ARGUMENT', `'${text}' is no value for ${key}; give one of ${fileSystems.join(', ')}`)
}

/** A volume's options, parsed. */
export interface VolumeOptions extends Attributes {
  /** Null is not given. */
  readonly fs: FileSystem | null
}

/** @throws INVALID_ARGUMENT */
export function parseOptions(spec: VolumeSpec): VolumeOptions {
  const { fs } = spec.options
  return { ...parseAttributes(spec.options), fs: fs === undefined ? null : parseFileSystem('fs', fs) }
}

/** mkfs.xfs refuses less than 300 MiB. */
const smallest: Readonly<Record<FileSystem, Bytes>> = { ext4: 16 * 2 ** 20, xfs: 300 * 2 ** 20 }

/** Where labels are (label.ts). */
export const largestVolume: Bytes = 2 ** 52

/** @returns whole pages @throws INVALID_ARGUMENT for a size that a volume with this file system cannot have */
export function checkSize(fs: FileSystem, size: Bytes): Bytes {
  const rounded = Math.ceil(size / 4096) * 4096
  if (rounded < smallest[fs]) {
    throw new AppError(
      'INVALID_ARGUMENT',
      `a volume of ${formatSize(size)} is too small: its file system ${fs} needs ${formatSize(smallest[fs])}`,
    )
  }
  if (rounded <= largestVolume) return rounded
  throw new AppError(
    'INVALID_ARGUMENT',
    `a volume of ${formatSize(size)} is too large; the limit is ${formatSize(largestVolume)}`,
  )
}

/** What the driver remembers of a volume: its `Volume.state`. */
export interface VolumeState extends DriverState {
  /** Its number in the pool. */
  readonly thin: number
  /** Of its device. */
  readonly size: Bytes
  /** Null: nothing is on the device yet that can be mounted. */
  readonly fs: FileSystem | null
  /** How often it has got a device of another number. */
  readonly generation: number
  readonly trashed: boolean
}

/** What the driver remembers of a snapshot. */
export interface SnapshotState extends DriverState {
  readonly thin: number
  readonly size: Bytes
  readonly fs: FileSystem | null
}

function isThin(state: DriverState | null): state is SnapshotState {
  return state !== null && Number.isInteger(state.thin) && typeof state.size === 'number'
}

/** @throws CORRUPT when the record is not one of this driver's */
export function stateOf(volume: Volume): VolumeState {
  if (isThin(volume.state) && typeof volume.state.trashed === 'boolean') return volume.state as VolumeState
  throw new AppError(
    'CORRUPT',
    `the record of volume ${volume.name} does not say which thin device it is; its data is untouched`,
  )
}

/** @throws CORRUPT when the record is not one of this driver's */
export function snapshotStateOf(snapshot: Snapshot): SnapshotState {
  if (isThin(snapshot.state)) return snapshot.state
  throw new AppError(
    'CORRUPT',
    `the record of snapshot ${snapshot.name} does not say which thin device it is; its data is untouched`,
  )
}
