/**
 * A daemon whose volumes are thin devices: it dies in the middle of each kind of operation, and backs devices up and restores them. In the
 * kernel lab, as devicemapper-lab.test.ts.
 */

import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open, readFile } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { parseMapped } from '../../drivers/devicemapper/status.ts'
import { numberOf } from '../../drivers/devicemapper/sysfs.ts'
import type { BackupView } from '../../src/services/backups/contract.ts'
import type { SnapshotView } from '../../src/services/snapshots/contract.ts'
import { crashCases, dieAt } from '../support/crash-cases.ts'
import { type FaultBed, openFaultBed } from '../support/fault-bed.ts'
import { fill, GiB, inLab, MiB, unless } from './devicemapper-rig.ts'
import { sh } from './driver-bed.ts'
import { type PoolBed, poolBed } from './driver-devicemapper.ts'

describe.skipIf(!inLab)(`a daemon on devicemapper${unless}`, () => {
  let pool: PoolBed
  let bed: FaultBed
  beforeAll(async () => {
    pool = await poolBed(GiB)
    // The daemon is started often, by a slow processor.
    vi.stubEnv('NODE_COMPILE_CACHE', `${pool.directory}/compiled`)
    const settings = Object.entries(pool.settings).map(([key, value]) => `${key}=${value}`)
    bed = await openFaultBed({ isSlow: true, driver: { name: 'devicemapper', settings, problems: activeDevices } })
    await bed.api('POST', '/v1/volumes', { name: 'bystander', size: '32M' })
    await bed.write('bystander', 'precious')
  })
  afterAll(async () => {
    await bed?.[Symbol.asyncDispose]()
    vi.unstubAllEnvs()
    await pool?.dispose()
  })

  /** Nothing is mounted when this is asked. */
  async function activeDevices(): Promise<string[]> {
    const names = (await sh('dmsetup', 'ls')).split('\n').flatMap((line) => /^holdfast-\S+/.exec(line) ?? [])
    return names.map((name) => `the device ${name} is active`)
  }

  // Before the driver is called, and after what it did is written down, all drivers are alike. These are the kinds that make something.
  const kinds = ['volume.create', 'volume.create of a clone', 'volume.resize', 'snapshot.create', 'snapshot.revert']
  const cases = crashCases(() => bed).filter(({ kind }) => kinds.includes(kind))

  test.each(cases)('killed when the driver has done its part of $kind, it lives on', async (it) => {
    await dieAt(bed, it, { name: 'thin', size: '32M' }, 'driven')
  })

  test.each(['backup.create', 'backup.restore'])(
    'killed when it has done its part of %s, it ends that in its next life',
    async (kind) => {
      const name = kind.replace('.', '-')
      await bed.api('POST', '/v1/targets', { name, url: `file://${bed.sandbox.directory}/${name}` })
      await bed.api('POST', '/v1/volumes', { name, size: '32M' })
      await bed.write(name, 'content')
      const backUp = () => bed.api('POST', '/v1/backups', { volume: name, to: { at: name } })
      const restore = () =>
        bed.api('POST', '/v1/backups/restore', { from: { backup: `${name}/latest` }, to: `${name}-new` })
      if (kind === 'backup.restore') await backUp()
      await bed.crashAt(`${kind}:driven`, kind === 'backup.create' ? backUp : restore)
      await bed.start()
      if (kind === 'backup.create') await restore()
      expect([await bed.read(`${name}-new`), await bed.read(name)]).toEqual(['content', 'content'])
      expect(await bed.problems()).toEqual([])
    },
  )

  /** Numbers of all thin devices. */
  async function thins(): Promise<string[]> {
    await sh('dmsetup', 'message', pool.pool, '0', 'reserve_metadata_snap')
    const list = await sh('thin_ls', '-m', '--no-headers', '--format', 'DEV', pool.metadata)
    await sh('dmsetup', 'message', pool.pool, '0', 'release_metadata_snap')
    return list.split(/\s+/).filter((word) => word !== '')
  }

  /** Of what a device of this name holds: its digest, and the bytes that are mapped. */
  async function look(name: string): Promise<{ digest: string; mapped: number }> {
    const mapped = parseMapped((await sh('dmsetup', 'status', name)).trim()) ?? 0
    return { digest: await sha512(`/dev/mapper/${name}`), mapped }
  }

  async function sha512(device: string): Promise<string> {
    const hash = createHash('sha512')
    for await (const chunk of createReadStream(device, { highWaterMark: MiB })) hash.update(chunk as Buffer)
    return hash.digest('hex')
  }

  test('a backup is block for block what it was taken of, and costs what has changed since the last', async () => {
    const size = 128 * MiB
    const [megabytes, page] = [48, 4096]
    await bed.api('POST', '/v1/targets', { name: 't', url: `file://${bed.sandbox.directory}/repository` })
    await bed.api('POST', '/v1/volumes', { name: 'data', size: String(size) })
    const { Mountpoint } = await bed.docker('Mount', { Name: 'data', ID: 'writer' })
    const file = bed.sandbox.reach(`${Mountpoint}/file`)
    await fill(file, megabytes)
    const backUp = () => bed.api<BackupView>('POST', '/v1/backups', { volume: 'data', to: { at: 't' } })
    const first = await backUp()
    expect(first).toMatchObject({ kind: 'block', size })
    expect(first.added).toBeGreaterThan(megabytes * MiB)
    expect(first.added).toBeLessThan((megabytes + 8) * MiB)

    const pages = Math.round((megabytes * MiB) / page / 100)
    const handle = await open(file, 'r+')
    for (let i = 0; i < pages; i++) {
      await handle.write(
        Buffer.alloc(page, `changed ${i}`),
        0,
        page,
        Math.floor((Math.random() * megabytes * MiB) / page) * page,
      )
    }
    await handle.sync()
    await handle.close()
    const before = await sectorsRead()
    const second = await backUp()
    const read = (await sectorsRead()) - before
    // A block of 64 KiB for each page, and what the file system has noted about it.
    expect(second).toMatchObject({ kind: 'block', parent: first.id })
    expect(second.added).toBeLessThan(pages * 65_536 + 2 * MiB)
    expect(read).toBeLessThan(pages * 65_536 + 4 * MiB)
    const third = await backUp()
    expect(third.added).toBeLessThan(MiB)

    const [snapshot] = await bed.api<SnapshotView[]>('GET', '/v1/snapshots?volume=data')
    const path = `/v1/volumes/data/snapshots/${snapshot?.name}`
    await bed.api('POST', `${path}/mount`, {})
    const original = await look(`holdfast-data@${snapshot?.name}`)
    await bed.api('POST', `${path}/umount`)
    const earlier = await thins()
    await bed.api('POST', '/v1/backups/restore', { from: { backup: `t/${third.id}` }, to: 'restored' })
    const [made, ...others] = (await thins()).filter((thin) => !earlier.includes(thin))
    expect(others).toEqual([])
    await sh(
      'dmsetup',
      'create',
      'look',
      '--readonly',
      '--table',
      `0 ${size / 512} thin /dev/mapper/${pool.pool} ${made}`,
    )
    const copy = await look('look')
    await sh('dmsetup', 'remove', 'look')
    expect(copy.digest).toBe(original.digest)
    expect(copy.mapped).toBeLessThanOrEqual(original.mapped)
    const content = await readFile(file)
    await bed.docker('Unmount', { Name: 'data', ID: 'writer' })
    const place = await bed.docker('Mount', { Name: 'restored', ID: 'reader' })
    expect((await readFile(bed.sandbox.reach(`${place.Mountpoint}/file`))).equals(content)).toBe(true)
    await bed.docker('Unmount', { Name: 'restored', ID: 'reader' })
    expect(await bed.problems()).toEqual([])
  })

  /** From the pool's data device, in bytes. */
  async function sectorsRead(): Promise<number> {
    const path = `/sys/dev/block/${numberOf(pool.data)}/stat`
    return Number((await readFile(path, 'utf8')).trim().split(/\s+/)[2]) * 512
  }
})
