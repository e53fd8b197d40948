/** What the vfs driver promises beyond every driver's laws: planted symlinks, leftovers of a crash, adoption, full storage. */

import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, rename, rm, stat, statfs, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Driver } from '../../src/driver.ts'
import type { AppError } from '../../src/errors.ts'
import type { DriverState, Snapshot, Volume } from '../../src/model.ts'
import { copyTree } from '../../src/system/copy-tree.ts'
import { isAttached, loopDevicesOf } from '../../src/system/loop.ts'
import { readMounts } from '../../src/system/mount.ts'
import { context, type DriverBed, newSnapshot, newVolume, sh, targetIn } from './driver-bed.ts'
import { startSwapper } from './driver-processes.ts'
import { folderOf, makeOutside, onBtrfs, onFileSystem, onHost, onXfs } from './driver-vfs.ts'

const MiB = 2 ** 20

let bed: DriverBed
let driver: Driver

async function open(factory: () => Promise<DriverBed>, known: readonly Volume[] = []): Promise<void> {
  bed = await factory()
  driver = bed.driver()
  await driver.start(context(), known, [])
}

async function restart(known: readonly Volume[] = []): Promise<void> {
  await driver.stop()
  driver = bed.driver()
  await driver.start(context(), known, [])
}

afterEach(async () => {
  await driver.stop()
  await bed.dispose()
})

async function create(name: string, given: Partial<Volume> = {}): Promise<Volume> {
  const volume = newVolume(name, given)
  return { ...volume, state: await driver.createVolume(context(), volume) }
}

async function snap(volume: Volume, name: string): Promise<Snapshot> {
  const snapshot = newSnapshot(volume, name)
  const taken = await driver.snapshots?.create(context(), volume, { ...snapshot, frozen: false })
  return { ...snapshot, state: taken?.state ?? null }
}

const remove = (volume: Volume) => driver.deleteVolume(context(), volume)

/** Where a directory volume's files are. */
const data = (volume: Volume) => driver.mountpoint(volume, '/nowhere')

describe('symlinks planted in the storage are never followed', () => {
  let outside: Awaited<ReturnType<typeof makeOutside>>

  beforeEach(async () => {
    await open(onHost)
    outside = await makeOutside(bed)
  })

  afterEach(async () => {
    expect(await outside.intact()).toBe(true)
  })

  test('at the place of a new volume', async () => {
    await symlink(outside.path, folderOf(bed, 'v'))
    await expect(create('v')).rejects.toMatchObject({ code: 'ALREADY_EXISTS' })
  })

  test('at the place of a volume that is mounted, measured, discarded and deleted', async () => {
    const volume = await create('v')
    const hidden = join(bed.directory, 'hidden')
    await rename(folderOf(bed, 'v'), hidden)
    // Also not to a folder that says that it is the volume's.
    for (const trap of [outside.path, hidden]) {
      await rm(folderOf(bed, 'v'), { force: true })
      await symlink(trap, folderOf(bed, 'v'))
      const gone = { code: 'NOT_FOUND' }
      await expect(driver.mount(context(), volume, targetIn(bed))).rejects.toMatchObject(gone)
      await expect(driver.usage(context(), volume, true)).rejects.toMatchObject(gone)
      await expect(driver.trash?.discard(context(), volume)).rejects.toMatchObject(gone)
      await remove(volume)
      expect(existsSync(folderOf(bed, 'v'))).toBe(true)
    }
    expect((await readdir(hidden)).sort()).toEqual(['data', 'id'])
  })

  test('at the place of its data', async () => {
    const volume = await create('v')
    await rm(data(volume), { recursive: true })
    await symlink(outside.path, data(volume))
    const refused = { code: 'FAILED_PRECONDITION' }
    await expect(driver.mount(context(), volume, targetIn(bed))).rejects.toMatchObject(refused)
    await expect(driver.usage(context(), volume, true)).rejects.toMatchObject(refused)
    await expect(snap(volume, 's')).rejects.toMatchObject(refused)
    await remove(volume)
  })

  test('at the place of its snapshots', async () => {
    const volume = await create('v')
    const snapshot = await snap(volume, 's')
    const snapshots = join(folderOf(bed, 'v'), 'snapshots')
    await rename(snapshots, join(bed.directory, 'hidden'))
    await symlink(outside.path, snapshots)
    await expect(snap(volume, 't')).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' })
    await driver.snapshots?.delete(context(), volume, snapshot)
    await rm(snapshots)
    await mkdir(snapshots)
    await symlink(outside.path, join(snapshots, 's'))
    await expect(driver.snapshots?.mount(context(), volume, snapshot, targetIn(bed))).rejects.toMatchObject({
      code: 'NOT_FOUND',
    })
    await driver.snapshots?.delete(context(), volume, snapshot)
    await remove(volume)
  })

  test('at the place of an image', async () => {
    const volume = await create('v', { size: 32 * MiB })
    const image = join(folderOf(bed, 'v'), 'image')
    await rename(image, join(bed.directory, 'hidden'))
    await symlink(join(bed.directory, 'hidden'), image)
    await expect(driver.mount(context(), volume, targetIn(bed))).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' })
    await remove(volume)
    expect(existsSync(join(bed.directory, 'hidden'))).toBe(true)
  })

  test('by a container while its volume goes to the archive', () => copyUnderSwaps(12))
})

test('symlinks planted by a container are not followed while its volume is copied', async () => {
  await open(onXfs)
  const outside = await makeOutside(bed)
  await copyUnderSwaps(40)
  expect(await outside.intact()).toBe(true)
})

/** Takes snapshots while a directory is swapped for a symlink and back: none may hold what that leads to. */
async function copyUnderSwaps(rounds: number): Promise<void> {
  const volume = await create('v')
  await mkdir(join(data(volume), 'real'))
  for (let i = 0; i < 50; i++) await writeFile(join(data(volume), 'real', `f${i}`), 'mine')
  await writeFile(join(data(volume), 'real', 'secret'), 'mine')
  await using _swapper = await startSwapper(data(volume), join(bed.directory, 'outside'))
  let copies = 0
  for (let round = 0; round < rounds; round++) {
    const snapshot = await snap(volume, `s${round}`).catch((error: unknown) => {
      expect(error).toMatchObject({ code: 'ABORTED' }) // It may say that it cannot; it may not be led astray.
      return undefined
    })
    if (!snapshot) continue
    const target = targetIn(bed)
    await driver.snapshots?.mount(context(), volume, snapshot, target)
    // A listing under renames may miss every name.
    if ((await readdir(target)).length > 0) copies++
    expect(await sh('grep', '-rl', '--exclude-dir=proc', 'root:', target).catch(() => '')).toBe('')
    await driver.snapshots?.unmount(context(), volume, snapshot, target)
  }
  expect(copies).toBeGreaterThan(0)
}

test('a copy is cancelled at any moment, at once, and leaves no process', async () => {
  await open(onHost)
  for (let round = 0; round < 60; round++) {
    const [controller, reason] = [new AbortController(), new Error('cancelled by the test')]
    const copy = join(bed.directory, `copy${round}`)
    await mkdir(copy)
    const timer = setTimeout(() => controller.abort(reason), round / 4)
    const begun = performance.now()
    await expect(copyTree('/usr', copy, 'usr', controller.signal)).rejects.toBe(reason)
    clearTimeout(timer)
    expect(performance.now() - begun).toBeLessThan(5_000)
  }
  await expect.poll(() => sh('ps', '-eo', 'args').then((all) => all.includes(`${bed.directory}/copy`))).toBe(false)
})

describe('what a crash leaves', () => {
  test('in tmp is removed by the next start', async () => {
    await open(onHost)
    const draft = join(bed.directory, 'vfs', 'tmp', 'crashed')
    await mkdir(join(draft, 'data', 'deep'), { recursive: true })
    await writeFile(join(draft, 'data', 'deep', 'file'), 'x')
    await writeFile(join(bed.directory, 'vfs', 'tmp', 'stray'), 'x')
    await restart()
    await expect.poll(() => bed.leftovers(), { timeout: 5_000 }).toEqual([])
  })

  test('in tmp is removed with its subvolumes, read-only ones too', async () => {
    await open(onBtrfs)
    const draft = join(bed.directory, 'vfs', 'tmp', 'crashed')
    await mkdir(draft)
    await sh('btrfs', 'subvolume', 'create', join(draft, 'live'))
    await writeFile(join(draft, 'live', 'file'), 'x')
    await sh('btrfs', 'subvolume', 'snapshot', '-r', join(draft, 'live'), join(draft, 'data'))
    await restart()
    await expect.poll(() => bed.leftovers(), { timeout: 5_000 }).toEqual([])
  })

  test('frozen is thawed by the next start', async () => {
    await open(onHost)
    const volume = await create('v', { size: 32 * MiB })
    const target = targetIn(bed)
    await driver.mount(context(), volume, target)
    const live = join(bed.directory, 'vfs', 'tmp', 'crashed', 'live')
    await mkdir(live, { recursive: true })
    await sh('mount', '-o', 'loop', join(folderOf(bed, 'v'), 'image'), live)
    await sh('fsfreeze', '--freeze', live)
    await restart([volume])
    await sh('timeout', '5', 'touch', join(target, 'written'))
    await expect.poll(() => bed.leftovers(), { timeout: 5_000 }).toEqual([])
    await driver.unmount(context(), volume, target)
    expect(await isAttached(join(folderOf(bed, 'v'), 'image'))).toBe(false)
  })

  test('between the two renames of a revert is finished by the same call', async () => {
    await open(onXfs)
    const volume = await create('v')
    await writeFile(join(data(volume), 'file'), 'then')
    const snapshot = await snap(volume, 's')
    await writeFile(join(data(volume), 'file'), 'now')
    const folder = folderOf(bed, 'v')
    await sh('cp', '-a', join(folder, 'snapshots', 's', 'data'), join(folder, `next~${snapshot.id}`))
    // What stands ready is taken: there may be no room to build it once more.
    await writeFile(join(folder, `next~${snapshot.id}`, 'mark'), '')
    await rename(join(folder, 'data'), join(folder, 'previous'))
    await restart([volume])
    await driver.revert?.revert(context(), volume, snapshot)
    expect(await readFile(join(data(volume), 'file'), 'utf8')).toBe('then')
    expect((await readdir(data(volume))).sort()).toEqual(['file', 'mark'])
    expect((await readdir(folder)).sort()).toEqual(['data', 'id', 'snapshots'])
  })

  test('between a mount of a snapshot and its being read-only is made read-only by the same call', async () => {
    await open(onXfs)
    const snapshot = await snap(await create('v'), 's')
    const target = targetIn(bed)
    await mkdir(target, { recursive: true })
    await sh('mount', '--bind', join(folderOf(bed, 'v'), 'snapshots', 's', 'data'), target)
    const volume = newVolume('v', { id: snapshot.volumeId })
    await driver.snapshots?.mount(context(), volume, snapshot, target)
    await expect(writeFile(join(target, 'file'), '')).rejects.toMatchObject({ code: 'EROFS' })
    expect(readMounts().filter((entry) => entry.mountpoint === target)).toHaveLength(1)
  })

  test('in the middle of a resize is finished by the same call', async () => {
    await open(onHost)
    const volume = await create('v', { size: 320 * MiB, options: { fs: 'xfs' } })
    await sh('truncate', '-s', String(480 * MiB), join(folderOf(bed, 'v'), 'image'))
    await driver.resize?.resize(context(), volume, 480 * MiB)
    const target = targetIn(bed)
    await driver.mount(context(), volume, target)
    await sh('dd', 'if=/dev/zero', `of=${join(target, 'fill')}`, 'bs=1M', 'count=350')
    await driver.unmount(context(), volume, target)
  })
})

test('one storage has one daemon', async () => {
  await open(onHost)
  await expect(bed.driver().start(context(), [], [])).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' })
  await restart()
})

test('a disk that is not mounted is waited for, not taken for an empty one', async () => {
  await open(onHost)
  const volume = await create('v')
  await driver.stop()
  await rename(join(bed.directory, 'vfs'), join(bed.directory, 'elsewhere'))
  await expect(driver.start(context(), [volume], [])).rejects.toMatchObject({ code: 'UNAVAILABLE' })
  expect(existsSync(join(bed.directory, 'vfs'))).toBe(false)
  await rename(join(bed.directory, 'elsewhere'), join(bed.directory, 'vfs'))
  await driver.start(context(), [volume], [])
  await driver.mount(context(), volume, targetIn(bed))
})

describe('options', () => {
  beforeEach(() => open(onHost))

  test('set owner and mode of the root directory, of an image too', async () => {
    for (const [name, size] of [
      ['plain', null],
      ['image', 32 * MiB],
    ] as const) {
      const volume = await create(name, { size, options: { uid: '5', gid: '6', mode: '2751' } })
      const target = targetIn(bed)
      await driver.mount(context(), volume, target)
      expect(await stat(driver.mountpoint(volume, target))).toMatchObject({ uid: 5, gid: 6, mode: 0o42751 })
      await driver.unmount(context(), volume, target)
    }
  })

  test.each([
    { uid: '-1' },
    { uid: 'root' },
    { gid: '4294967295' },
    { mode: '888' },
    { mode: '17777' },
    { mode: '' },
    { fs: 'btrfs' },
    { fs: 'ext4' },
    { adopt: 'relative' },
    { adopt: '/' },
    { adopt: '/etc/passwd' },
  ])('refuse %j', async (options) => {
    await expect(create('v', { options })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
    expect(existsSync(folderOf(bed, 'v'))).toBe(false)
  })

  test('refuse a size that no image can have', async () => {
    await expect(create('v', { size: MiB })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
    await expect(create('v', { size: 100 * MiB, options: { fs: 'xfs' } })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    })
  })
})

describe('an adopted directory', () => {
  let directory: string

  beforeEach(async () => {
    await open(onHost)
    directory = join(bed.directory, 'adopted')
    await mkdir(directory, { mode: 0o700 })
    await writeFile(join(directory, 'file'), 'theirs')
  })

  test('is the volume, as it is, and stays when that is deleted', async () => {
    const volume = await create('v', { options: { adopt: directory } })
    await driver.mount(context(), volume, targetIn(bed))
    expect(data(volume)).toBe(directory)
    expect((await stat(directory)).mode & 0o777).toBe(0o700)
    await snap(volume, 's')
    await remove(volume)
    expect(await readFile(join(directory, 'file'), 'utf8')).toBe('theirs')
    expect(existsSync(folderOf(bed, 'v'))).toBe(false)
  })

  test("is found when it stands complete, and is its volume's again", async () => {
    const volume = await create('v', { options: { adopt: directory } })
    await restart()
    expect(await driver.findVolume(context(), { ...volume, state: null })).toEqual(volume.state)
    await expect(create('w', { options: { adopt: directory } })).rejects.toMatchObject({ code: 'ALREADY_EXISTS' })
    await rm(directory, { recursive: true })
    expect(await driver.findVolume(context(), { ...volume, state: null })).toBeNull()
  })

  test("that does not exist is asked for, and the system's are refused", async () => {
    await expect(create('w', { options: { adopt: '/nowhere/at/all' } })).rejects.toMatchObject({
      code: 'NOT_FOUND',
      message: '/nowhere/at/all cannot be adopted: it does not exist; create it first',
    })
    for (const adopt of [
      '/proc/self',
      '/sys/kernel',
      '/dev/shm',
      '/etc',
      '/usr/lib',
      '/lib64',
      '/bin',
      '/run',
      '/var',
    ]) {
      await expect(create('w', { options: { adopt } })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
    }
  })

  test('stays where it is when the volume is discarded, which frees it', async () => {
    const volume = await create('v', { options: { adopt: directory } })
    const state = (await driver.trash?.discard(context(), volume)) as DriverState
    const heir = await create('heir', { options: { adopt: directory } })
    await expect(driver.trash?.restore(context(), { ...volume, state }, 'v')).rejects.toMatchObject({
      code: 'ALREADY_EXISTS',
    })
    await remove(heir)
    const restored = (await driver.trash?.restore(context(), { ...volume, state }, 'v')) as DriverState
    expect(driver.mountpoint({ ...volume, state: restored }, '/nowhere')).toBe(directory)
    expect(await readFile(join(directory, 'file'), 'utf8')).toBe('theirs')
  })

  test('belongs to one volume, also after a restart', async () => {
    const volume = await create('v', { options: { adopt: directory } })
    await restart([volume])
    await expect(create('w', { options: { adopt: directory } })).rejects.toMatchObject({ code: 'ALREADY_EXISTS' })
    await symlink(directory, join(bed.directory, 'alias'))
    await expect(create('w', { options: { adopt: join(bed.directory, 'alias') } })).rejects.toMatchObject({
      code: 'ALREADY_EXISTS',
    })
    expect(await driver.createVolume(context(), volume)).toEqual(volume.state)
  })

  test('is not shared in part: neither what is in it nor what is around it is adopted by another', async () => {
    const inside = join(directory, 'inside')
    await mkdir(inside)
    const taken = { code: 'ALREADY_EXISTS', message: expect.stringContaining('volume v has adopted') }
    const first = await create('v', { options: { adopt: directory } })
    await expect(create('w', { options: { adopt: inside } })).rejects.toMatchObject(taken)
    await remove(first)
    await create('v', { options: { adopt: inside } })
    await expect(create('w', { options: { adopt: directory } })).rejects.toMatchObject(taken)
  })

  test('may not be inside the storage, nor around it, nor have a size', async () => {
    for (const adopt of [join(bed.directory, 'vfs', 'volumes'), bed.directory]) {
      await expect(create('v', { options: { adopt } })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
    }
    await expect(create('v', { size: 32 * MiB, options: { adopt: directory } })).rejects.toMatchObject({
      code: 'NOT_SUPPORTED',
    })
  })

  test('is not mounted when a symlink leads elsewhere, nor reverted', async () => {
    const volume = await create('v', { options: { adopt: directory } })
    const snapshot = await snap(volume, 's')
    await expect(driver.revert?.revert(context(), volume, snapshot)).rejects.toMatchObject({ code: 'NOT_SUPPORTED' })
    await rename(directory, `${directory}-moved`)
    await symlink('/etc', directory)
    await expect(driver.mount(context(), volume, targetIn(bed))).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' })
  })

  test('is not mounted when a symlink on the way to it leads elsewhere', async () => {
    const parent = join(bed.directory, 'parent')
    await mkdir(join(parent, 'data'), { recursive: true })
    const volume = await create('v', { options: { adopt: join(parent, 'data') } })
    await rename(parent, `${parent}-moved`)
    await symlink(`${parent}-moved`, parent)
    await expect(driver.mount(context(), volume, targetIn(bed))).rejects.toMatchObject({
      code: 'FAILED_PRECONDITION',
      message: expect.stringContaining(`leads to ${parent}-moved/data`),
    })
  })

  test('can be cloned', async () => {
    const volume = await create('v', { options: { adopt: directory } })
    const snapshot = await snap(volume, 's')
    const copy = newVolume('copy')
    const state = (await driver.clone?.create(context(), copy, volume, snapshot)) as DriverState
    expect(await readFile(join(data({ ...copy, state }), 'file'), 'utf8')).toBe('theirs')
  })
})

describe('subvolumes that a container makes in its volume', () => {
  const btrfs = (...args: string[]) => sh('btrfs', ...args)

  async function createWithNested(name: string): Promise<Volume> {
    const volume = await create(name)
    const outer = join(data(volume), 'outer')
    await btrfs('subvolume', 'create', outer)
    await btrfs('subvolume', 'create', join(outer, 'inner'))
    await writeFile(join(outer, 'inner', 'file'), 'x')
    await mkdir(join(outer, 'deep'))
    await btrfs('subvolume', 'snapshot', '-r', join(outer, 'inner'), join(outer, 'deep', 'past'))
    await btrfs('property', 'set', '-ts', outer, 'ro', 'true')
    return volume
  }

  test('are neither left out of a snapshot nor removed by a revert', async () => {
    await open(onBtrfs)
    const volume = await create('v')
    const snapshot = await snap(volume, 's')
    await btrfs('subvolume', 'create', join(data(volume), 'outer'))
    await writeFile(join(data(volume), 'outer', 'file'), 'precious')
    const refused = { code: 'FAILED_PRECONDITION', message: expect.stringContaining('(outer)') }
    await expect(snap(volume, 't')).rejects.toMatchObject(refused)
    await expect(driver.revert?.revert(context(), volume, snapshot)).rejects.toMatchObject(refused)
    expect(await readFile(join(data(volume), 'outer', 'file'), 'utf8')).toBe('precious')
    expect(await bed.leftovers()).toEqual([])
  })

  test('are removed with it, read-only ones too, from the trash as well', async () => {
    await open(onBtrfs)
    await remove(await createWithNested('v'))
    const trashed = await createWithNested('w')
    const state = (await driver.trash?.discard(context(), trashed)) as DriverState
    await remove({ ...trashed, state })
    expect(await readdir(join(bed.directory, 'vfs', 'trash'))).toEqual([])
    expect(await bed.leftovers()).toEqual([])
    expect(await btrfs('subvolume', 'list', bed.directory)).toBe('')
  })

  test('are removed with what a crash has left', async () => {
    await open(onBtrfs)
    const volume = await createWithNested('v')
    await rename(folderOf(bed, 'v'), join(bed.directory, 'vfs', 'tmp', volume.id))
    await restart()
    await expect.poll(() => bed.leftovers(), { timeout: 5_000 }).toEqual([])
  })

  test('do not lead the removal to others by a symlink', async () => {
    await open(onBtrfs)
    const volume = await createWithNested('v')
    const other = join(bed.directory, 'other')
    await btrfs('subvolume', 'snapshot', '-r', data(volume), other)
    await symlink(other, join(data(volume), 'link'))
    await remove(volume)
    expect(await btrfs('property', 'get', '-ts', other)).toContain('ro=true')
  })
})

test('nobody but root reaches what is in a volume, and no program in a snapshot takes rights', async () => {
  await open(onHost)
  await snap(await create('first'), 's') // Makes the archive.
  for (const path of ['', 'volumes', 'trash', 'tmp', 'repository', 'views']) {
    expect((await stat(join(bed.directory, 'vfs', path))).mode & 0o777).toBe(0o700)
  }
  for (const [name, given] of [
    ['d', {}],
    ['i', { size: 32 * MiB }],
  ] as const) {
    const volume = await create(name, given)
    const snapshot = await snap(volume, 's')
    const target = targetIn(bed)
    await driver.snapshots?.mount(context(), volume, snapshot, target)
    const entry = readMounts().find(({ mountpoint }) => mountpoint === target)
    expect(entry?.options).toEqual(expect.arrayContaining(['ro', 'nosuid', 'nodev']))
    await driver.snapshots?.unmount(context(), volume, snapshot, target)
  }
})

describe('a full storage', () => {
  const small = () => onFileSystem(['mkfs.ext4', '-q', '-F', '-m', '0'], 64 * MiB)

  test('refuses a snapshot and a clone, and keeps nothing of them', async () => {
    await open(small)
    const volume = await create('v')
    const snapshot = await snap(volume, 'empty')
    const free = async () => (await statfs(bed.directory)).bavail
    await sh('dd', 'if=/dev/urandom', `of=${join(data(volume), 'fill')}`, 'bs=1M', 'count=36')
    const before = await free()
    const error = await snap(volume, 's').catch((thrown: unknown) => thrown as AppError)
    expect(error).toMatchObject({ code: 'NO_SPACE' })
    expect((error as AppError).message).toMatch(/^cannot keep snapshot v@s in the archive: .* it is full/)
    expect(await bed.leftovers()).toEqual([])
    expect((await readdir(join(folderOf(bed, 'v'), 'snapshots'))).sort()).toEqual(['empty'])
    // What the archive had taken before it found no more comes back by itself.
    await expect.poll(async () => (await free()) / before, { timeout: 30_000, interval: 200 }).toBeGreaterThan(0.95)
    await driver.snapshots?.delete(context(), volume, snapshot)
    expect((await stat(join(data(volume), 'fill'))).size).toBe(36 * MiB)
  })

  test('refuses a clone that is too small for the snapshot', async () => {
    await open(onHost)
    const volume = await create('v')
    await sh('dd', 'if=/dev/urandom', `of=${join(data(volume), 'fill')}`, 'bs=1M', 'count=36')
    const snapshot = await snap(volume, 's')
    const copy = newVolume('copy', { size: 24 * MiB })
    await expect(driver.clone?.create(context(), copy, volume, snapshot)).rejects.toMatchObject({ code: 'NO_SPACE' })
    expect(await bed.leftovers()).toEqual([])
    expect(existsSync(folderOf(bed, 'copy'))).toBe(false)
  })
})

describe('images', () => {
  test('of a clone have an id of their own, and cannot become smaller', async () => {
    await open(onXfs)
    for (const [name, size, fs] of [
      ['e', 64 * MiB, 'ext4'],
      ['x', 320 * MiB, 'xfs'],
    ] as const) {
      const volume = await create(name, { size, options: { fs } })
      const snapshot = await snap(volume, 's')
      const copy = newVolume(`${name}-copy`)
      await driver.clone?.create(context(), copy, volume, snapshot)
      const ids = await Promise.all([name, copy.name].map((it) => uuidOf(join(folderOf(bed, it), 'image'))))
      expect(ids[0]).not.toBe(ids[1])
      const less = newVolume(`${name}-less`, { size: size / 2 })
      await expect(driver.clone?.create(context(), less, volume, snapshot)).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
      })
      const other = newVolume(`${name}-other`, { size, options: { fs: fs === 'xfs' ? 'ext4' : 'xfs' } })
      await expect(driver.clone?.create(context(), other, volume, snapshot)).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
      })
    }
  })

  async function uuidOf(image: string): Promise<string> {
    return sh('blkid', '-p', '-o', 'value', '-s', 'UUID', image)
  }

  test('take no more of the storage than is written, and give it back', async () => {
    await open(onHost)
    const volume = await create('v', { size: 2 ** 30 })
    const used = async () => (await driver.usage(context(), volume, false)).used ?? 0
    expect(await used()).toBeLessThan(8 * MiB)
    const target = targetIn(bed)
    await driver.mount(context(), volume, target)
    await sh('dd', 'if=/dev/urandom', `of=${join(target, 'fill')}`, 'bs=1M', 'count=64', 'conv=fsync')
    expect(await used()).toBeGreaterThan(64 * MiB)
    await rm(join(target, 'fill'))
    await sh('sync', '-f', target)
    await driver.trim?.trim(context(), volume)
    expect(await used()).toBeLessThan(32 * MiB)
    await driver.unmount(context(), volume, target)
  })

  test('have one loop device, however many mount and copy them at once', async () => {
    await open(onHost)
    const volume = await create('v', { size: 32 * MiB })
    const image = join(folderOf(bed, 'v'), 'image')
    const over = new AbortController()
    let most = 0
    const watch = async () => {
      while (!over.signal.aborted) most = Math.max(most, (await loopDevicesOf(image)).length)
    }
    const watching = watch()
    const use = async (round: number) => {
      const targets = [targetIn(bed), targetIn(bed)]
      await Promise.all([
        ...targets.map((target) => driver.mount(context(), volume, target)),
        round % 5 === 0 ? driver.trim?.trim(context(), volume) : snap(volume, `s${round}`),
      ])
      expect(await loopDevicesOf(image)).toHaveLength(1)
      await Promise.all(targets.map((target) => driver.unmount(context(), volume, target)))
    }
    try {
      for (let round = 0; round < 60; round++) await use(round)
    } finally {
      over.abort()
      await watching
    }
    expect(most).toBe(1)
    expect(await bed.leftovers()).toEqual([])
  })

  test('are recognised when they were mounted by another path', async () => {
    await open(onHost)
    const volume = await create('v', { size: 32 * MiB })
    const [alias, target] = [join(bed.directory, 'alias'), targetIn(bed)]
    await mkdir(alias)
    await mkdir(target, { recursive: true })
    await sh('mount', '--bind', join(bed.directory, 'vfs'), alias)
    await sh('mount', '-o', 'loop', join(alias, 'volumes', 'v', 'image'), target)
    await expect(remove(volume)).rejects.toMatchObject({ code: 'IN_USE' })
    await driver.mount(context(), volume, target)
    expect(readMounts().filter((entry) => entry.mountpoint === target)).toHaveLength(1)
    await snap(volume, 's')
    expect(await loopDevicesOf(join(folderOf(bed, 'v'), 'image'))).toHaveLength(1)
    await driver.unmount(context(), volume, target)
    await remove(volume)
  })

  test('that cannot grow that far stay as they are, and can grow less far', async () => {
    await open(onXfs)
    const volume = await create('v', { size: 64 * MiB })
    await expect(driver.resize?.resize(context(), volume, 2 ** 40)).rejects.toMatchObject({ code: 'NOT_SUPPORTED' })
    expect((await driver.usage(context(), volume, false)).size).toBe(64 * MiB)
    await driver.resize?.resize(context(), volume, 128 * MiB)
    expect((await driver.usage(context(), volume, false)).size).toBe(128 * MiB)
  })

  test('that a crash has left too long can grow less far', async () => {
    await open(onXfs)
    for (const [name, size, fs] of [
      ['e', 64 * MiB, 'ext4'],
      ['x', 320 * MiB, 'xfs'],
    ] as const) {
      const volume = await create(name, { size, options: { fs } })
      await sh('truncate', '-s', '1T', join(folderOf(bed, name), 'image'))
      await driver.resize?.resize(context(), volume, size * 2)
      expect((await driver.usage(context(), volume, false)).size).toBe(size * 2)
      const target = targetIn(bed)
      await driver.mount(context(), volume, target)
      const { blocks, bsize } = await statfs(target)
      expect(blocks * bsize).toBeGreaterThan(size * 1.5)
      await driver.unmount(context(), volume, target)
    }
  })

  test('are never left half-grown when that is cancelled at any moment', async () => {
    await open(onHost)
    const volume = await create('v', { size: 64 * MiB })
    const image = join(folderOf(bed, 'v'), 'image')
    for (let round = 0; round < 12; round++) {
      const size = (1 + round) * 2 ** 30
      await driver.resize
        ?.resize(context(AbortSignal.timeout(1 + round * 10)), volume, size)
        .catch((error: unknown) => {
          expect(error).toMatchObject({ name: 'TimeoutError' })
        })
      await sh('e2fsck', '-f', '-n', image)
      const { blocks, bsize } = await mountedSize(volume)
      expect(blocks * bsize).toBeGreaterThan((await stat(image)).size * 0.8)
    }
  })

  async function mountedSize(volume: Volume) {
    const target = targetIn(bed)
    await driver.mount(context(), volume, target)
    const size = await statfs(target)
    await driver.unmount(context(), volume, target)
    return size
  }

  test('larger than a file can be are refused', async () => {
    await open(onHost)
    const huge = { code: 'INVALID_ARGUMENT', message: expect.stringContaining('cannot hold an image of 100T') }
    await expect(create('huge', { size: 100 * 2 ** 40 })).rejects.toMatchObject(huge)
    await expect(create('huge', { size: 2 ** 53 - 1 })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
    const volume = await create('v', { size: 64 * MiB })
    await expect(driver.resize?.resize(context(), volume, 100 * 2 ** 40)).rejects.toMatchObject(huge)
    expect((await driver.usage(context(), volume, false)).size).toBe(64 * MiB)
    expect(await bed.leftovers()).toEqual([])
  })

  test('do not hide what else is mounted at their target', async () => {
    await open(onHost)
    const volume = await create('v', { size: 32 * MiB })
    const target = targetIn(bed)
    await mkdir(target, { recursive: true })
    await sh('mount', '-t', 'tmpfs', 'tmpfs', target)
    await expect(driver.mount(context(), volume, target)).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' })
    expect(readMounts().filter((entry) => entry.mountpoint === target)).toHaveLength(1)
  })

  test('that are damaged harm only themselves', async () => {
    await open(onHost)
    const [good, bad] = [await create('good', { size: 32 * MiB }), await create('bad', { size: 32 * MiB })]
    await sh('truncate', '-s', '0', join(folderOf(bed, 'bad'), 'image'))
    await restart([good, bad])
    await expect(driver.mount(context(), bad, targetIn(bed))).rejects.toMatchObject({ code: 'CORRUPT' })
    const target = targetIn(bed)
    await driver.mount(context(), good, target)
    await driver.unmount(context(), good, target)
    await remove(bad)
  })
})

test('foreign files are named and left alone', async () => {
  await open(onHost)
  const volume = await create('v')
  await writeFile(folderOf(bed, 'stray'), 'x')
  await mkdir(folderOf(bed, 'foreign'))
  await restart([volume])
  const findings = await driver.check(context(), [volume])
  const foreign = findings.filter((finding) => finding.check === 'foreign-file')
  expect(foreign.map((finding) => finding.subject).sort()).toEqual([folderOf(bed, 'foreign'), folderOf(bed, 'stray')])
  await expect(create('foreign')).rejects.toMatchObject({ code: 'ALREADY_EXISTS' })
  await driver.mount(context(), volume, targetIn(bed))
})

describe('the check', () => {
  const named = async (check: string, known: readonly Volume[]) =>
    (await driver.check(context(), known)).filter((finding) => finding.check === check)

  test('names where the data of a volume has gone, and how to bring it back', async () => {
    await open(onHost)
    const volume = await create('try')
    const [place, moved] = [folderOf(bed, 'try'), folderOf(bed, 'try.moved')]
    await rename(place, moved)
    expect(await named('record-without-data', [volume])).toEqual([
      expect.objectContaining({
        subject: 'try',
        message: `the data of volume try is not at ${place}; it was found at ${moved}`,
        remedy: `mv ${moved} ${place}`,
      }),
    ])
    expect(await named('misplaced-data', [volume])).toEqual([
      expect.objectContaining({
        subject: moved,
        message: `${moved} holds the data of volume try`,
        remedy: `mv ${moved} ${place}`,
      }),
    ])
    expect(await named('data-without-record', [volume])).toEqual([])
    await mkdir(place)
    const [finding] = await named('record-without-data', [volume])
    expect(finding?.remedy).toBe(`move away what stands at ${place}, then: mv ${moved} ${place}`)
  })

  test('never advises to remove what carries an id', async () => {
    await open(onHost)
    await create('unknown')
    const volume = await create('v')
    await sh('cp', '-a', folderOf(bed, 'v'), folderOf(bed, 'copy'))
    const findings = await named('data-without-record', [volume])
    expect(findings.map(({ subject }) => subject).sort()).toEqual([folderOf(bed, 'copy'), folderOf(bed, 'unknown')])
    for (const { remedy } of findings) expect(remedy).toBe('move it away, out of the storage, and look into it')
  })

  test('names another volume at the place of one whose data is lost, and how to forget that', async () => {
    await open(onHost)
    const volume = await create('v')
    await remove(volume)
    await create('v')
    expect(await named('record-without-data', [volume])).toEqual([
      expect.objectContaining({ remedy: 'put it back, or forget the volume: holdfast volume rm v --purge' }),
    ])
    expect(await named('data-without-record', [volume])).toHaveLength(1)
  })

  test('warns when images may grow larger than the storage', async () => {
    await open(onXfs)
    const volumes = [await create('a', { size: 2 * 2 ** 30 })]
    expect(await named('overcommitment', volumes)).toEqual([])
    volumes.push(await create('b', { size: 2 * 2 ** 30 }))
    expect(await named('overcommitment', volumes)).toHaveLength(1)
  })

  test('does not warn of a small storage that has room', async () => {
    await open(() => onFileSystem(['mkfs.ext4', '-q', '-F'], 64 * MiB))
    expect(await driver.check(context(), [])).toEqual([])
    await sh('dd', 'if=/dev/zero', `of=${join(bed.directory, 'fill')}`, 'bs=1M', 'count=46')
    expect(await named('little-room', [])).toHaveLength(1)
  })
})
