/**
 * The device-mapper driver on a real thin pool. Few build machines have device-mapper in their kernel, so this runs in the kernel
 * lab (scripts/lab), on disks that are given to it: HOLDFAST_LAB=1.
 */

import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { access, open, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { candidates } from '../../drivers/devicemapper/registry.ts'
import type { Volume } from '../../src/model.ts'
import { copy, digest, fill, GiB, inLab, lengthOf, MiB, started, unless } from './devicemapper-rig.ts'
import { driverSuite } from './driver.ts'
import { context, newVolume, sh, targetIn } from './driver-bed.ts'
import { poolBed } from './driver-devicemapper.ts'

if (inLab) {
  driverSuite('devicemapper: ext4', () => poolBed(GiB), {
    volume: { driver: 'devicemapper', size: 64 * MiB },
    ...{ atomic: true, cheap: true, compare: 'block' },
    grow: { from: 64 * MiB, to: 96 * MiB, online: true },
  })
}

// What differs with XFS is tested below; all laws are too much for the lab, where starting a program is slow.
if (inLab && process.env.HOLDFAST_TEST_NATIVE === '1') {
  driverSuite('devicemapper: xfs', () => poolBed(2 * GiB, { fs: 'xfs', 'mkfs-options': '-i maxpct=30' }), {
    volume: { driver: 'devicemapper', size: 320 * MiB },
    ...{ atomic: true, cheap: true, compare: 'block' },
    grow: { from: 320 * MiB, to: 480 * MiB, online: true },
  })
}

describe.skipIf(!inLab)(`devicemapper${unless}`, () => {
  test('backups read what a snapshot holds, and what has changed since another', async () => {
    const rig = await started(GiB)
    const volume = await rig.create({ size: 128 * MiB })
    const { first, second } = await rig.mounted(volume, async (root) => {
      await fill(join(root, 'same'), 32)
      await fill(join(root, 'file'), 1)
      const first = await rig.snap(volume)
      const file = await open(join(root, 'file'), 'r+')
      await file.write(Buffer.alloc(4096, 'x'), 0, 4096, 0)
      await file.sync()
      await file.close()
      return { first, second: await rig.snap(volume) }
    })
    const whole = [{ start: 0, end: 128 * MiB }]
    const before = await rig.opened(volume, first, null, async (source) => {
      expect(source).toMatchObject({ kind: 'block', size: 128 * MiB, changed: null })
      expect(lengthOf(source.allocated)).toBeGreaterThan(33 * MiB)
      expect(lengthOf(source.allocated)).toBeLessThan(64 * MiB)
      await expect(writeFile(source.device, 'x', { flag: 'r+' })).rejects.toMatchObject({ code: 'EPERM' })
      await expect(rig.driver.snapshots.delete(context(), volume, first)).rejects.toMatchObject({ code: 'IN_USE' })
      return source.allocated ?? []
    })
    await rig.opened(volume, second, first, async (source) => {
      expect(source.changed?.length).toBeGreaterThan(0)
      expect(lengthOf(source.changed)).toBeLessThan(2 * MiB)
      expect(await digest(source.device, whole)).not.toBe(
        await rig.opened(volume, first, null, (old) => digest(old.device, whole)),
      )
      expect(lengthOf(source.allocated)).toBeGreaterThanOrEqual(lengthOf(before))
    })
    await rig.opened(volume, first, first, async (source) => expect(source.changed).toEqual([]))
    await rig.driver.snapshots.delete(context(), volume, first)
    await rig.opened(volume, second, first, async (source) => {
      expect(source.changed).toBeNull()
      expect(source.allocated?.length).toBeGreaterThan(0)
    })
    await rig.driver.deleteVolume(context(), volume)
    expect(await rig.bed.leftovers()).toEqual([])
  })

  test('an image restored is the device, and what was never written takes no room', async () => {
    const rig = await started(GiB)
    const volume = await rig.create({ size: 64 * MiB })
    await rig.mounted(volume, (root) => fill(join(root, 'file'), 8))
    const snapshot = await rig.snap(volume)
    const draft = newVolume('restored', { driver: 'devicemapper', size: 64 * MiB })
    const made = { ...draft, state: await rig.driver.device.create(context(), draft, 64 * MiB) }
    await expect(rig.driver.mount(context(), made, targetIn(rig.bed))).rejects.toMatchObject({
      code: 'FAILED_PRECONDITION',
    })
    const device = await rig.driver.device.open(context(), made)
    expect(await rig.driver.device.open(context(), made)).toBe(device)
    const whole = [{ start: 0, end: 64 * MiB }]
    expect(await digest(device, whole)).toBe(
      createHash('sha512')
        .update(Buffer.alloc(64 * MiB))
        .digest('hex'),
    )
    await rig.opened(volume, snapshot, null, async (source) => {
      await copy(source.device, device, source.allocated ?? [])
      expect(await digest(device, whole)).toBe(await digest(source.device, whole))
    })
    const restored = { ...made, state: await rig.driver.device.close(context(), made) }
    expect(existsSync(device)).toBe(false)
    const [held, used] = await Promise.all(
      [volume, restored].map(async (it) => (await rig.driver.usage(context(), it, false)).used),
    )
    expect(used).toBeLessThanOrEqual((held ?? 0) + 65_536)
    await rig.mounted(restored, async (root) => {
      expect(await readdir(root)).toEqual(['file'])
      await rig.mounted(volume, async (other) => {
        expect(await readFile(join(root, 'file'))).toEqual(await readFile(join(other, 'file')))
      })
    })
    expect(await rig.driver.findVolume(context(), { ...restored, state: null })).toEqual(restored.state)
    const empty = newVolume('empty', { driver: 'devicemapper' })
    const blank = { ...empty, state: await rig.driver.device.create(context(), empty, 64 * MiB) }
    await expect(rig.driver.device.close(context(), blank)).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' })
    await rig.driver.device.open(context(), blank)
    await rig.driver.deleteVolume(context(), { ...blank, state: null })
    for (const it of [blank, volume, restored]) await rig.driver.deleteVolume(context(), it)
    expect(await rig.bed.leftovers()).toEqual([])
  })

  test('xfs: volumes, snapshots beside them, clones and images of one another are mounted at the same time, and grow', async () => {
    const rig = await started(2 * GiB, { fs: 'xfs' })
    const volume = await rig.create({ size: 320 * MiB })
    const grown = await rig.mounted(volume, async (root) => {
      await writeFile(join(root, 'file'), 'then')
      const snapshot = await rig.snap(volume)
      await writeFile(join(root, 'file'), 'now')
      const target = targetIn(rig.bed)
      await rig.driver.snapshots.mount(context(), volume, snapshot, target)
      expect(await readFile(join(target, 'file'), 'utf8')).toBe('then')
      await expect(writeFile(join(target, 'file'), 'x')).rejects.toMatchObject({ code: 'EROFS' })
      const draft = newVolume('copy', { driver: 'devicemapper', size: 400 * MiB, options: { mode: '0700' } })
      const clone = { ...draft, state: await rig.driver.clone.create(context(), draft, volume, snapshot) }
      await rig.mounted(clone, async (other) => {
        expect(await readFile(join(other, 'file'), 'utf8')).toBe('then')
        await writeFile(join(other, 'file'), 'mine')
        await fill(join(other, 'fill'), 280)
      })
      await rig.driver.snapshots.unmount(context(), volume, snapshot, target)
      const state = await rig.driver.resize.resize(context(), volume, 384 * MiB)
      await fill(join(root, 'fill'), 280)
      await rig.driver.deleteVolume(context(), clone)
      return { ...volume, state, size: 384 * MiB }
    })
    const before = (await rig.driver.usage(context(), grown, false)).used ?? 0
    await rig.mounted(grown, (root) => sh('rm', join(root, 'fill')))
    await rig.driver.trim.trim(context(), grown)
    expect((await rig.driver.usage(context(), grown, false)).used).toBeLessThan(before - 260 * MiB)
    const snapshots = rig.driver.snapshots
    const again = await rig.snap(grown)
    const reverted = { ...grown, state: await rig.driver.revert.revert(context(), grown, again) }
    await rig.mounted(reverted, async (root) => expect(await readFile(join(root, 'file'), 'utf8')).toBe('now'))
    await snapshots.delete(context(), reverted, again)
    await rig.driver.deleteVolume(context(), reverted)
    expect(await rig.bed.leftovers()).toEqual([])
  })

  test("what a crash leaves of a creation goes; what may be another's stays, and is reported", async () => {
    const rig = await started(GiB)
    const pool = rig.bed.pool
    const undo = (volume: Volume) => rig.driver.deleteVolume(context(), { ...volume, state: null })
    const draft = () => newVolume(`half${Math.random()}`, { driver: 'devicemapper', size: 64 * MiB })
    const first = (volume: Volume) => candidates(volume.id)[0] as number
    const thins = () => sh('dmsetup', 'status', '--noflush', pool)

    const [bare, twice, foreign] = [draft(), draft(), draft()]
    const empty = (await thins()).split(' ')[5]
    await sh('dmsetup', 'message', pool, '0', `create_thin ${first(bare)}`)
    expect(await rig.driver.findVolume(context(), bare)).toBeNull()
    await undo(bare)
    await expect(sh('dmsetup', 'message', pool, '0', `delete ${first(bare)}`)).rejects.toThrow(/No data available/)

    await sh('dmsetup', 'message', pool, '0', `create_thin ${first(twice)}`)
    const made = { ...twice, state: await rig.driver.createVolume(context(), twice) }
    expect(made.state).toMatchObject({ thin: first(twice) })
    await rig.driver.deleteVolume(context(), made)

    await sh('dmsetup', 'message', pool, '0', `create_thin ${first(foreign)}`)
    await sh('dmsetup', 'create', 'foreign', '--table', `0 131072 thin /dev/mapper/${pool} ${first(foreign)}`)
    await sh('dd', 'if=/dev/urandom', 'of=/dev/mapper/foreign', 'bs=1M', 'count=1', 'oflag=direct')
    await sh('dmsetup', 'remove', 'foreign')
    const beside = { ...foreign, state: await rig.driver.createVolume(context(), foreign) }
    expect(beside.state).not.toMatchObject({ thin: first(foreign) })
    await undo(beside)
    expect(await rig.driver.check(context(), [])).toContainEqual(
      expect.objectContaining({ check: 'data-without-record', subject: `thin device ${first(foreign)}` }),
    )
    await sh('dmsetup', 'message', pool, '0', `delete ${first(foreign)}`)
    expect(await rig.bed.leftovers()).toEqual([])
    expect((await thins()).split(' ')[5]).toBe(empty)
  })

  test('a clone that was interrupted is undone, the volume that it began as is not', async () => {
    const rig = await started(GiB)
    const volume = await rig.create()
    await rig.mounted(volume, (root) => writeFile(join(root, 'file'), 'kept'))
    const snapshot = await rig.snap(volume)
    const draft = newVolume('clone', { driver: 'devicemapper', size: 64 * MiB })
    const [thin] = candidates(draft.id)
    await sh('dmsetup', 'message', rig.bed.pool, '0', `create_snap ${thin} ${snapshot.state?.thin}`)
    expect(await rig.driver.findVolume(context(), draft)).toBeNull()
    const next = await rig.restarted([volume, draft], [snapshot])
    await next.driver.deleteVolume(context(), draft)
    expect(await next.bed.leftovers()).toEqual([])
    await next.mounted(volume, async (root) => expect(await readFile(join(root, 'file'), 'utf8')).toBe('kept'))
    const taken = { state: snapshot.state, atomic: true, used: null }
    expect(await next.driver.snapshots.find(context(), volume, { ...snapshot, state: null })).toEqual(taken)
    await next.driver.deleteVolume(context(), volume)
    expect(await next.bed.leftovers()).toEqual([])
  })

  test('a start lets suspended devices go on, takes down those that nothing uses, and frees the metadata', async () => {
    const rig = await started(GiB)
    const { pool } = rig.bed
    const [busy, idle] = [await rig.create(), await rig.create()]
    const target = targetIn(rig.bed)
    await rig.driver.mount(context(), busy, target)
    await rig.driver.device.open(context(), idle)
    await sh('dmsetup', 'message', pool, '0', 'reserve_metadata_snap')
    await sh('dmsetup', 'suspend', `holdfast-${busy.name}`)
    const next = await rig.restarted([busy, idle])
    await writeFile(join(target, 'file'), 'goes on')
    expect(existsSync(`/dev/mapper/holdfast-${idle.name}`)).toBe(false)
    await sh('dmsetup', 'message', pool, '0', 'reserve_metadata_snap')
    await sh('dmsetup', 'message', pool, '0', 'release_metadata_snap')
    await next.driver.unmount(context(), busy, target)
    for (const volume of [busy, idle]) await next.driver.deleteVolume(context(), volume)
    expect(await next.bed.leftovers()).toEqual([])
  })

  test('a volume whose name is longer than a device may have, and one whose device has a foreign name', async () => {
    const rig = await started(GiB)
    const long = await rig.create({ name: 'n'.repeat(127) })
    await rig.mounted(long, (root) => writeFile(join(root, 'file'), 'x'))
    const snapshot = await rig.snap(long)
    await rig.opened(long, snapshot, null, async ({ device }) => access(device))
    const taken = await rig.create({ name: 'taken' })
    await sh('dmsetup', 'create', 'holdfast-taken', '--table', '0 8 zero')
    await rig.mounted(taken, (root) => writeFile(join(root, 'file'), 'x'))
    await sh('dmsetup', 'remove', 'holdfast-taken')
    await rig.mounted(taken, async (root) => expect(await readFile(join(root, 'file'), 'utf8')).toBe('x'))
    for (const volume of [long, taken]) await rig.driver.deleteVolume(context(), volume)
    expect(await rig.bed.leftovers()).toEqual([])
  })
})
