/**
 * A bed for the device-mapper driver: a new pool on the machine's scratch disks (HOLDFAST_LAB_DISKS: the first for data, the second
 * for metadata), which therefore is one of the kernel lab, or has disks to spare. One bed at a time.
 */

import { randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { resolve } from 'node:path'
import { devicemapper } from '../../drivers/devicemapper/devicemapper.ts'
import type { Driver } from '../../src/driver.ts'
import type { Bytes } from '../../src/model.ts'
import { noArchive } from '../support/no-archive.ts'
import { context, type DriverBed, makeScratch, removeScratch, sh } from './driver-bed.ts'

/** One of a pool's two devices. */
export type Part = 'data' | 'metadata'

export interface ThinBed extends DriverBed {
  /** Device-mapper name of the pool. */
  readonly pool: string
}

/** With a pool on devices of its own. */
export interface PoolBed extends ThinBed {
  /** Paths of its devices. */
  readonly data: string
  readonly metadata: string
  /** The driver's. */
  readonly settings: Readonly<Record<string, string>>
  /** Makes a device as large as this. */
  enlarge(part: Part, size: Bytes): Promise<void>
  /** From now on each write to a device fails, or none does. */
  fail(part: Part, fails: boolean): Promise<void>
}

export interface PoolBedOptions {
  /** Size of the device for metadata; default 64 MiB. */
  readonly metadata?: Bytes
}

/** The disks that the tests may overwrite. */
export function labDisks(): Record<Part, string> {
  const [data, metadata] = (process.env.HOLDFAST_LAB_DISKS ?? '').split(' ')
  if (!data || !metadata) throw new Error('two disks are needed: scripts/lab/run --disk 2G --disk 2G')
  return { data, metadata }
}

/** A driver on a pool of this size that is made when it is started. */
export async function poolBed(
  size: Bytes,
  settings: Readonly<Record<string, string>> = {},
  options: PoolBedOptions = {},
): Promise<PoolBed> {
  const pool = `holdfast_test_${randomUUID().slice(0, 8)}`
  const [data, metadata] = [
    await makePart(pool, 'data', size),
    await makePart(pool, 'metadata', options.metadata ?? 2 ** 26),
  ]
  const parts = { data, metadata }
  const given = { 'data-device': data.path, 'metadata-device': metadata.path, 'pool-name': pool, ...settings }
  const bed = await thinBed(pool, given)
  return {
    ...bed,
    data: data.path,
    metadata: metadata.path,
    settings: given,
    enlarge: (part, length) => parts[part].set({ size: length }),
    fail: (part, fails) => parts[part].set({ fails }),
    dispose: async () => {
      for (const part of [data, metadata]) await part.set({ fails: false })
      await bed.dispose()
      await removeDevices(pool, data.path, metadata.path)
    },
  }
}

/** A driver on a pool that another program has made. */
export function existingPoolBed(pool: string): Promise<ThinBed> {
  return thinBed(pool, { 'pool-name': pool })
}

/** A driver on a pool of two sparse files. */
export async function filePoolBed(settings: Readonly<Record<string, string>>): Promise<ThinBed> {
  const pool = 'holdfast_pool'
  const bed = await thinBed(pool, settings)
  return {
    ...bed,
    dispose: async () => {
      await bed.dispose()
      await removeDevices(pool)
      for (const device of await loopDevices(bed.directory)) await sh('losetup', '--detach', device)
      await removeScratch(bed.directory)
    },
  }
}

/** Loop devices of files in a directory. */
export async function loopDevices(directory: string): Promise<string[]> {
  const list = await sh('losetup', '--noheadings', '--raw', '--output', 'NAME,BACK-FILE')
  return list.split('\n').flatMap((line) => (line.includes(` ${directory}/`) ? (line.split(' ')[0] ?? []) : []))
}

async function removeDevices(...names: string[]): Promise<void> {
  for (const name of names) if (existsSync(resolve('/dev/mapper', name))) await sh('dmsetup', 'remove', name)
}

async function thinBed(pool: string, given: Readonly<Record<string, string>>): Promise<ThinBed> {
  const scratch = await makeScratch()
  let latest: Driver | undefined
  return {
    directory: scratch,
    pool,
    driver: () => {
      latest = devicemapper.create(given, { root: scratch, archive: noArchive })
      return latest
    },
    leftovers: async () => {
      const findings = (await latest?.check(context(), [])) ?? []
      const strays = findings.filter(({ check }) => check === 'data-without-record').map(({ message }) => message)
      return [...strays, ...(await idleDevices(pool))]
    },
    dispose: async () => {
      await removeScratch(scratch)
      // What a failed test has left open must not hold the pool.
      for (const name of await devicesOn(pool)) await sh('dmsetup', 'remove', '--force', name).catch(() => undefined)
    },
  }
}

interface PoolPart {
  readonly path: string
  set(changed: { readonly size?: Bytes; readonly fails?: boolean }): Promise<void>
}

/** A device of its own on the beginning of a disk, which is overwritten. */
async function makePart(pool: string, part: Part, size: Bytes): Promise<PoolPart> {
  const [name, disk] = [`${pool}_${part}`, labDisks()[part]]
  await makeBlank(disk)
  let now = { size, fails: false }
  const table = () => {
    const length = now.size / 512
    return now.fails ? `0 ${length} flakey ${disk} 0 0 3600 1 error_writes` : `0 ${length} linear ${disk} 0`
  }
  await sh('dmsetup', 'create', name, '--table', table())
  return {
    path: `/dev/mapper/${name}`,
    set: async (changed) => {
      const before = table()
      now = { ...now, ...changed }
      if (table() === before) return
      await sh('dmsetup', 'reload', name, '--table', table())
      await sh('dmsetup', 'resume', name)
    },
  }
}

async function makeBlank(disk: string): Promise<void> {
  const file = await open(disk, 'r+')
  await file.write(Buffer.alloc(2 ** 20), 0, 2 ** 20, 0)
  await file.sync()
  await file.close()
}

/** Names of the thin devices of a pool that are active. */
async function devicesOn(pool: string): Promise<string[]> {
  if (!existsSync(`/dev/mapper/${pool}`)) return []
  const number = (
    await sh('dmsetup', 'info', '-c', '--noheadings', '--separator', ':', '-o', 'major,minor', pool)
  ).trim()
  const tables = (await sh('dmsetup', 'table')).split('\n')
  return tables.filter((line) => line.includes(` thin ${number} `)).map((line) => line.slice(0, line.indexOf(': ')))
}

/** Those that nothing has open. */
async function idleDevices(pool: string): Promise<string[]> {
  const list = await sh('dmsetup', 'info', '-c', '--noheadings', '--separator', ' ', '-o', 'open,name')
  const idle = list.split('\n').flatMap((line) => (line.startsWith('0 ') ? line.slice(2) : []))
  return (await devicesOn(pool)).filter((name) => idle.includes(name))
}
