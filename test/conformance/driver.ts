/**
 * The laws of src/driver.ts, as a suite that every driver has to pass: `driverSuite(name, factory, options)` inside a test
 * file. What only one driver promises is tested beside the call.
 */

import { access, appendFile, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Driver, DriverContext, TreeSource } from '../../src/driver.ts'
import type { Bytes, Snapshot, Volume } from '../../src/model.ts'
import { isWithin, type MountEntry, readMounts } from '../../src/system/mount.ts'
import { context, type DriverBed, newSnapshot, newVolume, sh, targetIn } from './driver-bed.ts'
import { holdDirectory, startWriter } from './driver-processes.ts'
import { describeZoo, type KeptXattrs, makeZoo } from './driver-zoo.ts'

export interface DriverSuiteOptions {
  /** What every volume of the suite is created with. */
  readonly volume?: Partial<Volume>
  /** Snapshots of a volume that is written to are as of one instant. */
  readonly atomic: boolean
  /** What `isCheap` says of these volumes. */
  readonly cheap: boolean
  /** What a backup of one of their snapshots may compare; `block`: it reads their devices, which the driver's own tests look at. */
  readonly compare: TreeSource['compare'] | 'block'
  /** Which xattrs the storage keeps, ACLs among them; default all. */
  readonly xattrs?: KeptXattrs
  /**
   * Only laws that a limit could break: the others are held where the same volumes have none. What has no size has no limit there
   * either.
   */
  readonly limitsOnly?: boolean
  /** Sizes to grow a volume from and to; absent when the storage enforces none, with `volume.size` unset. */
  readonly grow?: Grow
}

export interface Grow {
  readonly from: Bytes
  readonly to: Bytes
  readonly options?: Readonly<Record<string, string>>
  /** False where the kernel does not let this process grow it while it is mounted. */
  readonly online: boolean
}

type Capability<K extends keyof Driver> = NonNullable<Driver[K]>

/** Registers the suite. The factory is called once, and its bed disposed of at the end. */
export function driverSuite(name: string, factory: () => Promise<DriverBed>, options: DriverSuiteOptions): void {
  describe(name, () => {
    let bed: DriverBed
    let driver: Driver
    let count = 0

    beforeAll(async () => {
      bed = await factory()
      driver = bed.driver()
      await driver.start(context(), [], [])
    })

    afterAll(async () => {
      await driver?.stop()
      await bed?.dispose()
    })

    /** Laws that do not concern a size. */
    const laws = (title: string, register: () => void): void => {
      if (!options.limitsOnly) describe(title, register)
    }

    const mountsHere = (): MountEntry[] => readMounts().filter(({ mountpoint }) => isWithin(mountpoint, bed.directory))

    const draft = (given: Partial<Volume> = {}) => newVolume(`v${++count}`, { ...options.volume, ...given })

    async function create(given: Partial<Volume> = {}): Promise<Volume> {
      const volume = draft(given)
      return { ...volume, state: await driver.createVolume(context(), volume) }
    }

    /** Calls `use` with the directory of the mounted volume. */
    async function mounted<T>(volume: Volume, use: (root: string) => Promise<T>, by = driver): Promise<T> {
      const target = targetIn(bed)
      await by.mount(context(), volume, target)
      try {
        return await use(by.mountpoint(volume, target))
      } finally {
        await by.unmount(context(), volume, target)
      }
    }

    async function put(volume: Volume, file: string, text: string): Promise<void> {
      await mounted(volume, (root) => writeFile(join(root, file), text))
    }

    async function get(volume: Volume, file: string): Promise<string> {
      return mounted(volume, (root) => readFile(join(root, file), 'utf8'))
    }

    const capability = <K extends keyof Driver>(key: K): Capability<K> => {
      const found = driver[key]
      if (!found) throw new Error(`${driver.name} has no ${key}`)
      return found as Capability<K>
    }

    async function snap(volume: Volume, frozen = false): Promise<Snapshot> {
      const snapshot = newSnapshot(volume, `s${++count}`)
      const { state, atomic } = await capability('snapshots').create(context(), volume, { ...snapshot, frozen })
      return { ...snapshot, state, atomic }
    }

    /** Calls `use` with the directory of the mounted snapshot. */
    async function opened<T>(volume: Volume, snapshot: Snapshot, use: (root: string) => Promise<T>): Promise<T> {
      const target = targetIn(bed)
      const snapshots = capability('snapshots')
      await snapshots.mount(context(), volume, snapshot, target)
      try {
        return await use(snapshots.mountpoint(volume, snapshot, target))
      } finally {
        await snapshots.unmount(context(), volume, snapshot, target)
      }
    }

    async function clone(volume: Volume, snapshot: Snapshot, given: Partial<Volume> = {}): Promise<Volume> {
      const copy = newVolume(`v${++count}`, given)
      return { ...copy, state: await capability('clone').create(context(), copy, volume, snapshot) }
    }

    const remove = (volume: Volume) => driver.deleteVolume(context(), volume)

    describe('volumes', () => {
      test('are created empty, at an absolute path that exists', async () => {
        const volume = await create()
        await mounted(volume, async (root) => {
          expect(root).toMatch(/^\//)
          expect((await stat(root)).isDirectory()).toBe(true)
          expect(await readdir(root)).toEqual([])
        })
        await remove(volume)
      })

      test('created twice are created once', async () => {
        const volume = await create()
        await put(volume, 'file', 'kept')
        expect(await driver.createVolume(context(), volume)).toEqual(volume.state)
        expect(await get(volume, 'file')).toBe('kept')
        await remove(volume)
      })

      test('do not replace one of another id at their place', async () => {
        const volume = await create()
        await put(volume, 'file', 'kept')
        const other = newVolume(volume.name, options.volume)
        await expect(driver.createVolume(context(), other)).rejects.toMatchObject({ code: 'ALREADY_EXISTS' })
        await driver.deleteVolume(context(), other) // The undo of what was just refused.
        expect(await get(volume, 'file')).toBe('kept')
        await remove(volume)
      })

      test('are gone when deleted, twice too', async () => {
        const volume = await create()
        await put(volume, 'file', 'x')
        await remove(volume)
        await remove(volume)
        await expect(driver.usage(context(), volume, false)).rejects.toMatchObject({ code: 'NOT_FOUND' })
        await expect(driver.mount(context(), volume, targetIn(bed))).rejects.toMatchObject({ code: 'NOT_FOUND' })
        expect(await bed.leftovers()).toEqual([])
      })

      test('are found when they stand complete, without a record of them', async () => {
        const sizes = [{}, ...(options.grow ? [{ size: options.grow.from, ...optionsOf(options.grow) }] : [])]
        for (const given of sizes) {
          const volume = await create(given)
          const unrecorded = { ...volume, state: null }
          expect(await driver.findVolume(context(), unrecorded)).toEqual(volume.state)
          expect(await driver.findVolume(context(), { ...unrecorded, id: newVolume('other').id })).toBeNull()
          await remove(volume)
          expect(await driver.findVolume(context(), unrecorded)).toBeNull()
        }
      })

      test('interrupted in their creation are undone without a state', async () => {
        const volume = await create()
        await remove({ ...volume, state: null })
        await expect(driver.usage(context(), volume, false)).rejects.toMatchObject({ code: 'NOT_FOUND' })
      })

      test('keep their data through stop and start, mounted or not', async () => {
        const [idle, busy] = [await create(), await create()]
        const target = targetIn(bed)
        await put(idle, 'file', 'idle')
        await driver.mount(context(), busy, target)
        const root = driver.mountpoint(busy, target)
        await writeFile(join(root, 'file'), 'busy')
        const mounts = mountsHere().length
        await driver.stop()
        driver = bed.driver()
        await driver.start(context(), [idle, busy], [])
        await driver.mount(context(), busy, target)
        expect(mountsHere()).toHaveLength(mounts)
        expect(await readFile(join(root, 'file'), 'utf8')).toBe('busy')
        await driver.unmount(context(), busy, target)
        expect(await get(idle, 'file')).toBe('idle')
        expect(await get(busy, 'file')).toBe('busy')
        await remove(idle)
        await remove(busy)
      })

      test('are independent of each other when 20 are made at once', async () => {
        const volumes = await Promise.all(Array.from({ length: 20 }, () => create()))
        await Promise.all(volumes.map((volume) => put(volume, 'name', volume.name)))
        expect(await Promise.all(volumes.map((volume) => get(volume, 'name')))).toEqual(volumes.map((v) => v.name))
        await Promise.all(volumes.map(remove))
        expect(await bed.leftovers()).toEqual([])
      })

      test('leave nothing when their creation is cancelled at any moment', async () => {
        let cancelled = 0
        for (const delayMs of [0, 1, 3, 10, 30, 60, 100]) {
          const volume = draft()
          cancelled += await cancelAfter(delayMs, (ctx) => driver.createVolume(ctx, volume))
          await remove(volume)
          await expect(driver.usage(context(), { ...volume, state: await sampleState() }, false)).rejects.toMatchObject(
            {
              code: 'NOT_FOUND',
            },
          )
        }
        expect(cancelled).toBeGreaterThan(0)
        expect(await bed.leftovers()).toEqual([])
      })

      /** The state that a volume of this suite has. */
      async function sampleState() {
        const volume = await create()
        await remove(volume)
        return volume.state
      }

      test('report what they hold', async () => {
        const volume = await create()
        await put(volume, 'file', 'x'.repeat(1 << 20))
        await sh('sync')
        const usage = await driver.usage(context(), volume, true)
        expect(usage.used).toBeGreaterThanOrEqual(1 << 20)
        expect(usage.size ?? null).toBe(options.volume?.size ?? null)
        await remove(volume)
      })
    })

    describe('mounts', () => {
      test('are not stacked, and undone by one unmount', async () => {
        const volume = await create()
        const target = targetIn(bed)
        await driver.mount(context(), volume, target)
        const before = mountsHere().length
        await driver.mount(context(), volume, target)
        expect(mountsHere()).toHaveLength(before)
        await driver.unmount(context(), volume, target)
        await driver.unmount(context(), volume, target)
        expect(readMounts().filter((entry) => entry.mountpoint === target)).toEqual([])
        await remove(volume)
      })

      test('that are busy are not torn away, nor deleted below', async () => {
        const volume = await create()
        const target = targetIn(bed)
        await driver.mount(context(), volume, target)
        const root = driver.mountpoint(volume, target)
        if (root === target) {
          await using _holder = await holdDirectory(root)
          await expect(driver.unmount(context(), volume, target)).rejects.toMatchObject({ code: 'IN_USE' })
          await expect(remove(volume)).rejects.toMatchObject({ code: 'IN_USE' })
        }
        await writeFile(join(root, 'file'), 'still there')
        await driver.unmount(context(), volume, target)
        expect(await get(volume, 'file')).toBe('still there')
        await remove(volume)
      })
    })

    laws('the trash', () => {
      test('frees the name and gives the volume back, snapshots included, under another', async () => {
        const volume = await create()
        await put(volume, 'file', 'old')
        const snapshot = await snap(volume)
        const state = await capability('trash').discard(context(), volume)
        const trashed = { ...volume, state }
        expect(await capability('trash').discard(context(), trashed)).toEqual(state)
        const heir = await create({ name: volume.name })
        await expect(capability('trash').restore(context(), trashed, volume.name)).rejects.toMatchObject({
          code: 'ALREADY_EXISTS',
        })
        const name = `v${++count}`
        const restored = await capability('trash').restore(context(), trashed, name)
        expect(await capability('trash').restore(context(), trashed, name)).toEqual(restored)
        const back = { ...volume, name, state: restored }
        expect(await get(back, 'file')).toBe('old')
        expect(await opened(back, snapshot, (root) => readFile(join(root, 'file'), 'utf8'))).toBe('old')
        await mounted(heir, async (root) => expect(await readdir(root)).toEqual([]))
        await remove(heir)
        await remove(back)
      })

      test('is emptied by delete', async () => {
        const volume = await create()
        await put(volume, 'file', 'x')
        const trashed = { ...volume, state: await capability('trash').discard(context(), volume) }
        await remove(trashed)
        await expect(capability('trash').restore(context(), trashed, volume.name)).rejects.toMatchObject({
          code: 'NOT_FOUND',
        })
        expect(await bed.leftovers()).toEqual([])
      })
    })

    laws('snapshots', () => {
      test('show what was, read-only, while the volume goes on', async () => {
        const volume = await create()
        await mounted(volume, async (root) => {
          await writeFile(join(root, 'file'), 'then')
          const snapshot = await snap(volume)
          await writeFile(join(root, 'file'), 'now')
          await opened(volume, snapshot, async (past) => {
            expect(await readFile(join(past, 'file'), 'utf8')).toBe('then')
            await expect(writeFile(join(past, 'file'), 'x')).rejects.toMatchObject({ code: 'EROFS' })
            await expect(writeFile(join(past, 'new'), 'x')).rejects.toMatchObject({ code: 'EROFS' })
          })
          expect(await readFile(join(root, 'file'), 'utf8')).toBe('now')
        })
        await remove(volume)
        expect(await bed.leftovers()).toEqual([])
      })

      test('taken twice are taken once; another of the same name is refused', async () => {
        const volume = await create()
        const snapshot = newSnapshot(volume, 'same')
        const spec = { ...snapshot, frozen: false }
        await put(volume, 'file', 'then')
        const first = await capability('snapshots').create(context(), volume, spec)
        await put(volume, 'file', 'now')
        expect((await capability('snapshots').create(context(), volume, spec)).state).toEqual(first.state)
        const taken = { ...snapshot, state: first.state }
        expect(await opened(volume, taken, (root) => readFile(join(root, 'file'), 'utf8'))).toBe('then')
        await expect(
          capability('snapshots').create(context(), volume, { ...spec, id: newVolume('other').id }),
        ).rejects.toMatchObject({ code: 'ALREADY_EXISTS' })
        await remove(volume)
      })

      test('are found when they stand complete, without a record of them', async () => {
        const volume = await create()
        const snapshots = capability('snapshots')
        const snapshot = newSnapshot(volume, 'found')
        expect(await snapshots.find(context(), volume, snapshot)).toBeNull()
        const taken = await snapshots.create(context(), volume, { ...snapshot, frozen: false })
        expect(await snapshots.find(context(), volume, snapshot)).toEqual(taken)
        expect(await snapshots.find(context(), volume, { ...snapshot, id: newVolume('other').id })).toBeNull()
        await snapshots.delete(context(), volume, snapshot)
        expect(await snapshots.find(context(), volume, snapshot)).toBeNull()
        await remove(volume)
      })

      test('in use are not deleted; deleted twice they are gone', async () => {
        const volume = await create()
        const snapshot = await snap(volume)
        const snapshots = capability('snapshots')
        await opened(volume, snapshot, async () => {
          await expect(snapshots.delete(context(), volume, snapshot)).rejects.toMatchObject({ code: 'IN_USE' })
        })
        await snapshots.delete(context(), volume, snapshot)
        await snapshots.delete(context(), volume, snapshot)
        await expect(snapshots.mount(context(), volume, snapshot, targetIn(bed))).rejects.toMatchObject({
          code: 'NOT_FOUND',
        })
        await remove(volume)
      })

      test('say truly whether they are as of one instant under a writer', async () => {
        const volume = await create()
        await mounted(volume, async (root) => {
          await using _writer = await startWriter(root)
          for (let round = 0; round < 5; round++) {
            const snapshot = await snap(volume)
            expect(snapshot.atomic).toBe(options.atomic)
            if (snapshot.atomic) await expectPrefix(volume, snapshot)
            await capability('snapshots').delete(context(), volume, snapshot)
          }
        })
        await remove(volume)
      })

      async function expectPrefix(volume: Volume, snapshot: Snapshot): Promise<void> {
        await opened(volume, snapshot, async (past) => {
          const [first, second] = await Promise.all(['first', 'second'].map((file) => countIn(join(past, file))))
          expect(first).toBeGreaterThanOrEqual(20)
          expect(Number(first) - Number(second)).toBeGreaterThanOrEqual(0)
          expect(Number(first) - Number(second)).toBeLessThanOrEqual(1)
        })
      }

      test('are as of one instant when the service keeps the writers still', async () => {
        const volume = await create()
        const snapshot = await snap(volume, true)
        expect(snapshot.atomic).toBe(true)
        await remove(volume)
      })

      test('leave nothing when they are cancelled at any moment, and the volume writable', async () => {
        const volume = await create()
        await mounted(volume, async (root) => {
          for (let i = 0; i < 200; i++) await writeFile(join(root, `f${i}`), 'x'.repeat(10_000))
          let cancelled = 0
          for (const delayMs of [0, 5, 20, 50, 150]) {
            const snapshot = newSnapshot(volume, `c${delayMs}`)
            cancelled += await cancelAfter(delayMs, (ctx) =>
              capability('snapshots').create(ctx, volume, { ...snapshot, frozen: false }),
            )
            await appendFile(join(root, 'f0'), 'writable')
            await capability('snapshots').delete(context(), volume, snapshot)
          }
          expect(cancelled).toBeGreaterThan(0)
          expect(await bed.leftovers()).toEqual([])
        })
        await remove(volume)
      })

      test('keep every kind of file as it is, and so do clones and reverts', async () => {
        const volume = await create()
        await mounted(volume, (root) => makeZoo(root, options.xattrs))
        const before = await mounted(volume, describeZoo)
        const snapshot = await snap(volume)
        expect(await opened(volume, snapshot, describeZoo)).toEqual(before)
        const copy = await clone(volume, snapshot)
        expect(await mounted(copy, describeZoo)).toEqual(before)
        await mounted(volume, (root) => sh('rm', '-rf', join(root, 'zoo')))
        const reverted = { ...volume, state: await capability('revert').revert(context(), volume, snapshot) }
        expect(await mounted(reverted, describeZoo)).toEqual(before)
        await remove(reverted)
        await remove(copy)
      })
    })

    test('a backup is told whether a snapshot for it is cheap', async () => {
      const volume = await create()
      expect(await capability('snapshots').isCheap(context(), volume)).toBe(options.cheap)
      await remove(volume)
    })

    if (options.compare !== 'block' && !options.limitsOnly) treeBackups(options.compare)

    function treeBackups(compare: TreeSource['compare']): void {
      const openAt = async (volume: Volume, snapshot: Snapshot, target: string) => {
        const source = await capability('snapshots').open(context(), volume, snapshot, target, null)
        if (source.kind !== 'tree') throw new Error(`a ${source.kind} source`)
        return source
      }

      test('a backup reads a snapshot, which stays until it is unmounted', async () => {
        const volume = await create()
        await put(volume, 'file', 'then')
        const snapshot = await snap(volume)
        await put(volume, 'file', 'now')
        const target = targetIn(bed)
        const source = await openAt(volume, snapshot, target)
        expect(source.compare).toBe(compare)
        expect(await readFile(join(source.root, 'file'), 'utf8')).toBe('then')
        await expect(writeFile(join(source.root, 'file'), 'x')).rejects.toMatchObject({ code: 'EROFS' })
        await expect(capability('snapshots').delete(context(), volume, snapshot)).rejects.toMatchObject({
          code: 'IN_USE',
        })
        expect(await openAt(volume, snapshot, target)).toEqual(source)
        await capability('snapshots').unmount(context(), volume, snapshot, target)
        expect(readMounts().filter((entry) => entry.mountpoint === target)).toEqual([])
        await capability('snapshots').delete(context(), volume, snapshot)
        await remove(volume)
        await expect.poll(() => bed.leftovers(), { timeout: 10_000 }).toEqual([])
      })

      test('a backup can tell what has changed between two snapshots as it was told', async () => {
        const volume = await create()
        for (const file of ['same', 'changed']) await put(volume, file, 'before')
        const first = await snap(volume)
        await put(volume, 'changed', 'after!')
        const second = await snap(volume)
        const look = (file: string) => async (root: string) => identity(join(root, file), compare)
        if (compare !== 'content') {
          expect(await opened(volume, second, look('same'))).toBe(await opened(volume, first, look('same')))
        }
        expect(await opened(volume, second, look('changed'))).not.toBe(await opened(volume, first, look('changed')))
        await remove(volume)
      })
    }

    laws('replace', () => {
      async function pair(): Promise<{ volume: Volume; from: Volume; snapshot: Snapshot }> {
        const [volume, from] = [await create(), await create()]
        await put(volume, 'file', 'old')
        await put(volume, 'more', 'old')
        await put(from, 'file', 'new')
        return { volume, from, snapshot: await snap(volume) }
      }

      /** The volume as it is recorded after a replacement. */
      async function replace(volume: Volume, from: Volume): Promise<Volume> {
        return { ...volume, state: await capability('replace').replace(context(), volume, from) }
      }

      test("makes another volume's content the volume's, twice too, and keeps the snapshots", async () => {
        const { volume, from, snapshot } = await pair()
        const replaced = await replace(volume, from)
        for (let round = 0; round < 2; round++) {
          expect(await replace(volume, from)).toEqual(replaced)
          await mounted(replaced, async (root) => expect(await readdir(root)).toEqual(['file']))
          expect(await get(replaced, 'file')).toBe('new')
        }
        await expect(driver.usage(context(), from, false)).rejects.toMatchObject({ code: 'NOT_FOUND' })
        expect(await opened(replaced, snapshot, (root) => readFile(join(root, 'file'), 'utf8'))).toBe('old')
        expect((await driver.check(context(), [replaced])).filter(({ check }) => check !== 'little-room')).toEqual([])
        const reverted = { ...replaced, state: await capability('revert').revert(context(), replaced, snapshot) }
        expect(await get(reverted, 'more')).toBe('old')
        await remove(reverted)
        await expect.poll(() => bed.leftovers(), { timeout: 10_000 }).toEqual([])
      })

      test('can be done again with others', async () => {
        const { volume, from } = await pair()
        const once = await replace(volume, from)
        const other = await create()
        await put(other, 'file', 'newer')
        const twice = await replace(once, other)
        expect(await get(twice, 'file')).toBe('newer')
        await remove(twice)
      })

      test('by what is not there is refused and changes nothing', async () => {
        const { volume, from } = await pair()
        await remove(from)
        await expect(capability('replace').replace(context(), volume, from)).rejects.toMatchObject({
          code: 'NOT_FOUND',
        })
        expect(await get(volume, 'file')).toBe('old')
        await remove(volume)
      })

      test('cancelled changes nothing, or all', async () => {
        const { volume, from } = await pair()
        const failed = await cancelAfter(0, (ctx) => capability('replace').replace(ctx, volume, from))
        expect(failed).toBe(1)
        expect([await get(volume, 'file'), await get(from, 'file')]).toEqual(['old', 'new'])
        for (const delayMs of [1, 5, 20]) {
          await cancelAfter(delayMs, (ctx) => capability('replace').replace(ctx, volume, from))
        }
        const replaced = await replace(volume, from)
        expect(await get(replaced, 'file')).toBe('new')
        await remove(replaced)
      })

      test('does not tear a mounted volume away', async () => {
        const { volume, from } = await pair()
        const target = targetIn(bed)
        await driver.mount(context(), volume, target)
        if (driver.mountpoint(volume, target) === target) {
          await expect(capability('replace').replace(context(), volume, from)).rejects.toMatchObject({
            code: 'IN_USE',
          })
          expect(await readFile(join(target, 'file'), 'utf8')).toBe('old')
        }
        await driver.unmount(context(), volume, target)
        const replaced = await replace(volume, from)
        expect(await get(replaced, 'file')).toBe('new')
        await remove(replaced)
      })
    })

    laws('clones', () => {
      test('are independent of the volume and outlive it', async () => {
        const volume = await create()
        await put(volume, 'file', 'then')
        const snapshot = await snap(volume)
        const copy = await clone(volume, snapshot)
        expect(await driver.createVolume(context(), volume)).toEqual(volume.state)
        await put(copy, 'file', 'mine')
        expect(await get(volume, 'file')).toBe('then')
        expect(await opened(volume, snapshot, (root) => readFile(join(root, 'file'), 'utf8'))).toBe('then')
        await mounted(volume, (root) => mounted(copy, async (other) => expect(other).not.toBe(root)))
        await remove(volume)
        expect(await get(copy, 'file')).toBe('mine')
        await remove(copy)
      })

      test('made twice are made once', async () => {
        const volume = await create()
        const snapshot = await snap(volume)
        const copy = await clone(volume, snapshot)
        await put(copy, 'file', 'kept')
        expect(await capability('clone').create(context(), copy, volume, snapshot)).toEqual(copy.state)
        expect(await get(copy, 'file')).toBe('kept')
        await remove(copy)
        await remove(volume)
      })

      test('take an owner and a mode of their own', async () => {
        const volume = await create()
        const copy = await clone(volume, await snap(volume), { options: { uid: '12', gid: '34', mode: '2750' } })
        await mounted(copy, async (root) => {
          expect(await stat(root)).toMatchObject({ uid: 12, gid: 34, mode: 0o42750 })
        })
        await remove(copy)
        await remove(volume)
      })
    })

    laws('revert', () => {
      test('brings the content back, twice too, and keeps the snapshot', async () => {
        const volume = await create()
        await put(volume, 'file', 'then')
        const snapshot = await snap(volume)
        await put(volume, 'file', 'now')
        await put(volume, 'new', 'x')
        let reverted = volume
        for (let round = 0; round < 2; round++) {
          // The second time as after a crash: what the first one has returned was not written down.
          reverted = { ...volume, state: await capability('revert').revert(context(), volume, snapshot) }
          expect(await get(reverted, 'file')).toBe('then')
          await mounted(reverted, (root) => expect(access(join(root, 'new'))).rejects.toMatchObject({ code: 'ENOENT' }))
          await put(reverted, 'file', 'again')
        }
        expect(await opened(reverted, snapshot, (root) => readFile(join(root, 'file'), 'utf8'))).toBe('then')
        await remove(reverted)
        await expect.poll(() => bed.leftovers(), { timeout: 10_000 }).toEqual([]) // What was replaced is removed behind.
      })
    })

    test('describes itself and finds nothing wrong', async () => {
      const volume = await create()
      expect(Object.keys((await driver.describe(context())).facts).length).toBeGreaterThan(0)
      const findings = await driver.check(context(), [volume])
      expect(findings.filter((finding) => finding.check !== 'little-room')).toEqual([])
      await remove(volume)
      const missing = await driver.check(context(), [volume])
      expect(missing).toContainEqual(expect.objectContaining({ check: 'record-without-data', subject: volume.name }))
    })

    const { grow } = options
    if (grow) {
      describe('a size', () => {
        const sized = () => create({ size: grow.from, ...optionsOf(grow) })

        test(`is enforced on the writer, and raised ${grow.online ? 'while it is mounted' : 'unmounted'}`, async () => {
          let volume = await sized()
          const fill = (root: string) => fillFile(join(root, 'fill'), (grow.to >> 20) + 1)
          const raise = async () => {
            volume = {
              ...volume,
              size: grow.to,
              state: await capability('resize').resize(context(), volume, grow.to),
            }
          }
          await mounted(volume, async (root) => {
            await expect(fill(root)).rejects.toThrow(/No space left|quota exceeded/)
            const { size } = await stat(join(root, 'fill'))
            expect(size).toBeLessThanOrEqual(grow.from)
            expect(size).toBeGreaterThan(grow.from / 2)
            if (grow.online) await raise()
          })
          if (!grow.online) await raise()
          expect((await driver.usage(context(), volume, false)).size).toBe(grow.to)
          await mounted(volume, async (root) => {
            await expect(fill(root)).rejects.toThrow(/No space left|quota exceeded/)
            expect((await stat(join(root, 'fill'))).size).toBeGreaterThan(grow.from)
          })
          await remove(volume)
        })

        test('may be asked for again, and not be less than what is held', async () => {
          const volume = await sized()
          await capability('resize').resize(context(), volume, grow.from)
          await mounted(volume, async (root) => {
            await fillFile(join(root, 'fill'), grow.from >> 21)
            await sh('sync')
          })
          await expect(capability('resize').resize(context(), volume, grow.from >> 3)).rejects.toMatchObject({
            code: expect.stringMatching(/^(NOT_SUPPORTED|FAILED_PRECONDITION)$/),
          })
          await remove(volume)
        })

        test('of a clone may be larger', async () => {
          const volume = await sized()
          const copy = await clone(volume, await snap(volume), { size: grow.to })
          expect((await driver.usage(context(), copy, false)).size).toBe(grow.to)
          await mounted(copy, async (root) => {
            await fillFile(join(root, 'fill'), (grow.from >> 20) + 1)
          })
          await remove(copy)
          await remove(volume)
        })

        test('survives a replacement by less', async () => {
          const [volume, from] = [await sized(), await sized()]
          await put(from, 'file', 'new')
          const larger = {
            ...volume,
            size: grow.to,
            state: await capability('resize').resize(context(), volume, grow.to),
          }
          const replaced = { ...larger, state: await capability('replace').replace(context(), larger, from) }
          expect((await driver.usage(context(), replaced, false)).size).toBe(grow.to)
          await mounted(replaced, async (root) => {
            expect(await readFile(join(root, 'file'), 'utf8')).toBe('new')
            await fillFile(join(root, 'fill'), (grow.from >> 20) + 1)
          })
          await remove(replaced)
        })

        test('goes with it into the trash and comes back', async () => {
          const volume = await sized()
          const trashed = { ...volume, state: await capability('trash').discard(context(), volume) }
          const name = `v${++count}`
          const back = { ...volume, name, state: await capability('trash').restore(context(), trashed, name) }
          expect((await driver.usage(context(), back, false)).size).toBe(grow.from)
          await mounted(back, async (root) => {
            await expect(fillFile(join(root, 'fill'), (grow.from >> 20) + 1)).rejects.toThrow(
              /No space left|quota exceeded/,
            )
          })
          await remove(back)
        })

        test('survives a revert', async () => {
          const volume = await sized()
          const snapshot = await snap(volume)
          const state = await capability('resize').resize(context(), volume, grow.to)
          const larger = { ...volume, size: grow.to, state }
          const reverted = { ...larger, state: await capability('revert').revert(context(), larger, snapshot) }
          expect((await driver.usage(context(), reverted, false)).size).toBe(grow.to)
          await remove(reverted)
        })
      })
    }
  })
}

function optionsOf(grow: Grow): Partial<Volume> {
  return grow.options ? { options: grow.options } : {}
}

/** Makes a call and aborts it. @returns 1 when that made it fail, 0 when it was faster */
async function cancelAfter(delayMs: number, call: (ctx: DriverContext) => Promise<unknown>): Promise<number> {
  const [controller, reason] = [new AbortController(), new Error('cancelled by the test')]
  if (delayMs === 0) controller.abort(reason)
  const timer = setTimeout(() => controller.abort(reason), delayMs)
  try {
    await call(context(controller.signal))
    return 0
  } catch (error) {
    expect(error).toBe(reason)
    return 1
  } finally {
    clearTimeout(timer)
  }
}

/** Writes zeros as a container does: with CAP_SYS_RESOURCE, which those lack, ext4 lets a writer exceed its quota. */
async function fillFile(file: string, mebibytes: number): Promise<void> {
  const dd = ['dd', 'if=/dev/zero', `of=${file}`, 'bs=1M', `count=${mebibytes}`]
  await sh('setpriv', '--bounding-set', '-sys_resource', '--inh-caps', '-sys_resource', ...dd)
}

/** What a backup compares of a file. */
async function identity(file: string, compare: TreeSource['compare']): Promise<string> {
  const { ino, ctimeNs, mtimeNs, size } = await stat(file, { bigint: true })
  if (compare === 'content') return readFile(file, 'utf8')
  return (compare === 'inode' ? [ino, ctimeNs, mtimeNs, size] : [mtimeNs, size]).join(' ')
}

async function countIn(file: string): Promise<number> {
  return (await readFile(file, 'utf8')).split('\n').length - 1
}
