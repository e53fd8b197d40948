/** Disks that are full: the calls that need room say so and leave nothing, everything else goes on, and nothing is lost. */

import { randomBytes } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { isAppError } from '../../src/errors.ts'
import type { Finding } from '../../src/model.ts'
import type { SnapshotView } from '../../src/services/snapshots/contract.ts'
import type { VolumeView } from '../../src/services/volumes/contract.ts'
import { type FaultBed, openFaultBed } from '../support/fault-bed.ts'
import { fileSystems, fill, makeRoom, makeSmallDisk } from '../support/small-disk.ts'

const names = async (bed: FaultBed): Promise<string[]> =>
  (await bed.api<VolumeView[]>('GET', '/v1/volumes')).map(({ name }) => name)

const findings = async (bed: FaultBed): Promise<string[]> =>
  (await bed.cli<Finding[]>('doctor')).map(({ check }) => check)

/** The call fails for want of room, in words. */
async function expectNoSpace(call: Promise<unknown>): Promise<void> {
  await expect(call).rejects.toMatchObject({
    code: 'NO_SPACE',
    message: expect.stringMatching(/no space|no room|quota|full/i),
  })
}

/** Incompressible, so that no file system makes it smaller. */
const content = randomBytes(12 * 2 ** 20).toString('base64')

describe.each(fileSystems)('storage on %s that is full', (fileSystem) => {
  test('create, snapshot and clone need room; what is there is unharmed, and with room again they succeed', async () => {
    const prepare = makeSmallDisk(fileSystem, fileSystem === 'xfs' ? '400M' : '256M')
    await using bed = await openFaultBed({ vfs: 'disk/vfs', prepare })
    await bed.api('POST', '/v1/volumes', { name: 'db' })
    await bed.write('db', content)
    await bed.api('POST', '/v1/volumes/db/snapshots', { name: 's1' })
    fill(bed)

    const sized = { name: 'sized', size: '32M' }
    const clone = { name: 'clone', fromSnapshot: 'db@s1' }
    const calls = {
      create: () => bed.api('POST', '/v1/volumes', sized),
      snapshot: () => bed.api('POST', '/v1/volumes/db/snapshots', { name: 's2' }),
      clone: () => bed.api('POST', '/v1/volumes', clone),
    }
    await expectNoSpace(calls.create())
    // Where data is shared, a copy takes hardly any room.
    const failed = fileSystem === 'ext4' ? await allFail(calls) : await thoseThatFail(calls)
    expect(await bed.problems()).toEqual([])
    expect(await bed.read('db')).toBe(content)
    // From the archive a snapshot is laid out to be seen, which takes room.
    if (fileSystem === 'ext4') await expectNoSpace(bed.read('db@s1'))
    else expect(await bed.read('db@s1')).toBe(content)
    const made = ['db', ...(failed.includes('clone') ? [] : ['clone'])]
    expect((await names(bed)).sort()).toEqual(made.sort())

    makeRoom(bed)
    await calls.create()
    for (const name of failed) await calls[name]()
    expect((await names(bed)).sort()).toEqual(['clone', 'db', 'sized'])
    expect(await bed.read('clone')).toBe(content)
    for (const snapshot of ['db@s1', 'db@s2']) expect(await bed.read(snapshot)).toBe(content)
    await bed.write('sized', 'fits')
    expect(await bed.read('sized')).toBe('fits')
    expect(await bed.problems()).toEqual([])
  })
})

type Copies = Readonly<Record<'snapshot' | 'clone', () => Promise<unknown>>>

async function allFail(calls: Copies): Promise<('snapshot' | 'clone')[]> {
  await expectNoSpace(calls.snapshot())
  await expectNoSpace(calls.clone())
  return ['snapshot', 'clone']
}

async function thoseThatFail(calls: Copies): Promise<('snapshot' | 'clone')[]> {
  const failed: ('snapshot' | 'clone')[] = []
  for (const name of ['snapshot', 'clone'] as const) {
    try {
      await calls[name]()
    } catch (error) {
      if (!isAppError(error, 'NO_SPACE')) throw error
      failed.push(name)
    }
  }
  return failed
}

test('an image that cannot be copied for want of room: the volume stays writable, its snapshot comes with the room', async () => {
  await using bed = await openFaultBed({ vfs: 'disk/vfs', prepare: makeSmallDisk('ext4', '256M') })
  await bed.api('POST', '/v1/volumes', { name: 'db', size: '64M' })
  await bed.write('db', content)
  fill(bed, 6 * 2 ** 20)
  const { Mountpoint } = await bed.docker('Mount', { Name: 'db', ID: 'container' })
  await expectNoSpace(bed.api('POST', '/v1/volumes/db/snapshots', { name: 's1' }))
  expect(await bed.run('touch', `${Mountpoint}/thawed`)).toMatchObject({ exitCode: 0 })
  expect(await bed.problems(['db'])).toEqual([])
  makeRoom(bed)
  expect(await bed.api<SnapshotView>('POST', '/v1/volumes/db/snapshots', { name: 's1' })).toMatchObject({
    atomic: true,
  })
  expect(await bed.read('db@s1')).toBe(content)
})

describe('the catalog’s own disk is full', () => {
  test('looking, mounting and removing go on, nothing new is begun, and nothing is lost', async () => {
    await using bed = await openFaultBed({ root: 'disk/root', prepare: makeSmallDisk('ext4', '24M') })
    const full = { code: 'NO_SPACE', message: expect.stringMatching(/catalog .* full disk.*make room/) }
    for (const name of ['db', 'old', 'older']) {
      await bed.api('POST', '/v1/volumes', { name })
      await bed.write(name, `content of ${name}`)
    }
    await bed.api('POST', '/v1/volumes/db/snapshots', { name: 's1' })
    fill(bed)

    for (let time = 0; time < 3; time++)
      await expect(bed.api('POST', '/v1/volumes', { name: 'new' })).rejects.toMatchObject(full)
    await expect(bed.api('POST', '/v1/volumes/db/snapshots', { name: 's2' })).rejects.toMatchObject(full)
    expect((await bed.docker('Get', { Name: 'db' }))['Volume']).toMatchObject({ Name: 'db' })
    // Far more changes than there is room for in the log.
    for (let time = 0; time < 100; time++) expect(await bed.read('db')).toBe('content of db')
    await bed.api('DELETE', '/v1/volumes/old')
    await bed.api('DELETE', '/v1/volumes/older?purge=true')
    expect((await bed.docker('List'))['Volumes']).toHaveLength(1)
    expect(await findings(bed)).toContain('no-room')

    await bed.kill9()
    await bed.start()
    expect(await bed.read('db')).toBe('content of db')
    await expect(bed.api('POST', '/v1/volumes', { name: 'new' })).rejects.toMatchObject(full)

    makeRoom(bed)
    await bed.api('POST', '/v1/volumes', { name: 'new' })
    await bed.api('POST', '/v1/trash/old/restore', {})
    expect((await names(bed)).sort()).toEqual(['db', 'new', 'old'])
    expect(await bed.read('old')).toBe('content of old')
    expect(await bed.problems()).toEqual([])
  })
})
