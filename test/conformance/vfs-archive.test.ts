/** What the vfs driver promises of snapshots that are kept in the archive, and of a replacement, beyond every driver's laws. */

import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Driver } from '../../src/driver.ts'
import type { Snapshot, Volume } from '../../src/model.ts'
import { readMounts } from '../../src/system/mount.ts'
import { context, type DriverBed, newSnapshot, newVolume, sh, targetIn } from './driver-bed.ts'
import { folderOf, onHost } from './driver-vfs.ts'

let bed: DriverBed
let driver: Required<Driver>

async function start(known: readonly Volume[] = []): Promise<void> {
  driver = bed.driver() as Required<Driver>
  await driver.start(context(), known, [])
}

async function restart(known: readonly Volume[]): Promise<void> {
  await driver.stop()
  await start(known)
}

beforeEach(async () => {
  bed = await onHost()
  await start()
})

afterEach(async () => {
  await driver.stop()
  await bed.dispose()
})

const inStorage = (...names: string[]) => join(bed.directory, 'vfs', ...names)
const data = (volume: Volume) => driver.mountpoint(volume, '/nowhere')
const copies = () => readdir(inStorage('repository', 'manifests'))
const room = async () => Number.parseInt(await sh('du', '-s', '-B1', inStorage('repository')), 10)

async function create(name: string): Promise<Volume> {
  const volume = newVolume(name)
  return { ...volume, state: await driver.createVolume(context(), volume) }
}

async function snap(volume: Volume, name: string): Promise<Snapshot> {
  const snapshot = newSnapshot(volume, name)
  const { state } = await driver.snapshots.create(context(), volume, { ...snapshot, frozen: false })
  return { ...snapshot, state }
}

async function textIn(volume: Volume, snapshot: Snapshot): Promise<string> {
  const target = targetIn(bed)
  await driver.snapshots.mount(context(), volume, snapshot, target)
  const text = await readFile(join(target, 'file'), 'utf8')
  await driver.snapshots.unmount(context(), volume, snapshot, target)
  return text
}

describe('archived snapshots', () => {
  test('say what they have added, and give their room back when they and their volume are gone', async () => {
    const volume = await create('v')
    await sh('dd', 'if=/dev/urandom', `of=${join(data(volume), 'large')}`, 'bs=1M', 'count=8')
    await writeFile(join(data(volume), 'file'), 'then')
    const [first, second] = [newSnapshot(volume, 'first'), newSnapshot(volume, 'second')]
    const taken = await driver.snapshots.create(context(), volume, { ...first, frozen: true })
    expect(taken).toMatchObject({ atomic: true, state: { kind: 'archive' } })
    expect(taken.used).toBeGreaterThan(8 * 2 ** 20)
    const again = await driver.snapshots.create(context(), volume, { ...second, frozen: true })
    expect(again.used).toBeLessThan(2 ** 17)
    await driver.snapshots.delete(context(), volume, { ...first, state: taken.state })
    expect(await copies()).toHaveLength(1)
    const trashed = { ...volume, state: await driver.trash.discard(context(), volume) }
    expect(await textIn(trashed, { ...second, state: again.state })).toBe('then')
    await driver.deleteVolume(context(), trashed)
    expect(await copies()).toEqual([])
    await expect.poll(room, { timeout: 60_000, interval: 500 }).toBeLessThan(2 ** 20)
    await expect.poll(() => existsSync(inStorage('prune-due')), { timeout: 10_000 }).toBe(false)
  })

  test('that a crash has left out of sight are forgotten by the next start', async () => {
    const volume = await create('v')
    const snapshot = await snap(volume, 's')
    const kept = await snap(volume, 'kept')
    await rename(join(folderOf(bed, 'v'), 'snapshots', 's'), inStorage('tmp', snapshot.id))
    await restart([volume])
    expect(await copies()).toHaveLength(1)
    expect(await driver.snapshots.find(context(), volume, kept)).not.toBeNull()
    await expect.poll(() => bed.leftovers(), { timeout: 5_000 }).toEqual([])
  })

  test('stay mounted through a restart; what nothing shows is removed', async () => {
    const volume = await create('v')
    await writeFile(join(data(volume), 'file'), 'then')
    const [held, left] = [await snap(volume, 'held'), await snap(volume, 'left')]
    const targets = [targetIn(bed), targetIn(bed)] as const
    await driver.snapshots.mount(context(), volume, held, targets[0])
    await driver.snapshots.mount(context(), volume, left, targets[1])
    await sh('umount', targets[1]) // As a reboot does.
    await restart([volume])
    expect(await readdir(inStorage('views'))).toEqual([held.id])
    await driver.snapshots.mount(context(), volume, held, targets[0])
    expect(readMounts().filter(({ mountpoint }) => mountpoint === targets[0])).toHaveLength(1)
    expect(await readFile(join(targets[0], 'file'), 'utf8')).toBe('then')
    const second = targetIn(bed)
    await driver.snapshots.mount(context(), volume, held, second)
    await driver.snapshots.unmount(context(), volume, held, targets[0])
    expect(await readFile(join(second, 'file'), 'utf8')).toBe('then')
    await driver.snapshots.unmount(context(), volume, held, second)
    expect(await readdir(inStorage('views'))).toEqual([])
  })

  test('do not hinder those that were copied in full before there was an archive', async () => {
    const volume = await create('v')
    const old = { ...newSnapshot(volume, 'old'), state: { kind: 'directory' } }
    const folder = join(folderOf(bed, 'v'), 'snapshots', 'old')
    await mkdir(join(folder, 'data'), { recursive: true })
    await writeFile(join(folder, 'data', 'file'), 'old')
    await symlink(old.id, join(folder, 'id'))
    const young = await snap(volume, 'young')
    expect(await driver.check(context(), [volume])).toEqual([])
    expect(await textIn(volume, old)).toBe('old')
    const source = await driver.snapshots.open(context(), volume, old, targetIn(bed), null)
    expect(source).toMatchObject({ kind: 'tree', compare: 'content' })
    if (source.kind === 'tree') await driver.snapshots.unmount(context(), volume, old, source.root)
    await driver.revert.revert(context(), volume, old)
    expect(await readFile(join(data(volume), 'file'), 'utf8')).toBe('old')
    await driver.snapshots.delete(context(), volume, old)
    expect(existsSync(folder)).toBe(false)
    expect(await driver.snapshots.find(context(), volume, young)).not.toBeNull()
  })

  test('that have lost their data are found by the check, and an archive that cannot be read', async () => {
    const volume = await create('v')
    await snap(volume, 's')
    expect(await driver.check(context(), [volume])).toEqual([])
    const [manifest = ''] = await copies()
    await rm(inStorage('repository', 'manifests', manifest))
    expect(await driver.check(context(), [volume])).toEqual([
      expect.objectContaining({ severity: 'error', check: 'snapshot-without-data', subject: 'v@s' }),
    ])
    await writeFile(inStorage('repository', 'config'), 'no config')
    expect(await driver.check(context(), [volume])).toEqual([
      expect.objectContaining({ severity: 'error', check: 'archive-unreadable', subject: inStorage('repository') }),
    ])
    await writeFile(join(data(volume), 'file'), 'volumes are not concerned')
    await driver.mount(context(), volume, targetIn(bed))
  })
})

describe('a replacement', () => {
  let volume: Volume
  let from: Volume
  let place: string

  beforeEach(async () => {
    volume = await create('v')
    from = await create('other')
    place = folderOf(bed, 'v')
    await writeFile(join(data(volume), 'file'), 'old')
    await writeFile(join(data(from), 'file'), 'new')
  })

  const next = () => join(place, `next~${from.id}`)
  const moveBeside = () => rename(join(folderOf(bed, 'other'), 'data'), next())
  const mark = () => symlink(from.id, join(place, 'replaced'))
  const setAside = () => rename(join(place, 'data'), join(place, 'previous'))
  const putIn = () => rename(next(), join(place, 'data'))

  test.each([1, 2, 3, 4])('interrupted after step %i is finished by the same call', async (steps) => {
    for (const step of [moveBeside, mark, setAside, putIn].slice(0, steps)) await step()
    await restart([volume])
    const inode = steps === 4 ? (await stat(join(place, 'data'))).ino : (await stat(next())).ino
    await driver.replace.replace(context(), volume, from)
    expect(await readFile(join(data(volume), 'file'), 'utf8')).toBe('new')
    expect((await stat(join(place, 'data'))).ino).toBe(inode) // Moved, never copied.
    expect((await readdir(place)).sort()).toEqual(['data', 'id', 'replaced'])
    expect(existsSync(folderOf(bed, 'other'))).toBe(false)
    await expect.poll(() => bed.leftovers(), { timeout: 5_000 }).toEqual([])
  })

  test('of adopted data, and by what is kept in another way, is refused', async () => {
    const adopted = join(bed.directory, 'adopted')
    await mkdir(adopted)
    const theirs = newVolume('theirs', { options: { adopt: adopted } })
    const known = { ...theirs, state: await driver.createVolume(context(), theirs) }
    await expect(driver.replace.replace(context(), known, from)).rejects.toMatchObject({ code: 'NOT_SUPPORTED' })
    const image = newVolume('image', { size: 32 * 2 ** 20 })
    const sized = { ...image, state: await driver.createVolume(context(), image) }
    await expect(driver.replace.replace(context(), sized, from)).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' })
    expect(await readFile(join(data(from), 'file'), 'utf8')).toBe('new')
  })

  test('that is being prepared is no finding, once the check is told of it', async () => {
    const making = { ...from, state: null }
    expect(await driver.check(context(), [volume, making])).toEqual([])
    await driver.deleteVolume(context(), making)
    expect(await driver.check(context(), [volume, making])).toEqual([])
  })
})
