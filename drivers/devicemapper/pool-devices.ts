/**
 * The two block devices of a pool of our own: given by the user, or sparse files behind loop devices; and what stands at the
 * beginning of the one for metadata.
 * Facts: losetup(8); struct thin_disk_superblock in Linux' drivers/md/dm-thin-metadata.c.
 */

import { mkdir, open, stat, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { AppError, isAppError } from '../../src/errors.ts'
import type { Bytes } from '../../src/model.ts'
import { exec, run } from '../../src/system/exec.ts'
import { lstatOrNothing } from '../../src/system/files.ts'
import { loopDevicesOf, refreshLoop } from '../../src/system/loop.ts'
import type { PoolPlace } from './options.ts'
import { metadataSize } from './status.ts'
import { numberOf } from './sysfs.ts'

/** Paths of block devices. */
export interface PoolDevices {
  readonly data: string
  readonly metadata: string
}

/**
 * @param directory where the files are for which there are no devices; made with them
 * @throws UNAVAILABLE when a device is not there
 */
export async function poolDevices(
  place: Exclude<PoolPlace, { kind: 'existing' }>,
  blockSize: Bytes,
  directory: string,
): Promise<PoolDevices> {
  if (place.kind === 'loop') {
    return {
      data: await loopOf(join(directory, 'data'), place.size),
      metadata: await loopOf(join(directory, 'metadata'), metadataSize(place.size, blockSize)),
    }
  }
  for (const path of [place.data, place.metadata]) {
    if (numberOf(path) !== undefined) continue
    throw new AppError('UNAVAILABLE', `${path} is no block device; attach the disk, or set the right device`)
  }
  return { data: place.data, metadata: place.metadata }
}

/** The loop device of a file, which is made, or made longer. */
async function loopOf(file: string, size: Bytes): Promise<string> {
  if (!(await lstatOrNothing(file))) await (await open(file, 'wx', 0o600)).close()
  if ((await stat(file)).size < size) {
    await truncate(file, size)
    await refreshLoop(file)
  }
  const [there] = await loopDevicesOf(file)
  return there ?? attach(file)
}

async function attach(file: string): Promise<string> {
  const args = ['--find', '--show', '--nooverlap']
  // Not every file system has direct I/O.
  const result = await run('losetup', [...args, '--direct-io=on', file])
  if (result.exitCode === 0) return result.stdout.trim()
  try {
    return (await exec('losetup', [...args, file])).trim()
  } catch (error) {
    if (!isAppError(error, 'INTERNAL')) throw error
    throw new AppError('UNAVAILABLE', `${file} cannot be attached to a loop device: ${error.message}`)
  }
}

/** Makes the directory of the files. */
export async function makeDirectory(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 })
}

/** What a metadata device says of itself; must not be asked of one that is in use. */
export interface Metadata {
  readonly needsCheck: boolean
  readonly blockSize: Bytes
}

const superBlockMagic = 27_022_010n

/** @returns null for a blank device @throws FAILED_PRECONDITION when it holds something else */
export async function readMetadata(path: string): Promise<Metadata | null> {
  const block = await readStart(path)
  if (block.readBigUInt64LE(32) === superBlockMagic) {
    return { needsCheck: (block.readUInt32LE(4) & 1) !== 0, blockSize: block.readUInt32LE(336) * 512 }
  }
  if (block.every((byte) => byte === 0)) return null
  throw new AppError(
    'FAILED_PRECONDITION',
    `${path} holds something else than the metadata of a thin pool; if nobody needs it: wipefs -a ${path} && ` +
      `dd if=/dev/zero of=${path} bs=4096 count=1`,
  )
}

async function readStart(path: string): Promise<Buffer> {
  const file = await open(path, 'r')
  try {
    return (await file.read(Buffer.alloc(4096), 0, 4096, 0)).buffer
  } finally {
    await file.close()
  }
}

/** A new pool overwrites its data device. @throws FAILED_PRECONDITION when that holds anything that is known */
export async function ensureBlank(path: string): Promise<void> {
  const found = await run('wipefs', ['--noheadings', '--output', 'TYPE', path])
  const types = found.stdout.split('\n').filter((type) => type.trim() !== '')
  if (found.exitCode === 0 && types.length === 0) return
  const what = types.length > 0 ? types.map((type) => type.trim()).join(', ') : found.stderr.trim()
  throw new AppError('FAILED_PRECONDITION', `${path} is not blank (${what}); if nobody needs it: wipefs -a ${path}`)
}
