/** Records on a share: what is written is read; what others have written is checked, and believed after the place it lies in. */

import { mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { keyOf, readAll, readVolume, trashKeyOf, writeRecords } from '../../../../drivers/nfs/records.ts'
import { layoutOf } from '../../../../drivers/vfs/layout.ts'
import type { Snapshot, Volume } from '../../../../src/model.ts'

let root: string
const layout = () => layoutOf(root)

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'holdfast-records-'))
  await mkdir(join(root, 'volumes'))
  await mkdir(join(root, 'trash'))
})

afterEach(() => rm(root, { recursive: true, force: true }))

const volume: Volume = {
  id: '0d1f7ad2-1111-4222-8333-944455556666',
  name: 'db',
  driver: 'nfs',
  size: null,
  options: { access: 'single' },
  createdAt: '2026-11-23T10:00:00.000Z',
  labels: { tier: 'gold' },
  onRemove: 'retain',
  origin: 'old@s1',
  hooks: { pre: 'sync', timeoutMs: 5_000 },
  state: { kind: 'directory', limit: null, subdir: null, trashed: false },
}
const snapshot: Snapshot = {
  id: '1d1f7ad2-1111-4222-8333-944455556666',
  volumeId: volume.id,
  name: 's1',
  createdAt: '2026-11-23T10:00:01.000Z',
  labels: {},
  atomic: true,
  size: null,
  used: 12,
  state: { kind: 'directory' },
}

async function makeFolder(name = volume.name): Promise<string> {
  const folder = join(root, 'volumes', name)
  await mkdir(join(folder, 'snapshots/s1'), { recursive: true })
  await symlink(volume.id, join(folder, 'id'))
  await symlink(snapshot.id, join(folder, 'snapshots/s1/id'))
  return folder
}

test('what is published is read as it was', async () => {
  await makeFolder()
  expect(await readVolume(layout(), 'volumes/db')).toBeNull()
  expect(await writeRecords(layout(), volume, [snapshot])).toBe(keyOf('db'))
  expect(await readVolume(layout(), 'volumes/db')).toEqual({ volume, snapshots: [snapshot] })
})

test('a snapshot exists when it is published, and goes with its data', async () => {
  const folder = await makeFolder()
  await writeRecords(layout(), volume, [])
  expect((await readVolume(layout(), 'volumes/db'))?.snapshots).toEqual([])
  await writeRecords(layout(), volume, [snapshot])
  await rm(join(folder, 'snapshots/s1'), { recursive: true })
  expect((await readVolume(layout(), 'volumes/db'))?.snapshots).toEqual([])
})

test('the place is believed before the record: in the trash, and under another name', async () => {
  const folder = await makeFolder()
  await writeRecords(layout(), volume, [snapshot])
  await rename(folder, join(root, 'trash', `db~${volume.id}`))
  const all = await readAll(layout())
  expect([...all.keys()]).toEqual([trashKeyOf(volume)])
  expect(all.get(trashKeyOf(volume))?.volume).toMatchObject({ id: volume.id, purgeAt: null, state: { trashed: true } })
  await rename(join(root, 'trash', `db~${volume.id}`), join(root, 'volumes/again'))
  expect((await readVolume(layout(), 'volumes/again'))?.volume).toMatchObject({
    name: 'again',
    state: { trashed: false },
  })
})

test('what cannot be published says so', async () => {
  await expect(writeRecords(layout(), volume, [])).rejects.toMatchObject({ code: 'NOT_FOUND' })
})

const whole = { format: 1, ...volume }

test.each([
  ['no JSON', '{"format":1,'],
  ['no object', '[]'],
  ['another format', JSON.stringify({ ...whole, format: 2 })],
  ["another volume's", JSON.stringify({ ...whole, id: snapshot.id })],
  ['a size that is none', JSON.stringify({ ...whole, size: -1 })],
  ['labels that are none', JSON.stringify({ ...whole, labels: { a: 1 } })],
  ['no time', JSON.stringify({ ...whole, createdAt: 'yesterday' })],
  ['an unknown wish', JSON.stringify({ ...whole, onRemove: 'explode' })],
  ['hooks that are none', JSON.stringify({ ...whole, hooks: { pre: ['rm', '-rf', '/'] } })],
  ['a state with more in it', JSON.stringify({ ...whole, state: { kind: { evil: true } } })],
])('a record that is %s is damaged, and the others are not', async (_what, text) => {
  const folder = await makeFolder()
  await writeFile(join(folder, 'record.json'), text)
  const other = { ...volume, id: '2d1f7ad2-1111-4222-8333-944455556666', name: 'other' }
  await mkdir(join(root, 'volumes/other'))
  await symlink(other.id, join(root, 'volumes/other/id'))
  await writeRecords(layout(), other, [])
  const all = await readAll(layout())
  expect(all.get('volumes/db')?.volume).toMatchObject({
    id: volume.id,
    name: 'db',
    damage: expect.any(String),
    state: null,
  })
  expect(all.get('volumes/other')?.volume).toEqual(other)
})

test('a record is not read through a symlink, nor from a name that is none', async () => {
  const folder = await makeFolder()
  await writeFile(join(root, 'elsewhere'), JSON.stringify(whole))
  await symlink(join(root, 'elsewhere'), join(folder, 'record.json'))
  expect((await readVolume(layout(), 'volumes/db'))?.volume.damage).toMatch(/cannot be read/)
  await makeFolder('.evil')
  await writeFile(join(root, 'volumes/.evil/record.json'), JSON.stringify(whole))
  expect([...(await readAll(layout())).keys()]).toEqual(['volumes/db'])
  expect(await readVolume(layout(), 'volumes/../trash/x')).toBeNull()
})

test('a snapshot that is damaged leaves its volume whole', async () => {
  const folder = await makeFolder()
  await writeRecords(layout(), volume, [snapshot])
  await writeFile(join(folder, 'snapshots/s1/record.json'), '{}')
  const found = await readVolume(layout(), 'volumes/db')
  expect(found?.volume).toEqual(volume)
  expect(found?.snapshots).toEqual([
    expect.objectContaining({ id: snapshot.id, name: 's1', damage: expect.any(String) }),
  ])
})
