/**
 * A bed for the device-mapper driver: a new pool on the machine's scratch disks (HOLDFAST_LAB_DISKS: the first for data, the second
 * for metadata), which therefore is one of the kernel lab, or has disks to spare. One bed at a time.
 */

import { randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { devicemapper } from '../../drivers/devicemapper/devicemapper.ts'
import type { Driver } from '../../src/driver.ts'
import type { Bytes } from '../../src/model.ts'
import { noArchive } from '../support/no-archive.ts'
import { context, type DriverBed, makeScratch, removeScratch, sh } from './driver-bed.ts'

export interface PoolBed extends DriverBed {
  /** Device-mapper name of the pool. */
  readonly pool: string
  /** Path of the device that holds its metadata. */
  readonly metadata: string
  /** Makes its data device as large as this. */
  enlarge(size: Bytes): Promise<void>
}

/** The disks that the tests may overwrite. */
export function labDisks(): [string, string] {
  const [data, metadata] = (process.env.HOLDFAST_LAB_DISKS ?? '').split(' ')
  if (!data || !metadata) throw new Error('two disks are needed: scripts/lab/run --disk 2G --disk 2G')
  return [data, metadata]
}

/** A driver on a pool of this size that is made when it is started. */
export async function poolBed(size: Bytes, settings: Readonly<Record<string, string>> = {}): Promise<PoolBed> {
  const scratch = await makeScratch()
  const [disk, metadata] = labDisks()
  for (const path of [disk, metadata]) await makeBlank(path)
  const pool = `holdfast_test_${randomUUID().slice(0, 8)}`
  const data = `${pool}_data`
  const table = (length: Bytes) => `0 ${length / 512} linear ${disk} 0`
  await sh('dmsetup', 'create', data, '--table', table(size))
  const given = { 'data-device': `/dev/mapper/${data}`, 'metadata-device': metadata, 'pool-name': pool, ...settings }
  let latest: Driver | undefined
  return {
    directory: scratch,
    pool,
    metadata,
    enlarge: async (length) => {
      await sh('dmsetup', 'reload', data, '--table', table(length))
      await sh('dmsetup', 'resume', data)
    },
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
      for (const name of [pool, data]) if (existsSync(`/dev/mapper/${name}`)) await sh('dmsetup', 'remove', name)
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
