/**
 * The thin pool itself: taken down and brought back, full, grown, broken, and of another program. In the kernel lab, as
 * devicemapper-lab.test.ts.
 */

import { access, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { devicemapper } from '../../drivers/devicemapper/devicemapper.ts'
import { noArchive } from '../support/no-archive.ts'
import { fill, GiB, inLab, listening, MiB, started, startedOn, unless } from './devicemapper-rig.ts'
import { context, sh } from './driver-bed.ts'
import { existingPoolBed, filePoolBed, labDisks, loopDevices, poolBed } from './driver-devicemapper.ts'

describe.skipIf(!inLab)(`devicemapper, its pool${unless}`, () => {
  test('comes back after its pool was taken down, with what was in it', async () => {
    const rig = await started(GiB)
    const volume = await rig.create()
    await rig.mounted(volume, (root) => writeFile(join(root, 'file'), 'kept'))
    await rig.driver.stop()
    await sh('dmsetup', 'remove', rig.bed.pool)
    const next = await rig.restarted([volume])
    await next.mounted(volume, async (root) => expect(await readFile(join(root, 'file'), 'utf8')).toBe('kept'))
    const second = next.bed.driver()
    await expect(second.start(context(), [], [])).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' })
    await next.driver.stop()
    await sh('dmsetup', 'remove', rig.bed.pool)
    await sh('dd', 'if=/dev/zero', `of=${rig.bed.metadata}`, 'bs=1M', 'count=1', 'oflag=direct')
    await expect(rig.bed.driver().start(context(), [volume], [])).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringMatching(/blank although volumes are known/),
    })
    await sh('dd', 'if=/dev/urandom', `of=${rig.bed.metadata}`, 'bs=1M', 'count=1', 'oflag=direct')
    await expect(rig.bed.driver().start(context(), [], [])).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' })
  })

  test('a pool that is full gives writers errors, is told of, refuses volumes, and goes on when it has grown', async () => {
    const said: string[] = []
    const rig = await started(128 * MiB, {}, {}, listening(said))
    const { bed, driver } = rig
    const volume = await rig.create({ size: GiB })
    await rig.mounted(volume, async (root) => {
      await expect(fill(join(root, 'fill'), 300)).rejects.toThrow(/No space|Input\/output/)
      const findings = await driver.check(context(), [volume])
      expect(findings.map(({ check }) => check)).toEqual(expect.arrayContaining(['pool-full', 'little-room']))
      await expect
        .poll(() => said, { timeout: 20_000 })
        .toContainEqual(expect.stringMatching(/more than 90 % of .* data/))
      await expect(rig.create()).rejects.toMatchObject({ code: 'NO_SPACE' })
      expect((await driver.describe(context())).gauges?.writable).toBe(0)
      await bed.enlarge('data', GiB)
      await expect.poll(() => said, { timeout: 20_000 }).toContainEqual(expect.stringMatching(/has grown/))
      await fill(join(root, 'more'), 50)
      await access(join(root, 'more'))
    })
    await expect(rig.create({ size: 11 * GiB })).rejects.toMatchObject({
      code: 'NO_SPACE',
      message: expect.stringMatching(/10 times/),
    })
    await rig.driver.deleteVolume(context(), await rig.create({ size: 2 * GiB }))
    await rig.driver.deleteVolume(context(), volume)
    expect(await bed.leftovers()).toEqual([])
  })

  test('a full pool whose writers are to wait holds up nothing else, and they go on when it has grown', async () => {
    const rig = await started(128 * MiB, { 'error-if-no-space': 'false' })
    const { bed, driver } = rig
    const volume = await rig.create({ size: GiB })
    await rig.mounted(volume, async (root) => {
      const writing = fill(join(root, 'fill'), 200)
      await expect
        .poll(() => sh('dmsetup', 'status', '--noflush', bed.pool), { timeout: 30_000 })
        .toMatch(/out_of_data_space/)
      expect((await driver.check(context(), [volume])).map(({ check }) => check)).toContain('pool-full')
      expect((await driver.usage(context(), volume, false)).used).toBeGreaterThan(64 * MiB)
      await bed.enlarge('data', GiB)
      await writing
    })
    await driver.deleteVolume(context(), volume)
    expect(await bed.leftovers()).toEqual([])
  })

  test('a pool whose metadata is full gives writers errors, says so, and goes on when that has grown', async () => {
    const said: string[] = []
    const bed = await poolBed(GiB, {}, { metadata: 2 ** 18 })
    // So little is only taken over.
    const table = `0 ${GiB / 512} thin-pool ${bed.metadata} ${bed.data} 128 0 1 error_if_no_space`
    await sh('dmsetup', 'create', bed.pool, '--table', table)
    const rig = await startedOn(bed, listening(said))
    const volume = await rig.create()
    await rig.mounted(volume, (root) => writeFile(join(root, 'file'), 'kept'))
    const full = sh('bash', '-c', `for i in {1..60}; do dmsetup message ${bed.pool} 0 "create_thin $i" || exit; done`)
    await expect(full).rejects.toThrow(/not supported|No space/)
    await expect(rig.create()).rejects.toMatchObject({
      code: 'FAILED_PRECONDITION',
      message: expect.stringMatching(/takes no changes: holdfast doctor/),
    })
    const remedy = `enlarge ${bed.metadata}, which the pool follows by itself`
    expect(await rig.driver.check(context(), [volume])).toContainEqual(
      expect.objectContaining({ check: 'metadata-full', remedy }),
    )
    await rig.mounted(volume, async (root) => expect(await readFile(join(root, 'file'), 'utf8')).toBe('kept'))
    await bed.enlarge('metadata', 64 * MiB)
    await expect.poll(() => said, { timeout: 20_000 }).toContainEqual(expect.stringMatching(/can be written to again/))
    expect(said).toContainEqual(expect.stringMatching(/has grown/))
    await rig.driver.deleteVolume(context(), await rig.create())
    await rig.mounted(volume, async (root) => expect(await readFile(join(root, 'file'), 'utf8')).toBe('kept'))
  })

  // The kernel stops changing a pool when one of its devices does not even take a flush.
  test.each(['data', 'metadata'] as const)(
    'a %s device that fails: all answers, says what mends it, and that does',
    async (part) => {
      const said: string[] = []
      const rig = await started(GiB, {}, {}, listening(said))
      const { bed, driver } = rig
      const volume = await rig.create()
      await rig.mounted(volume, async (root) => {
        await writeFile(join(root, 'file'), 'kept', { flush: true })
        await bed.fail(part, true)
        const writing = fill(join(root, 'fill'), 8)
        // When only metadata cannot be written, the kernel tells a writer at this flush or at a later one.
        if (part === 'data') await expect(writing).rejects.toThrow(/Input\/output|Read-only|No space/)
        else await writing.catch(() => undefined)
        await expect(rig.create()).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' })
        await expect
          .poll(() => said, { timeout: 20_000 })
          .toContainEqual(expect.stringMatching(/cannot be written to; see holdfast doctor/))
        const findings = await driver.check(context(), [volume])
        const remedy = expect.stringContaining(`thin_check --clear-needs-check-flag ${bed.metadata}`)
        expect(findings).toContainEqual(expect.objectContaining({ check: 'pool-broken', severity: 'error', remedy }))
        expect((await driver.describe(context())).gauges?.writable).toBe(0)
        expect((await driver.usage(context(), volume, false)).size).toBe(64 * MiB)
        await bed.fail(part, false)
      })
      await driver.stop()
      const refused = {
        code: 'UNAVAILABLE',
        message: expect.stringMatching(/needs repair.*dmsetup remove.*thin_check/),
      }
      await expect(bed.driver().start(context(), [volume], [])).rejects.toMatchObject(refused)
      await sh('dmsetup', 'remove', bed.pool)
      await expect(bed.driver().start(context(), [volume], [])).rejects.toMatchObject(refused)
      await sh('thin_check', '--clear-needs-check-flag', bed.metadata)
      const next = await rig.restarted([volume])
      await next.mounted(volume, async (root) => expect(await readFile(join(root, 'file'), 'utf8')).toBe('kept'))
      await next.driver.deleteVolume(context(), volume)
      expect(await bed.leftovers()).toEqual([])
    },
  )

  test('a pool of LVM is used by its name, and stays as it is', async () => {
    const lvm = (...args: string[]) => sh('lvm', ...args, '--config', config)
    const config = `devices { filter=["a|^/dev/mapper/lvm_disk|","r|.*|"] use_devicesfile=0 } activation { udev_sync=0 udev_rules=0 }`
    const { data } = labDisks()
    await sh('dmsetup', 'create', 'lvm_disk', '--table', `0 ${(2 * GiB) / 512 - 8192} linear ${data} 0`)
    onTestFinished(async () => void (await sh('dmsetup', 'remove', 'lvm_disk')))
    await sh('wipefs', '--all', '/dev/mapper/lvm_disk')
    await lvm('vgcreate', 'holdfastvg', '/dev/mapper/lvm_disk')
    onTestFinished(async () => void (await lvm('vgremove', '--force', '--yes', 'holdfastvg')))
    await lvm('lvcreate', '--yes', '--type', 'thin-pool', '--size', '1G', '--name', 'pool', '--zero', 'y', 'holdfastvg')
    await lvm('lvcreate', '--thin', '--virtualsize', '64M', '--name', 'theirs', 'holdfastvg/pool')
    const rig = await startedOn(await existingPoolBed('holdfastvg-pool-tpool'))
    const volume = await rig.create()
    await rig.mounted(volume, (root) => writeFile(join(root, 'file'), 'kept'))
    const snapshot = await rig.snap(volume)
    expect(await rig.driver.check(context(), [volume])).toEqual([])
    const next = await rig.restarted([volume], [snapshot])
    await next.mounted(volume, async (root) => expect(await readFile(join(root, 'file'), 'utf8')).toBe('kept'))
    await next.opened(volume, snapshot, null, async ({ allocated }) => expect(allocated?.length).toBeGreaterThan(0))
    await next.driver.deleteVolume(context(), volume)
    await lvm('lvcreate', '--thin', '--virtualsize', '64M', '--name', 'more', 'holdfastvg/pool')
    await next.driver.stop()
    const wrong = devicemapper.create(
      { 'pool-name': 'holdfastvg-pool' },
      { root: rig.bed.directory, archive: noArchive },
    )
    await expect(wrong.start(context(), [], [])).rejects.toMatchObject({
      code: 'FAILED_PRECONDITION',
      message: expect.stringMatching(/is not a thin pool; LVM's is holdfastvg-pool-tpool/),
    })
  })

  test('without devices, two sparse files are its pool, over restarts and reboots, and grow', async () => {
    const settings = { 'loop-size': '1G' }
    const rig = await startedOn(await filePoolBed(settings))
    const volume = await rig.create()
    await rig.mounted(volume, (root) => writeFile(join(root, 'file'), 'kept'))
    const loops = () => loopDevices(rig.bed.directory)
    const before = await loops()
    const next = await rig.restarted([volume])
    expect(before).toHaveLength(2)
    expect(await loops()).toEqual(before)
    await next.driver.stop()
    await sh('dmsetup', 'remove', 'holdfast_pool')
    for (const device of before) await sh('losetup', '--detach', device)
    const last = await next.restarted([volume])
    await last.mounted(volume, async (root) => expect(await readFile(join(root, 'file'), 'utf8')).toBe('kept'))
    expect((await last.driver.describe(context())).storage?.size).toBe(GiB)
    settings['loop-size'] = '2G'
    const larger = await last.restarted([volume])
    expect((await larger.driver.describe(context())).storage?.size).toBe(2 * GiB)
    await larger.driver.deleteVolume(context(), volume)
    expect(await larger.bed.leftovers()).toEqual([])
  })
})
