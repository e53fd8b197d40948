/**
 * The nfs driver over a real NFS server, and two nodes that share it. The server is a kernel's, which this machine must be free to
 * give to it: HOLDFAST_LAB=1, in the kernel lab (scripts/lab). What takes machines of their own is in test/cluster.
 */

import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { describe, expect, onTestFinished, test } from 'vitest'
import type { Driver, SharedCapability, SharedNews } from '../../src/driver.ts'
import type { Volume } from '../../src/model.ts'
import { readMounts } from '../../src/system/mount.ts'
import { driverSuite } from './driver.ts'
import { context, newSnapshot, newVolume, targetIn } from './driver-bed.ts'
import { type ExportOptions, type NfsBed, nfsBed } from './driver-nfs.ts'
import { describeZoo, makeZoo } from './driver-zoo.ts'

const inLab = process.env.HOLDFAST_LAB === '1' && readFileSync('/proc/cpuinfo', 'utf8').includes('User Mode Linux')
const MiB = 2 ** 20

if (inLab) {
  const volume = { driver: 'nfs' }
  driverSuite('nfs: directories on a server with reflink', () => nfsBed({ reflink: true }), {
    volume,
    ...{ atomic: false, cheap: true, compare: 'content', xattrs: 'user' },
  })
  // The same images hold the other laws on a local disk (vfs.test.ts); what the share adds is below.
  driverSuite('nfs: images for one node at a time', () => nfsBed({ reflink: true }), {
    volume: { ...volume, size: 64 * MiB, options: { access: 'single' } },
    ...{ atomic: true, cheap: true, compare: 'inode', limitsOnly: true },
    grow: { from: 64 * MiB, to: 96 * MiB, options: { access: 'single' }, online: true },
  })
}

/** Quicker than in life, for a machine that is slower. */
const times = { beatMs: 500, ttlMs: 6_000, fenceMs: 4_000 }

/** A node of the bed, started, and stopped with the test. */
async function nodeOf(bed: NfsBed, name: string): Promise<Driver & { readonly shared: SharedCapability }> {
  const driver = bed.node(name)
  await driver.start(context(), [], [])
  onTestFinished(() => driver.stop())
  return driver as Driver & { readonly shared: SharedCapability }
}

async function bedWith(options: ExportOptions = {}): Promise<NfsBed> {
  const bed = await nfsBed({ times, ...options })
  onTestFinished(() => bed.dispose())
  return bed
}

async function make(driver: Driver, name: string, given: Partial<Volume> = {}): Promise<Volume> {
  const draft = newVolume(name, { driver: 'nfs', ...given })
  const volume = { ...draft, state: await driver.createVolume(context(), draft) }
  await driver.shared?.publish(context(), volume, [])
  return volume
}

/** Everything that a node is told. */
function watch({ shared }: { readonly shared: SharedCapability }): SharedNews[] {
  const [ending, heard] = [new AbortController(), [] as SharedNews[]]
  const done = shared.watch(ending.signal, (news) => heard.push(news))
  onTestFinished(async () => {
    ending.abort()
    await done
  })
  return heard
}

const key = (name: string) => ({ key: name, options: {} })

const unless = inLab ? '' : ' (not run: this needs a machine to serve NFS from; the kernel lab is one, HOLDFAST_LAB=1)'

describe.skipIf(!inLab)(`two nodes on one export${unless}`, () => {
  test("hear of each other's volumes and snapshots within a second, and find them by name", async () => {
    const bed = await bedWith({ reflink: true })
    const [a, b] = [await nodeOf(bed, 'a'), await nodeOf(bed, 'b')]
    const heard = watch(b)
    await expect.poll(() => heard.some(({ kind }) => kind === 'listing'), { timeout: 20_000 }).toBe(true)
    const volume = await make(a, 'db', { labels: { tier: 'gold' } })
    const madeAt = performance.now()
    const isTold = (check: (volume: Volume) => boolean) =>
      heard.some((news) => news.kind === 'changed' && check(news.volume.volume))
    await expect.poll(() => isTold(({ id }) => id === volume.id), { timeout: 10_000, interval: 20 }).toBe(true)
    expect(performance.now() - madeAt).toBeLessThan(1_000)
    const snapshot = newSnapshot(volume, 's1')
    const taken = await a.snapshots?.create(context(), volume, { ...snapshot, frozen: true })
    await a.shared.publish(context(), volume, [{ ...snapshot, ...taken }])
    const found = await b.shared.find(context(), key('db'))
    expect(found?.volume).toEqual(volume)
    expect(found?.snapshots).toEqual([{ ...snapshot, ...taken }])
    const state = await a.trash?.discard(context(), volume)
    await a.shared.publish(
      context(),
      { ...volume, state: state ?? null, deletedAt: volume.createdAt, purgeAt: null },
      [],
    )
    expect(await b.shared.find(context(), key('db'))).toBeNull()
    await expect.poll(() => isTold((told) => told.id === volume.id && 'deletedAt' in told)).toBe(true)
    await a.deleteVolume(context(), { ...volume, state: state ?? null })
    await expect.poll(() => heard.some((news) => news.kind === 'gone' && news.volumeId === volume.id)).toBe(true)
  })

  test('share the files of a volume, and do not remove it from below each other', async () => {
    const bed = await bedWith()
    const [a, b] = [await nodeOf(bed, 'a'), await nodeOf(bed, 'b')]
    const volume = await make(a, 'db')
    const [onA, onB] = [targetIn(bed), targetIn(bed)]
    await a.mount(context(), volume, onA)
    await b.mount(context(), volume, onB)
    await writeFile(join(onA, 'file'), 'from a')
    expect(await readFile(join(onB, 'file'), 'utf8')).toBe('from a')
    await b.unmount(context(), volume, onB)
    const refused = { code: 'IN_USE', message: expect.stringMatching(/is mounted on node lab/) }
    await expect(b.trash?.discard(context(), volume)).rejects.toMatchObject(refused)
    await expect(b.revert?.revert(context(), volume, newSnapshot(volume, 's'))).rejects.toMatchObject(refused)
    await a.unmount(context(), volume, onA)
    await b.trash?.discard(context(), volume)
    await expect(a.mount(context(), volume, onA)).rejects.toMatchObject({ code: 'NOT_FOUND' })
  })

  test('that create one name at once get one volume', async () => {
    const bed = await bedWith()
    const nodes = [await nodeOf(bed, 'a'), await nodeOf(bed, 'b')]
    const create = (driver: Driver & { readonly shared: SharedCapability }) =>
      driver.shared.exclusive(context(), key('db'), async (ctx, now) => {
        if (now) return now.volume.id
        const draft = newVolume('db', { driver: 'nfs' })
        await driver.shared.publish(ctx, { ...draft, state: await driver.createVolume(ctx, draft) }, [])
        return draft.id
      })
    const ids = await Promise.all([...nodes, ...nodes].map(create))
    expect(new Set(ids).size).toBe(1)
  })

  test('change a volume in turn, and say who has it', async () => {
    const bed = await bedWith()
    const [a, b] = [await nodeOf(bed, 'a'), await nodeOf(bed, 'b')]
    const volume = await make(a, 'db')
    await a.shared.exclusive(context(), key('db'), async () => {
      await expect(b.trash?.discard(context(), volume)).rejects.toMatchObject({
        code: 'ABORTED',
        message: expect.stringMatching(/node lab is changing db/),
      })
    })
    await b.trash?.discard(context(), volume)
  })

  test('pass over what a node that has died was doing, and what it left half-made', async () => {
    const bed = await bedWith()
    const [a, b] = [await nodeOf(bed, 'a'), await nodeOf(bed, 'b')]
    await b.describe(context())
    const dead = Promise.withResolvers<void>()
    const lost = a.shared.exclusive(context(), key('db'), async (ctx) => {
      await a.createVolume(ctx, newVolume('db', { driver: 'nfs' }))
      kill(bed, 'a', 'child')
      dead.resolve()
      await new Promise((_, reject) => ctx.signal.addEventListener('abort', () => reject(ctx.signal.reason)))
    })
    await dead.promise
    await expect(lost).rejects.toMatchObject({ code: 'ABORTED' })
    await a.stop()
    const create = (shared: SharedCapability) =>
      shared.exclusive(context(), key('db'), async (ctx, now) => {
        expect(now).toBeNull()
        const draft = newVolume('db', { driver: 'nfs' })
        await shared.publish(ctx, { ...draft, state: await b.createVolume(ctx, draft) }, [])
        return 'made'
      })
    await expect.poll(() => create(b.shared).catch((error: Error) => error.message), { timeout: 60_000 }).toBe('made')
    expect((await b.shared.find(context(), key('db')))?.volume.name).toBe('db')
  })

  test('mount a volume with access=single one at a time; a dead node loses it, and finds that out', async () => {
    const bed = await bedWith()
    const [a, b] = [await nodeOf(bed, 'a'), await nodeOf(bed, 'b')]
    const volume = await make(a, 'db', { options: { access: 'single' } })
    const [onA, onB] = [targetIn(bed), targetIn(bed)]
    await a.mount(context(), volume, onA)
    await expect(b.mount(context(), volume, onB)).rejects.toMatchObject({
      code: 'IN_USE',
      message: expect.stringMatching(/mounted on node lab/),
    })
    await expect(b.shared.takeover(context(), volume, false)).rejects.toMatchObject({ code: 'IN_USE' })
    await a.unmount(context(), volume, onA)
    await b.mount(context(), volume, onB)
    await b.unmount(context(), volume, onB)
    await a.mount(context(), volume, onA)
    await a.stop() // Its containers go on, and the keeper speaks for them.
    const begun = performance.now()
    while (performance.now() - begun < 2 * times.ttlMs) {
      await expect(b.mount(context(), volume, onB)).rejects.toMatchObject({ code: 'IN_USE' })
      await pause(500)
    }
    kill(bed, 'a', 'keeper')
    await mountedInTheEnd(b, volume, onB)
    const again = await nodeOf(bed, 'a')
    const heard = watch(again)
    await expect.poll(() => heard.find(({ kind }) => kind === 'lost'), { timeout: 30_000 }).toBeDefined()
    await expect(writeFile(join(onA, 'late'), 'x')).rejects.toMatchObject({ code: 'EROFS' })
    expect(await again.check(context(), [volume])).toContainEqual(
      expect.objectContaining({ check: 'right-lost', subject: 'db' }),
    )
  })

  test('have an image one at a time, were it for a snapshot; whoever takes it over goes on with a copy', async () => {
    const bed = await bedWith({ reflink: true })
    const [a, b] = [await nodeOf(bed, 'a'), await nodeOf(bed, 'b')]
    const volume = await make(a, 'db', { size: 64 * MiB, options: { access: 'single' } })
    const [onA, onB] = [targetIn(bed), targetIn(bed)]
    const inode = () => statSync(join(bed.exported, 'volumes/db/image')).ino
    await a.mount(context(), volume, onA)
    await writeFile(join(onA, 'file'), 'from a')
    const first = inode()
    const refused = { code: 'IN_USE', message: expect.stringMatching(/mounted on node lab/) }
    const snapshot = { ...newSnapshot(volume, 's'), frozen: true }
    await expect(b.snapshots?.create(context(), volume, snapshot)).rejects.toMatchObject(refused)
    await expect(b.resize?.resize(context(), volume, 96 * MiB)).rejects.toMatchObject(refused)
    await a.unmount(context(), volume, onA)
    await b.mount(context(), volume, onB)
    expect(inode()).toBe(first) // It was let go.
    await b.unmount(context(), volume, onB)
    await a.mount(context(), volume, onA)
    execFileSync('sync', ['--file-system', onA])
    expect(await b.shared.takeover(context(), volume, true)).toEqual({ from: expect.any(String) })
    expect(inode()).not.toBe(first)
    await b.mount(context(), volume, onB)
    expect(await readFile(join(onB, 'file'), 'utf8')).toBe('from a')
    await writeFile(join(onB, 'file'), 'from b')
    await expect
      .poll(() => writeFile(join(onA, 'late'), 'x').catch(({ code }) => code), { timeout: 30_000 })
      .toBe('EROFS')
    execFileSync('umount', [onA])
    await b.unmount(context(), volume, onB)
    execFileSync('e2fsck', ['-fn', join(bed.exported, 'volumes/db/image')])
    await b.mount(context(), volume, onB)
    expect(await readFile(join(onB, 'file'), 'utf8')).toBe('from b')
    await b.unmount(context(), volume, onB)
  })

  test('keep snapshots in an archive on a share whose server cannot copy: any of them restores and deletes them', async () => {
    const bed = await bedWith({ settings: { version: '3' } })
    const [a, b] = [await nodeOf(bed, 'a'), await nodeOf(bed, 'b')]
    const volume = await make(a, 'db')
    const [onA, onB] = [targetIn(bed), targetIn(bed)]
    await a.mount(context(), volume, onA)
    await makeZoo(onA, 'none')
    const before = await describeZoo(onA)
    expect(await a.snapshots?.isCheap(context(), volume)).toBe(false)
    const draft = newSnapshot(volume, 's')
    const snapshot = { ...draft, ...(await a.snapshots?.create(context(), volume, { ...draft, frozen: false })) }
    expect(snapshot.state).toEqual({ kind: 'archive' })
    await writeFile(join(onA, 'later'), 'x')
    await a.unmount(context(), volume, onA)
    await b.snapshots?.mount(context(), volume, snapshot, onB)
    expect(await describeZoo(onB)).toEqual(before)
    await expect(writeFile(join(onB, 'file'), 'x')).rejects.toMatchObject({ code: 'EROFS' })
    await expect(a.snapshots?.delete(context(), volume, snapshot)).rejects.toMatchObject({ code: 'IN_USE' })
    await b.snapshots?.unmount(context(), volume, snapshot, onB)
    await b.revert?.revert(context(), volume, snapshot)
    await a.mount(context(), volume, onA)
    expect(await describeZoo(onA)).toEqual(before)
    expect(existsSync(join(onA, 'later'))).toBe(false)
    await a.unmount(context(), volume, onA)
    await b.snapshots?.delete(context(), volume, snapshot)
    expect(await a.snapshots?.find(context(), volume, snapshot)).toBeNull()
    await a.deleteVolume(context(), volume)
  })

  test('are not harmed by one damaged record', async () => {
    const bed = await bedWith()
    const [a, b] = [await nodeOf(bed, 'a'), await nodeOf(bed, 'b')]
    const [good, bad] = [await make(a, 'good'), await make(a, 'bad')]
    await writeFile(join(bed.exported, 'volumes/bad/record.json'), '{"format":1,')
    await mkdir(join(bed.exported, 'volumes/..evil'))
    const heard = watch(b)
    await expect
      .poll(() => heard.find(({ kind }) => kind === 'listing'), { timeout: 20_000 })
      .toMatchObject({
        volumes: expect.arrayContaining([
          expect.objectContaining({ volume: good }),
          expect.objectContaining({
            volume: expect.objectContaining({ id: bad.id, name: 'bad', damage: expect.any(String) }),
          }),
        ]),
      })
    await rm(join(bed.exported, 'volumes/..evil'), { recursive: true })
  })

  test('have one lease of a key between them', async () => {
    const bed = await bedWith()
    const [a, b] = [await nodeOf(bed, 'a'), await nodeOf(bed, 'b')]
    const lease = await a.shared.lease(context(), key('schedules'))
    expect(lease).not.toBeNull()
    expect(await b.shared.lease(context(), key('schedules'))).toBeNull()
    await lease?.release()
    expect(await b.shared.lease(context(), key('schedules'))).not.toBeNull()
  })
})

/** Waits until a node that is gone has lost its right. */
async function mountedInTheEnd(driver: Driver, volume: Volume, target: string): Promise<void> {
  const tried = () =>
    driver.mount(context(), volume, target).then(
      () => 'mounted',
      (error: Error) => error.message,
    )
  await expect.poll(tried, { timeout: 60_000, interval: 500 }).toBe('mounted')
}

/** Ends a process of a node's export without a word. */
function kill(bed: NfsBed, node: string, program: 'child' | 'keeper'): void {
  const found = readdirSync('/proc').filter(
    (pid) => /^\d+$/.test(pid) && isOne(pid, join(bed.directory, node), program),
  )
  expect(found).toHaveLength(1)
  process.kill(Number(found[0]), 'SIGKILL')
}

function isOne(pid: string, root: string, program: 'child' | 'keeper'): boolean {
  try {
    const args = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
    return args.some((arg) => arg.includes(root)) && args.some((arg) => arg.endsWith(`/nfs/${program}.ts`))
  } catch {
    return false // It has ended.
  }
}

describe.skipIf(!inLab)(`an export${unless}`, () => {
  test('that maps root to nobody is explained, and serves volumes that ask for no owner', async () => {
    const bed = await bedWith({ rules: 'root_squash' })
    const driver = await nodeOf(bed, 'a')
    await expect(make(driver, 'db')).rejects.toMatchObject({ message: expect.stringMatching(/root_squash/) })
    execFileSync('chown', ['nobody:nogroup', bed.exported])
    await expect(make(driver, 'owned', { options: { uid: '999' } })).rejects.toMatchObject({
      message: expect.stringMatching(/root_squash/),
    })
    const volume = await make(driver, 'db')
    const target = targetIn(bed)
    await driver.mount(context(), volume, target)
    await writeFile(join(target, 'file'), 'x')
    await driver.unmount(context(), volume, target)
  })

  test('that does not exist, or whose server does not speak, is named', async () => {
    const bed = await bedWith({ settings: { export: '/nothing' } })
    const driver = await nodeOf(bed, 'a')
    await expect(make(driver, 'db')).rejects.toMatchObject({
      code: 'FAILED_PRECONDITION',
      message: expect.stringMatching(/127\.0\.0\.1 has no export \/nothing/),
    })
    const begun = performance.now()
    await expect(make(driver, 'db', { options: { server: '192.0.2.1' } })).rejects.toMatchObject({
      message: expect.stringMatching(/192\.0\.2\.1/),
    })
    expect(performance.now() - begun).toBeLessThan(20_000)
  })

  test('has volumes that are directories of its own, which stay', async () => {
    const bed = await bedWith()
    const driver = await nodeOf(bed, 'a')
    const volume = await make(driver, 'web', { options: { subdir: 'projects/web', mode: '0750' } })
    const target = targetIn(bed)
    await driver.mount(context(), volume, target)
    await writeFile(join(target, 'file'), 'kept')
    await driver.unmount(context(), volume, target)
    await expect(make(driver, 'other', { options: { subdir: 'projects' } })).rejects.toMatchObject({
      code: 'ALREADY_EXISTS',
    })
    await driver.deleteVolume(context(), volume)
    expect(await readFile(join(bed.exported, 'projects/web/file'), 'utf8')).toBe('kept')
    expect(readMounts().filter(({ mountpoint }) => mountpoint === target)).toEqual([])
  })
})
