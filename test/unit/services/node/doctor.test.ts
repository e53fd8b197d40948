/** What doctor finds: each check on a node that has just that wrong, and nothing of it on one that has not. */

import { chmodSync, writeFileSync } from 'node:fs'
import { createServer as createHttpServer } from 'node:http'
import { createServer } from 'node:net'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { beforeEach, expect, test, vi } from 'vitest'
import { beginOperation, type Change, insertTarget, putSnapshot } from '../../../../src/catalog/changes.ts'
import { AppError } from '../../../../src/errors.ts'
import type { Finding, Volume } from '../../../../src/model.ts'
import { examine } from '../../../../src/services/node/doctor.ts'
import { DockerApi } from '../../../../src/system/docker.ts'
import { openCore, type TestCore } from '../../../support/core.ts'
import { anOperation, aSnapshot, aVolume } from '../../../support/nouns.ts'

const host = vi.hoisted(() => ({ mounted: [] as string[], dockerdStartedAt: undefined as number | undefined }))
vi.mock(import('../../../../src/system/mount.ts'), async (original) => ({
  ...(await original()),
  usesOf: async () => [],
  readMounts: () => host.mounted.map((mountpoint) => ({ mountpoint }) as never),
}))
vi.mock(import('../../../../src/system/process.ts'), async (original) => ({
  ...(await original()),
  dockerdStartedAt: () => host.dockerdStartedAt,
}))
beforeEach(() => {
  host.mounted = []
  host.dockerdStartedAt = undefined
})

/** Without what this machine's own Docker may have wrong. */
async function findingsOf({ core }: TestCore): Promise<Finding[]> {
  const found = await examine(core, new DockerApi(core.config.dockerSocket))
  return found.filter(({ check }) => check !== 'stale-socket')
}

/** `severity check subject` of what is found besides the plugin socket, which no test has where Docker looks for it. */
async function besidesSocket(t: TestCore): Promise<string[]> {
  const found = (await findingsOf(t)).filter(({ check }) => check !== 'socket-unreachable')
  return found.map(({ severity, check, subject }) => `${severity} ${check} ${subject}`)
}

test('a plugin socket that nothing answers on, or where Docker does not look', async () => {
  await using t = await openCore()
  const { pluginSocket } = t.core.config
  expect(await findingsOf(t)).toEqual([
    expect.objectContaining({
      severity: 'error',
      check: 'socket-unreachable',
      subject: pluginSocket,
      message: expect.stringMatching(/^nothing answers/),
    }),
  ])
  await using server = createServer((socket) => socket.end())
  await new Promise<void>((resolve) => server.listen(pluginSocket, resolve))
  expect(await findingsOf(t)).toEqual([
    expect.objectContaining({
      message: expect.stringMatching(/in no folder where Docker looks/),
      remedy: expect.stringContaining(`unix://${pluginSocket}`),
    }),
  ])
})

test("a volume of Docker's own with the name of one of ours", async () => {
  await using t = await openCore()
  await t.volumes.create({ name: 'db' })
  const records = [
    { Name: 'db', Driver: 'local' },
    { Name: 'other', Driver: 'local' },
  ]
  await using engine = createHttpServer((_, response) => void response.end(JSON.stringify({ Volumes: records })))
  await new Promise<void>((resolve) => engine.listen(t.core.config.dockerSocket, resolve))
  expect(await besidesSocket(t)).toEqual(['error impostor db'])
  records[0] = { Name: 'db', Driver: 'holdfast' }
  expect(await besidesSocket(t)).toEqual([])
})

test('mounts that nobody holds, of a volume, of a snapshot, of nothing known', async () => {
  await using t = await openCore()
  await t.volumes.create({ name: 'db' })
  await t.snapshots.create('db', { name: 's1' })
  await t.volumes.create({ name: 'held' })
  await t.mounts.mount('held', 'c1')
  await t.snapshots.mount('db', 's1')
  const at = (name: string): string => `${t.core.config.root}/mounts/${name}`
  host.mounted = ['/', at('held'), at('db@s1')]
  expect(await besidesSocket(t)).toEqual([])
  host.mounted = [at('db'), at('db@gone'), at('gone')]
  expect(await besidesSocket(t)).toEqual(host.mounted.map((path) => `warning unreferenced-mount ${path}`))
})

test('a first start after that of Docker', async () => {
  await using t = await openCore()
  await t.core.catalog.write({ sql: `INSERT INTO settings VALUES ('first-start-of-boot', '10000')`, params: [] })
  for (const later of [11_000, 8_500]) {
    host.dockerdStartedAt = later // The kernel tells it to the second only.
    expect(await besidesSocket(t)).toEqual([])
  }
  host.dockerdStartedAt = 7_000
  expect(await besidesSocket(t)).toEqual(['warning started-after-docker dockerd'])
})

test('a damaged record, of a volume and of a snapshot', async () => {
  await using t = await openCore()
  for (const name of ['db', 'web']) await t.volumes.create({ name })
  await t.snapshots.create('web', { name: 's1' })
  const db = new Database(`${t.core.config.root}/catalog.db`)
  db.exec(`UPDATE volumes SET labels = '[' WHERE name = 'db'; UPDATE snapshots SET labels = '['`)
  db.close()
  expect(await besidesSocket(t)).toEqual(['error damaged-record db', 'error damaged-record web@s1'])
})

test('a driver that could not start, with the reason', async () => {
  await using t = await openCore({ prepare: (driver) => driver.fail('start', new AppError('UNAVAILABLE', 'no disk')) })
  await vi.waitFor(() => expect(t.core.drivers.all()[0]?.state).toBe('failed'))
  expect((await findingsOf(t)).find(({ check }) => check === 'driver-not-ready')?.message).toMatch(/failed: no disk/)
})

test('what an earlier life left open, but not what runs now', async () => {
  await using t = await openCore()
  const gate = t.driver.block('createVolume')
  const creating = t.volumes.create({ name: 'new' })
  await gate.reached
  expect(await besidesSocket(t)).toEqual([])
  await t.core.catalog.write(beginOperation(anOperation({ subject: 'db', startedAt: new Date(0).toISOString() })))
  expect(await besidesSocket(t)).toEqual(['warning not-recovered db'])
  gate.open()
  await creating
})

test('a check that fails is a finding, errors come first, and the others are made', async () => {
  await using t = await openCore()
  await using engine = createHttpServer((_, response) => void response.end('<html>'))
  await new Promise<void>((resolve) => engine.listen(t.core.config.dockerSocket, resolve))
  expect((await findingsOf(t)).map(({ severity, check, subject }) => `${severity} ${check} ${subject}`)).toEqual([
    `error socket-unreachable ${t.core.config.pluginSocket}`,
    'warning check-failed impostors',
  ])
})

test('a secret that others than its owner can get at', async () => {
  await using t = await openCore()
  const file = join(t.core.config.root, 'pass')
  writeFileSync(file, 'secret\n', { mode: 0o600 })
  const createdAt = '2026-11-23T10:00:00.000Z'
  const target = { name: 'nas', url: `file://${t.core.config.root}/none`, access: { passphraseFile: file } }
  await t.core.catalog.write(insertTarget({ ...target, repositoryId: 'r', encrypted: true, createdAt }))
  expect(await besidesSocket(t)).toEqual(['error target-unreachable nas'])
  chmodSync(file, 0o640)
  expect(await besidesSocket(t)).toEqual(['error target-unreachable nas', 'warning secret-readable nas'])
  expect((await findingsOf(t)).find(({ check }) => check === 'secret-readable')).toMatchObject({
    message: expect.stringContaining(`${file} holds a secret, and others than its owner can get at it (mode 640)`),
    remedy: `chmod 600 ${file}`,
  })
})

test('snapshots of what was before a restore in place, after a week', async () => {
  await using t = await openCore()
  const { volume } = await t.volumes.create({ name: 'db' })
  const { id } = t.core.catalog.volume(volume.name) as Volume
  const days = (count: number): string => new Date(Date.now() - count * 86_400_000).toISOString()
  const safety = (name: string, age: number): Change =>
    putSnapshot(aSnapshot({ ...aVolume(), id }, { name, createdAt: days(age) }))
  await t.core.catalog.write(safety('before-restore-20261101-100000', 6.9), safety('before-restore-by-hand', 9))
  expect(await besidesSocket(t)).toEqual([])
  await t.core.catalog.write(
    safety('before-restore-20261001-100000', 7.1),
    safety('before-restore-20261001-100000-2', 8),
  )
  expect(await besidesSocket(t)).toEqual(['warning old-safety-snapshot db'])
  expect((await findingsOf(t)).find(({ check }) => check === 'old-safety-snapshot')?.remedy).toMatch(
    / holdfast snapshot rm db@before-restore-20261001-100000-2 db@before-restore-20261001-100000$/,
  )
})

test('what a driver finds wrong with its storage, an error and a warning, with the remedy', async () => {
  const full: Finding = {
    severity: 'warning',
    check: 'pool-data-filling',
    subject: 'holdfast-pool',
    message: 'the pool holds 85 % of its data device',
    remedy: 'enlarge the data device: lvextend',
  }
  const broken: Finding = {
    severity: 'error',
    check: 'pool-needs-check',
    subject: 'holdfast-pool',
    message: 'the metadata of the pool needs a check',
    remedy: 'thin_check /dev/mapper/holdfast-metadata, then thin_repair',
  }
  await using t = await openCore({ findings: [full, broken] })
  const found = await findingsOf(t)
  expect(found.filter(({ subject }) => subject === 'holdfast-pool')).toEqual([broken, full])
})
