/**
 * A bed for the device-mapper driver: a new pool on the machine's scratch disks (HOLDFAST_LAB_DISKS: the first for data, the second
 * for metadata), which therefore is one of the kernel lab, or has disks to spare. One bed at a time.
 */

import { randomUUID } from 'node:crypto'
import { open } from 'node:fs/promises'
import { devicemapper } from '../../drivers/devicemapper/devicemapper.ts'
import type { Driver } from '../../src/driver.ts'
import { noArchive } from '../support/no-archive.ts'
import { context, type DriverBed, makeScratch, removeScratch, sh } from './driver-bed.ts'

export interface PoolBed extends DriverBed {
  /** Device-mapper name of the pool. */
  readonly pool: string
}

/** The disks that the tests may overwrite. */
export function labDisks(): [string, string] {
  const [data, metadata] = (process.env.HOLDFAST_LAB_DISKS ?? '').split(' ')
  if (!data || !metadata) throw new Error('two disks are needed: scripts/lab/run --disk 2G --disk 2G')
  return [data, metadata]
}

/** A driver on a pool that is made when it is started. */
export async function poolBed(settings: Readonly<Record<string, string>> = {}): Promise<PoolBed> {
  const scratch = await makeScratch()
  const [data, metadata] = labDisks()
  for (const disk of [data, metadata]) await makeBlank(disk)
  const pool = `holdfast_test_${randomUUID().slice(0, 8)}`
  const given = { 'data-device': data, 'metadata-device': metadata, 'pool-name': pool, ...settings }
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
      return [...strays, ...(await idleDevices())]
    },
    dispose: async () => {
      await removeScratch(scratch)
      for (const name of [...(await idleDevices()), ...(await deviceNames()).filter((it) => it === pool)]) {
        await sh('dmsetup', 'remove', '--retry', name)
      }
    },
  }
}

async function makeBlank(disk: string): Promise<void> {
  const file = await open(disk, 'r+')
  await file.write(Buffer.alloc(2 ** 20), 0, 2 ** 20, 0)
  await file.sync()
  await file.close()
}

async function deviceNames(): Promise<string[]> {
  const list = await sh('dmsetup', 'ls')
  return list.split('\n').flatMap((line) => (line.includes('\t') ? (line.split('\t')[0] as string) : []))
}

/** Devices of volumes and snapshots that nothing has open. */
async function idleDevices(): Promise<string[]> {
  const list = await sh('dmsetup', 'info', '-c', '--noheadings', '--separator', ' ', '-o', 'name,open')
  return list.split('\n').flatMap((line) => (/^holdfast-\S+ 0$/.test(line) ? (line.split(' ')[0] as string) : []))
}
