/**
 * The vfs driver where a kernel with project quota, or a process with all capabilities, is needed. Few build machines have
 * either, so this runs in the kernel lab (scripts/lab), on block devices that are given to it: HOLDFAST_LAB=1.
 */

import { existsSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { driverSuite } from './driver.ts'
import { context, type DriverBed, newSnapshot, newVolume, sh, targetIn } from './driver-bed.ts'
import { onFileSystem } from './driver-vfs.ts'

const MiB = 2 ** 20
const GiB = 2 ** 30

const onXfs = () => onFileSystem(['mkfs.xfs', '-q', '-m', 'reflink=1'], GiB, 'loop,prjquota')
const onExt4 = () =>
  onFileSystem(['mkfs.ext4', '-q', '-F', '-O', 'quota,project', '-E', 'quotatype=prjquota'], GiB, 'loop,prjquota')

const inLab = process.env.HOLDFAST_LAB === '1'
const grow = { from: 32 * MiB, to: 64 * MiB, online: true }

if (inLab) {
  driverSuite('vfs: directories with project quota on XFS', onXfs, {
    atomic: false,
    cheap: true,
    compare: 'content',
    grow,
  })
  driverSuite('vfs: directories with project quota on ext4', onExt4, {
    atomic: false,
    cheap: false,
    compare: 'content',
    limitsOnly: true,
    grow,
  })
}

const unless = inLab
  ? ''
  : ' (not run: this needs a kernel with project quota; HOLDFAST_LAB=1 in the kernel lab has it)'

describe.skipIf(!inLab)(`project quota${unless}`, () => {
  test.each([
    ['XFS', onXfs],
    ['ext4', onExt4],
  ] as const)('tells volumes apart, is lowered, and freed, on %s', async (_name, make) => {
    const bed: DriverBed = await make()
    const driver = bed.driver()
    await driver.start(context(), [], [])
    const create = async (name: string, size: number) => {
      const volume = newVolume(name, { size })
      return { ...volume, state: await driver.createVolume(context(), volume) }
    }
    const [one, two] = [await create('one', 32 * MiB), await create('two', 48 * MiB)]
    const data = (volume: typeof one) => driver.mountpoint(volume, '/nowhere')
    expect(one.state).toMatchObject({ kind: 'directory', limit: 'project' })
    await sh('dd', 'if=/dev/zero', `of=${join(data(one), 'fill')}`, 'bs=1M', 'count=16')
    await sh('sync', '-f', bed.directory)
    const usage = await driver.usage(context(), one, false)
    expect(usage.size).toBe(32 * MiB)
    expect(usage.used).toBeGreaterThanOrEqual(16 * MiB)
    expect((await driver.usage(context(), two, false)).used).toBeLessThan(MiB)
    await expect(driver.resize?.resize(context(), one, 8 * MiB)).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' })
    await driver.resize?.resize(context(), one, 20 * MiB)
    expect((await driver.usage(context(), one, false)).size).toBe(20 * MiB)
    await driver.deleteVolume(context(), one)
    await driver.deleteVolume(context(), two)
    const report = await sh('repquota', '-P', '-n', bed.directory)
    expect([...report.matchAll(/^#(\d+)/gm)].filter((match) => Number(match[1]) > 0)).toEqual([])
    await driver.stop()
    await bed.dispose()
  })

  test('gives a clone of a directory that has none a limit', async () => {
    const bed = await onXfs()
    const driver = bed.driver()
    await driver.start(context(), [], [])
    const plain = newVolume('plain')
    const volume = { ...plain, state: await driver.createVolume(context(), plain) }
    await mkdir(join(driver.mountpoint(volume, '/nowhere'), 'sub'))
    await writeFile(join(driver.mountpoint(volume, '/nowhere'), 'sub', 'file'), 'content')
    const snapshot = newSnapshot(volume, 's')
    const taken = await driver.snapshots?.create(context(), volume, { ...snapshot, frozen: false })
    const copy = newVolume('copy', { size: 32 * MiB })
    const state = await driver.clone?.create(context(), copy, volume, { ...snapshot, state: taken?.state ?? null })
    const root = driver.mountpoint({ ...copy, state: state ?? null }, '/nowhere')
    expect(await readFile(join(root, 'sub', 'file'), 'utf8')).toBe('content')
    await expect(sh('dd', 'if=/dev/zero', `of=${join(root, 'sub', 'fill')}`, 'bs=1M', 'count=40')).rejects.toThrow(
      /No space left|quota exceeded/,
    )
    expect(existsSync(join(root, 'sub'))).toBe(true)
    await driver.stop()
    await bed.dispose()
  })
})

describe.skipIf(!inLab)(`an image with ext4${unless}`, () => {
  test('grows while it is mounted, which takes CAP_SYS_RESOURCE', async () => {
    const bed = await onFileSystem(['mkfs.ext4', '-q', '-F'], GiB)
    const driver = bed.driver()
    await driver.start(context(), [], [])
    const spec = newVolume('image', { size: 64 * MiB })
    const volume = { ...spec, state: await driver.createVolume(context(), spec) }
    const target = join(targetIn(bed), 'image')
    await driver.mount(context(), volume, target)
    await expect(sh('dd', 'if=/dev/zero', `of=${join(target, 'fill')}`, 'bs=1M', 'count=80')).rejects.toThrow(
      /No space/,
    )
    await driver.resize?.resize(context(), volume, 128 * MiB)
    await sh('dd', 'if=/dev/zero', `of=${join(target, 'fill')}`, 'bs=1M', 'count=80')
    expect((await driver.usage(context(), volume, false)).size).toBe(128 * MiB)
    await driver.unmount(context(), volume, target)
    await driver.stop()
    await bed.dispose()
  })
})
