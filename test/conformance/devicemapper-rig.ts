/**
 * What tests of the device-mapper driver do with one: as the service would, in short.
 */

import { createHash } from 'node:crypto'
import { open } from 'node:fs/promises'
import { onTestFinished } from 'vitest'
import type { BlockSource, Driver, DriverContext, Extent } from '../../src/driver.ts'
import type { Bytes, Snapshot, Volume } from '../../src/model.ts'
import { context, newSnapshot, newVolume, sh, targetIn } from './driver-bed.ts'
import { type PoolBed, type PoolBedOptions, poolBed, type ThinBed } from './driver-devicemapper.ts'

export const inLab = process.env.HOLDFAST_LAB === '1'
/** What a title says where the tests are not run. */
export const unless = inLab ? '' : ' (not run: this needs device-mapper; HOLDFAST_LAB=1 in the kernel lab has it)'
export const MiB = 2 ** 20
export const GiB = 2 ** 30

/** A driver on a pool of its own, which goes with the test. */
export async function started(
  size: Bytes,
  settings: Readonly<Record<string, string>> = {},
  options: PoolBedOptions = {},
  ctx = context(),
): Promise<Rig<PoolBed>> {
  return startedOn(await poolBed(size, settings, options), ctx)
}

/** Bed and driver go with the test. */
export async function startedOn<B extends ThinBed>(bed: B, ctx = context()): Promise<Rig<B>> {
  onTestFinished(() => bed.dispose())
  const driver = bed.driver()
  await driver.start(ctx, [], [])
  onTestFinished(() => driver.stop())
  return new Rig(bed, driver)
}

/** What the service does with a driver, in short. */
export class Rig<B extends ThinBed> {
  readonly bed: B
  readonly driver: Required<Driver>
  #count = 0

  constructor(bed: B, driver: Driver) {
    this.bed = bed
    this.driver = driver as Required<Driver>
  }

  async create(given: Partial<Volume> = {}): Promise<Volume> {
    const draft = newVolume(`v${++this.#count}`, { driver: 'devicemapper', size: 64 * MiB, ...given })
    return { ...draft, state: await this.driver.createVolume(context(), draft) }
  }

  async mounted<T>(volume: Volume, use: (root: string) => Promise<T>): Promise<T> {
    const target = targetIn(this.bed)
    await this.driver.mount(context(), volume, target)
    try {
      return await use(target)
    } finally {
      await this.driver.unmount(context(), volume, target)
    }
  }

  async snap(volume: Volume): Promise<Snapshot> {
    const snapshot = newSnapshot(volume, `s${++this.#count}`)
    return { ...snapshot, ...(await this.driver.snapshots.create(context(), volume, { ...snapshot, frozen: false })) }
  }

  /** The driver of a next daemon. */
  async restarted(known: readonly Volume[], snapshots: readonly Snapshot[] = []): Promise<Rig<B>> {
    await this.driver.stop()
    const driver = this.bed.driver()
    await driver.start(context(), known, snapshots)
    onTestFinished(() => driver.stop())
    return new Rig(this.bed, driver)
  }

  async opened<T>(volume: Volume, snapshot: Snapshot, base: Snapshot | null, use: (source: BlockSource) => Promise<T>) {
    const source = await this.driver.snapshots.open(context(), volume, snapshot, '/nowhere', base)
    try {
      return await use(source as BlockSource)
    } finally {
      await this.driver.snapshots.unmount(context(), volume, snapshot, '/nowhere')
    }
  }
}

/** The log's warnings, errors and notes in `said`. */
export function listening(said: string[]): DriverContext {
  const hear = (_fields: object, text: string): void => void said.push(text)
  return { ...context(), log: { debug: () => undefined, info: hear, warn: hear, error: hear } }
}

export function lengthOf(extents: readonly Extent[] | null): number {
  return (extents ?? []).reduce((sum, { start, end }) => sum + end - start, 0)
}

export async function digest(path: string, extents: readonly Extent[]): Promise<string> {
  const [hash, file, buffer] = [createHash('sha512'), await open(path, 'r'), Buffer.alloc(MiB)]
  for (const { start, end } of extents) {
    for (let at = start; at < end; at += MiB) {
      const length = Math.min(MiB, end - at)
      await file.read(buffer, 0, length, at)
      hash.update(buffer.subarray(0, length))
    }
  }
  await file.close()
  return hash.digest('hex')
}

export async function copy(from: string, to: string, extents: readonly Extent[]): Promise<void> {
  const [source, sink] = [await open(from, 'r'), await open(to, 'r+')]
  for (const { start, end } of extents) {
    for (let at = start; at < end; at += MiB) {
      const length = Math.min(MiB, end - at)
      await sink.write((await source.read(Buffer.alloc(length), 0, length, at)).buffer, 0, length, at)
    }
  }
  await source.close()
  await sink.close()
}

export async function fill(file: string, mebibytes: number): Promise<void> {
  await sh('dd', 'if=/dev/urandom', `of=${file}`, 'bs=1M', `count=${mebibytes}`, 'conv=fsync', 'status=none')
}
