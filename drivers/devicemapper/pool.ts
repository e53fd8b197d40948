/**
 * The thin pool: made active from its devices, or found active when another program owns it; its status, its growth, and what
 * is to be done when it is broken. A pool of another program is never created, extended or removed.
 */

import type { Log } from '../../src/driver.ts'
import { AppError, isAppError } from '../../src/errors.ts'
import type { Bytes } from '../../src/model.ts'
import { nodeOf } from './devices.ts'
import { createDevices, hasTarget, message, replaceTable, statusOf, tableOf } from './dmsetup.ts'
import type { Settings } from './options.ts'
import { ensureBlank, makeDirectory, type PoolDevices, poolDevices, readMetadata } from './pool-devices.ts'
import {
  isMetadataFull,
  metadataBlock,
  metadataSize,
  mostMetadataBlocks,
  type PoolStatus,
  type PoolTable,
  parsePoolStatus,
  parsePoolTable,
  sectorSize,
} from './status.ts'
import { numberOf, pathOf, sizeOf } from './sysfs.ts'

export interface Pool {
  readonly name: string
  /** `MAJOR:MINOR` */
  readonly number: string
  readonly blockSize: Bytes
  /** False: another program's. */
  readonly own: boolean
  /** Paths. */
  readonly metadata: string
  readonly data: string
}

/**
 * @param isKnown whether there are volumes that must be in it
 * @throws UNAVAILABLE when it is not there, or needs repair
 */
export async function openPool(settings: Settings, directory: string, isKnown: boolean, log: Log): Promise<Pool> {
  const { pool: place } = settings
  const table = await activeTable(place.name)
  if (place.kind === 'existing') {
    if (table) return poolOf(place.name, table, false)
    throw new AppError(
      'UNAVAILABLE',
      `there is no thin pool ${place.name}; make it active (LVM: lvchange -ay VG/POOL), or set devicemapper.data-device`,
    )
  }
  if (place.kind === 'loop') await makeDirectory(directory)
  const devices = await poolDevices(place, settings.blockSize, directory)
  if (table) return { ...takeOver(place.name, table, devices), ...devices }
  await activatePool(settings, devices, isKnown, log)
  const made = await activeTable(place.name)
  if (!made) throw new AppError('UNAVAILABLE', `thin pool ${place.name} is gone again`)
  // By the names that the user knows them by.
  return { ...poolOf(place.name, made, true), ...devices }
}

/** @returns null when no device has this name @throws FAILED_PRECONDITION when it is something else */
async function activeTable(name: string): Promise<PoolTable | null> {
  const line = await tableOf(name).catch((error: unknown) => {
    if (isAppError(error, 'NOT_FOUND')) return null
    throw error
  })
  if (line === null) return null
  const table = parsePoolTable(line)
  if (table) return table
  const remedy = numberOf(nodeOf(`${name}-tpool`)) ? `; LVM's is ${name}-tpool` : '; set devicemapper.pool-name'
  throw new AppError('FAILED_PRECONDITION', `the device ${name} is not a thin pool${remedy}`)
}

function poolOf(name: string, table: PoolTable, own: boolean): Pool {
  const number = numberOf(nodeOf(name))
  if (number === undefined) throw new AppError('UNAVAILABLE', `thin pool ${name} has no node ${nodeOf(name)}`)
  return { name, number, own, blockSize: table.blockSize, metadata: pathOf(table.metadata), data: pathOf(table.data) }
}

function takeOver(name: string, table: PoolTable, devices: PoolDevices): Pool {
  if (numberOf(devices.data) === table.data && numberOf(devices.metadata) === table.metadata) {
    return poolOf(name, table, true)
  }
  throw new AppError(
    'FAILED_PRECONDITION',
    `thin pool ${name} is active on ${pathOf(table.data)} and ${pathOf(table.metadata)}, not on ${devices.data} and ` +
      `${devices.metadata}; correct the settings, or set devicemapper.pool-name`,
  )
}

async function activatePool(settings: Settings, devices: PoolDevices, isKnown: boolean, log: Log): Promise<void> {
  const { name } = settings.pool
  const metadata = await readMetadata(devices.metadata)
  if (!metadata) await prepareNew(devices, settings.blockSize, isKnown)
  else if (metadata.needsCheck) throw brokenPool({ name, own: true, ...devices }, 'its metadata needs a check')
  const blockSize = metadata?.blockSize ?? settings.blockSize
  if (blockSize !== settings.blockSize)
    log.info({ pool: name, blockSize }, 'the pool keeps the block size it was made with')
  const table = tableFor(settings, devices, blockSize)
  try {
    await createDevices([{ name, uuid: `holdfast-pool-${name}`, table }])
  } catch (error) {
    if (isAppError(error, 'IN_USE')) {
      const fact = `${devices.data} or ${devices.metadata} is in use by something else (${error.message})`
      throw new AppError(
        'FAILED_PRECONDITION',
        `thin pool ${name} cannot be made: ${fact}; free it, or set other devices`,
      )
    }
    if (isAppError(error, 'INTERNAL', 'NOT_FOUND')) {
      if (!(await hasTarget('thin-pool'))) throw noThinPools()
      throw brokenPool({ name, own: true, ...devices }, `it cannot be made active: ${error.message}`)
    }
    throw error
  }
}

function noThinPools(): AppError {
  return new AppError(
    'UNAVAILABLE',
    'this kernel has device-mapper, but no thin pools; install or load its module dm-thin-pool (modprobe dm-thin-pool), or use another driver',
  )
}

async function prepareNew({ data, metadata }: PoolDevices, blockSize: Bytes, isKnown: boolean): Promise<void> {
  if (isKnown) {
    throw new AppError(
      'UNAVAILABLE',
      `${metadata} is blank although volumes are known; attach the disk that belongs there`,
    )
  }
  await ensureBlank(data)
  const [size, needed] = [deviceSize(metadata), metadataSize(deviceSize(data), blockSize)]
  if (size >= Math.min(needed, 2 ** 21)) return
  throw new AppError(
    'FAILED_PRECONDITION',
    `${metadata} is too small for the metadata of ${data}: it needs ${needed} bytes`,
  )
}

function deviceSize(path: string): Bytes {
  return sizeOf(numberOf(path) ?? '') ?? 0
}

function tableFor(settings: Settings, { data, metadata }: PoolDevices, blockSize: Bytes): string {
  const blocks = Math.floor(deviceSize(data) / blockSize)
  const [length, block] = [(blocks * blockSize) / sectorSize, blockSize / sectorSize]
  const lowWater = Math.floor(blocks * settings.lowWater)
  const features = settings.errorIfNoSpace ? '1 error_if_no_space' : '0'
  return `0 ${length} thin-pool ${metadata} ${data} ${block} ${lowWater} ${features}`
}

/** Asks the kernel, without waiting for what is being written. */
export async function readStatus(pool: Pool, signal?: AbortSignal): Promise<PoolStatus> {
  return parsePoolStatus(await statusOf(pool.name, signal))
}

/** Of a pool that is merely full, what is there can be read. @throws UNAVAILABLE with the commands that repair it */
export function ensureUsable(pool: Pool, status: PoolStatus): void {
  if (status.mode === 'failed') throw brokenPool(pool, 'it has failed')
  if (status.needsCheck) throw brokenPool(pool, 'its metadata needs a check')
  if (status.mode === 'ro' && !isMetadataFull(status)) throw brokenPool(pool, 'it is read-only')
}

/** How a pool is repaired. */
export function repairOf({ name, own, metadata }: Pick<Pool, 'name' | 'own' | 'metadata'>): string {
  if (!own)
    return `stop what uses it, then with LVM: lvchange -an VG/POOL; lvconvert --repair VG/POOL; lvchange -ay VG/POOL`
  return (
    `stop the daemon and what uses its volumes, then: dmsetup remove ${name}; thin_check --clear-needs-check-flag ${metadata}; ` +
    `if that finds errors, with a spare device as large as ${metadata}: thin_repair -i ${metadata} -o SPARE, then ` +
    `dd if=SPARE of=${metadata} bs=1M conv=fsync; then start the daemon`
  )
}

function brokenPool(pool: Pick<Pool, 'name' | 'own' | 'metadata'>, fact: string): AppError {
  return new AppError('UNAVAILABLE', `thin pool ${pool.name} needs repair: ${fact}; ${repairOf(pool)}`)
}

/** Lets a pool of our own have the room that its devices have got. @returns whether it has grown */
export async function extendPool(pool: Pool, settings: Settings, status: PoolStatus): Promise<boolean> {
  // The kernel would refuse it to a pool that is broken.
  if (!pool.own || status.mode === 'failed' || status.needsCheck || !hasMoreRoom(pool, status)) return false
  await replaceTable(pool.name, tableFor(settings, pool, pool.blockSize))
  return true
}

function hasMoreRoom({ blockSize, ...paths }: Pool, { data, metadata }: PoolStatus): boolean {
  const dataBlocks = Math.floor(deviceSize(paths.data) / blockSize)
  const metadataBlocks = Math.floor(deviceSize(paths.metadata) / metadataBlock)
  return dataBlocks > data.total || Math.min(metadataBlocks, mostMetadataBlocks) > metadata.total
}

/** Lets go of a metadata snapshot that a crash has left. */
export async function releaseMetadata(pool: Pool): Promise<void> {
  await message(pool.name, 'release_metadata_snap')
}
