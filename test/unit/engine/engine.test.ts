/** Every job once, through a process of its own. Needs root, as backups do. */

import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test, vi } from 'vitest'
import type { JobArgs } from '../../../src/engine/jobs.ts'
import type { Place } from '../../../src/engine/place.ts'
import type { ListedFile } from '../../../src/repository/list-files.ts'
import {
  about,
  emptyDirectory,
  makeTree,
  newEngine,
  newPlace,
  scratch,
  secretFile,
  type TestEngine,
} from './support.ts'

// Many processes one after another, each of which strips its types anew: slow on a busy machine.
vi.setConfig({ testTimeout: 90_000 })

const keepOne = { last: 1, hourly: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0, withinMs: 0 }

async function initialized(passphrase?: string): Promise<{ engine: TestEngine; place: Place }> {
  const engine = newEngine()
  const place = newPlace(passphrase)
  await engine.run(place, 'init', { label: 'first' })
  return { engine, place }
}

function backUp(engine: TestEngine, place: Place, root: string, args: Partial<JobArgs<'backupTree'>> = {}) {
  return engine.run(place, 'backupTree', { root, about: about(), parent: 'auto', ...args })
}

function isSame(a: string, b: string): void {
  execFileSync('diff', ['-r', '--no-dereference', a, b])
}

test('init makes a repository once; open and probe say what is there', async () => {
  const engine = newEngine()
  const place = newPlace('secret')
  const made = await engine.run(place, 'init', { label: 'x' })
  expect(made).toEqual({ made: true, encryption: 'aes-256-gcm', repositoryId: expect.stringMatching(/^[0-9a-f]{32}$/) })
  expect(await engine.run(place, 'init', { label: 'x' })).toEqual({ ...made, made: false })
  expect(await engine.run(place, 'open', {})).toEqual({ repositoryId: made.repositoryId, encryption: 'aes-256-gcm' })
  const probed = await engine.run(place, 'probe', {})
  expect(probed).toMatchObject({ ifAbsent: 'kept', listing: 'at once', facts: { kind: 'dir' } })
})

test.each([
  ['plain', undefined],
  ['encrypted', 'secret'],
])('a tree goes and comes back: %s', async (_, passphrase) => {
  const { engine, place } = await initialized(passphrase)
  const root = makeTree(50)
  const first = await backUp(engine, place, root)
  expect(first).toMatchObject({ kind: 'tree', parent: null, files: expect.any(Number) })
  const target = emptyDirectory()
  const result = await engine.run(place, 'restoreTree', { backup: first.id, target, path: '' })
  expect(result).toMatchObject({ bytes: 5000 })
  isSame(root, target)
  expect(await engine.run(place, 'getBackup', { id: first.id })).toEqual({ ...first, damaged: false })
})

test('the parent of a tree is the newest of its volume and host, unless it is damaged', async () => {
  const { engine, place } = await initialized()
  const root = makeTree(5)
  const first = await backUp(engine, place, root)
  await backUp(engine, place, root, { about: about('db', 'other') })
  await backUp(engine, place, root, { about: about('other') })
  const second = await backUp(engine, place, root)
  expect(second).toMatchObject({ parent: first.id, added: 0 })
  const mark = `${new URL(place.url).pathname}/damaged/${second.id}`
  execFileSync('mkdir', ['-p', mark])
  writeFileSync(join(mark, '0'.repeat(32)), '')
  expect(await backUp(engine, place, root)).toMatchObject({ parent: first.id })
  const listed = await engine.run(place, 'listBackups', { volume: 'db' })
  expect(listed.filter(({ damaged }) => damaged).map(({ id }) => id)).toEqual([second.id])
  expect(listed).toHaveLength(4)
  expect(await engine.run(place, 'listBackups', {})).toHaveLength(5)
})

test('a device goes and comes back, also when its parent has been forgotten', async () => {
  const { engine, place } = await initialized()
  const device = join(scratch(), 'device')
  writeFileSync(device, Buffer.alloc(300_000, 7))
  truncateSync(device, 1 << 20)
  const args = { device, size: 1 << 20, allocated: null, parent: null, changed: null, about: about() }
  const first = await engine.run(place, 'backupBlock', args)
  writeFileSync(device, Buffer.alloc(65_536, 9), { flag: 'r+' })
  const changed = [{ start: 0, end: 65_536 }]
  const second = await engine.run(place, 'backupBlock', { ...args, parent: first.id, changed })
  expect(second.parent).toBe(first.id)
  const third = await engine.run(place, 'backupBlock', { ...args, parent: 'f'.repeat(32), changed: [] })
  expect(third).toMatchObject({ parent: null, root: second.root })
  const target = join(scratch(), 'target')
  writeFileSync(target, '')
  await engine.run(place, 'restoreBlock', { backup: second.id, target, isZeroed: true })
  expect(readFileSync(target).equals(readFileSync(device))).toBe(true)
})

test('files are listed by pages, each after the last one was taken', async () => {
  const { engine, place } = await initialized()
  const backup = await backUp(engine, place, makeTree(2500, 1))
  const names: string[] = []
  let busy = false
  const take = async (page: readonly unknown[]) => {
    expect(busy).toBe(false)
    busy = true
    names.push(...(page as ListedFile[]).map(({ path }) => path))
    await new Promise((resolve) => setTimeout(resolve, 50))
    busy = false
  }
  await engine.run(place, 'listFiles', { backup: backup.id, path: '', recursive: true }, { take })
  expect(names).toHaveLength(new Set(names).size)
  expect(names).toContain('file-2499')
  const full = async () => {
    throw new Error('no room')
  }
  const args = { backup: backup.id, path: '', recursive: true }
  await expect(engine.run(place, 'listFiles', args, { take: full })).rejects.toThrow('no room')
})

test('verify and repair tell of damage and mend what can be mended', async () => {
  const { engine, place } = await initialized('secret')
  const { id } = await backUp(engine, place, makeTree(5))
  const sound = await engine.run(place, 'verify', { readData: true, backup: null })
  expect(sound).toMatchObject({ backups: 1, problems: [], damaged: [] })
  rmSync(`${new URL(place.url).pathname}/indexes`, { recursive: true })
  const broken = await engine.run(place, 'verify', { readData: false, backup: null })
  expect(broken.damaged).toMatchObject([{ id, volume: 'db' }])
  expect(await engine.run(place, 'listBackups', {})).toMatchObject([{ id, damaged: true }])
  expect(await engine.run(place, 'repair', { readData: true })).toMatchObject({ lostChunks: 0, leftOut: [] })
  expect((await engine.run(place, 'verify', { readData: true, backup: null })).damaged).toEqual([])
})

test('forget keeps what the policy says, for each host by itself, and prune gives back the room', async () => {
  const { engine, place } = await initialized()
  const ids: string[] = []
  for (const host of ['a', 'a', 'b', 'b']) {
    ids.push((await backUp(engine, place, makeTree(3, 5000), { about: about('db', host) })).id)
  }
  const args = { volume: 'db', host: null, policy: keepOne, timeZone: 'UTC' }
  const planned = await engine.run(place, 'forget', { ...args, dryRun: true })
  expect(planned.filter(({ keep }) => keep).map(({ backup }) => backup.id)).toEqual([ids[1], ids[3]])
  expect(await engine.run(place, 'listBackups', {})).toHaveLength(4)
  expect(await engine.run(place, 'forget', { ...args, host: 'a', dryRun: false })).toHaveLength(2)
  expect((await engine.run(place, 'listBackups', {})).map(({ id }) => id)).toEqual(ids.slice(1))
  await engine.run(place, 'deleteBackups', { ids: ids.slice(2) })
  expect(await engine.run(place, 'prune', { dryRun: true })).toMatchObject({ backups: 1 })
  await engine.run(place, 'prune', { dryRun: false })
  const swept = await engine.run(place, 'prune', { dryRun: false })
  expect(swept.deleted.packs).toBeGreaterThan(0)
})

test('forget keeps the newest backup that is not damaged', async () => {
  const { engine, place } = await initialized()
  const ids: string[] = []
  for (let i = 0; i < 3; i++) ids.push((await backUp(engine, place, makeTree(1))).id)
  const mark = `${new URL(place.url).pathname}/damaged/${ids[2]}`
  execFileSync('mkdir', ['-p', mark])
  writeFileSync(join(mark, '0'.repeat(32)), '')
  await engine.run(place, 'forget', { volume: 'db', host: 'a', policy: keepOne, timeZone: 'UTC', dryRun: false })
  expect((await engine.run(place, 'listBackups', {})).map(({ id }) => id)).toEqual(ids.slice(1))
})

test('passphrases come, are listed and go', async () => {
  const { engine, place } = await initialized('first')
  const file = secretFile(scratch(), 'second')
  const added = await engine.run(place, 'addPassphrase', { file, label: 'spare' })
  const listed = await engine.run(place, 'listPassphrases', {})
  expect(listed.map(({ label }) => label).sort()).toEqual(['first', 'spare'])
  expect(listed.find(({ inUse }) => inUse)).toMatchObject({ label: 'first' })
  const twice = engine.run(place, 'addPassphrase', { file, label: 'again' })
  await expect(twice).rejects.toMatchObject({ code: 'ALREADY_EXISTS', message: expect.stringContaining(added.id) })
  const id = listed.find((one) => one.inUse)?.id ?? ''
  const own = engine.run(place, 'removePassphrase', { id })
  await expect(own).rejects.toMatchObject({
    code: 'FAILED_PRECONDITION',
    message: expect.stringContaining('into the passphrase file first'),
  })
  await engine.run({ ...place, passphraseFile: file }, 'removePassphrase', { id })
  await expect(engine.run(place, 'open', {})).rejects.toMatchObject({ code: 'PERMISSION_DENIED' })
  await engine.run({ ...place, passphraseFile: file }, 'open', {})
})

test('a backup whose parent turns out to be damaged reads everything, and heals it', async () => {
  const { engine, place } = await initialized('secret')
  const root = makeTree(50)
  await backUp(engine, place, root)
  const packs = `${new URL(place.url).pathname}/packs`
  const files = readdirSync(packs, { recursive: true, encoding: 'utf8' }).map((name) => join(packs, name))
  for (const file of files.filter((path) => statSync(path).isFile())) {
    const bytes = readFileSync(file)
    writeFileSync(file, bytes.fill((bytes[40] ?? 0) ^ 1, 40, 41))
  }
  expect(await backUp(engine, place, root)).toMatchObject({ parent: null })
  const verified = await engine.run(place, 'verify', { readData: false, backup: null })
  expect(verified).toMatchObject({ damaged: [] })
  expect(await backUp(engine, place, root)).toMatchObject({ parent: expect.any(String) })
})

test('another repository than the one that was added, or none, is refused', async () => {
  const { engine, place } = await initialized()
  const { repositoryId } = await engine.run(place, 'open', {})
  expect(await engine.run({ ...place, repositoryId }, 'open', {})).toMatchObject({ repositoryId })
  const refusal = (fact: string) => ({ code: 'FAILED_PRECONDITION', message: expect.stringContaining(fact) })
  const other = { ...place, repositoryId: 'ab'.repeat(16) }
  await expect(engine.run(other, 'open', {})).rejects.toMatchObject(refusal('another repository is at'))
  const path = new URL(place.url).pathname
  rmSync(path, { recursive: true })
  mkdirSync(path)
  await expect(engine.run(other, 'open', {})).rejects.toMatchObject(refusal('any more; is the disk mounted?'))
  rmSync(path, { recursive: true })
  await expect(engine.run(other, 'open', {})).rejects.toMatchObject(refusal('is not a directory'))
})

test('a repository is made in an empty directory only, and a try leaves nothing there', async () => {
  const engine = newEngine()
  const path = scratch()
  const place = { url: `file://${path}` }
  mkdirSync(join(path, 'lost+found'))
  await engine.run(place, 'probe', {})
  expect(readdirSync(path)).toEqual(['lost+found'])
  writeFileSync(join(path, 'mine.txt'), 'x')
  const refused = { code: 'FAILED_PRECONDITION', message: expect.stringContaining("it holds 'mine.txt'") }
  await expect(engine.run(place, 'init', { label: '' })).rejects.toMatchObject(refused)
  rmSync(join(path, 'mine.txt'))
  expect(await engine.run(place, 'init', { label: '' })).toMatchObject({ made: true })
})

test('a passphrase is read from regular files only', async () => {
  const [engine, directory] = [newEngine(), scratch()]
  const fifo = join(directory, 'fifo')
  execFileSync('mkfifo', [fifo])
  for (const passphraseFile of ['/dev/zero', fifo, directory]) {
    const place = { url: `file://${directory}/repository`, create: true, passphraseFile }
    await expect(engine.run(place, 'init', { label: 'x' })).rejects.toMatchObject({
      code: 'FAILED_PRECONDITION',
      message: expect.stringContaining(`${passphraseFile} is no regular file`),
    })
  }
})

test('a key that was found is used again, until the passphrase file changes', async () => {
  const { engine, place } = await initialized('secret')
  await engine.run(place, 'open', {})
  const keys = `${new URL(place.url).pathname}/keys`
  const [id] = execFileSync('ls', [keys]).toString().split('\n')
  const sound = readFileSync(join(keys, id ?? ''))
  writeFileSync(join(keys, id ?? ''), 'damaged')
  await engine.run(place, 'open', {})
  await expect(newEngine().run(place, 'open', {})).rejects.toMatchObject({ code: 'CORRUPT' })
  writeFileSync(join(keys, id ?? ''), sound)
  writeFileSync(place.passphraseFile ?? '', 'wrong\n')
  await expect(engine.run(place, 'open', {})).rejects.toMatchObject({ code: 'PERMISSION_DENIED' })
})

test('a key does not open a repository that has taken the place of another', async () => {
  const { engine, place } = await initialized('secret')
  const { repositoryId } = await engine.run(place, 'open', {})
  rmSync(new URL(place.url), { recursive: true })
  const other = await engine.run(place, 'init', { label: '' })
  expect(other).toMatchObject({ made: true })
  expect(other.repositoryId).not.toBe(repositoryId)
  expect(await engine.run(place, 'open', {})).toMatchObject({ repositoryId: other.repositoryId })
})

test('errors come with their code, message and details', async () => {
  const { engine, place } = await initialized('secret')
  const directory = scratch()
  const cases: [Partial<Place>, string, RegExp][] = [
    [{ passphraseFile: secretFile(directory, 'other') }, 'PERMISSION_DENIED', /does not open/],
    [{ passphraseFile: undefined }, 'FAILED_PRECONDITION', /is encrypted/],
    [{ passphraseFile: join(directory, 'none') }, 'FAILED_PRECONDITION', /none cannot be read/],
    [{ passphraseFile: secretFile(directory, '', 'empty') }, 'FAILED_PRECONDITION', /empty line/],
    [{ passphraseFile: 'relative' }, 'INVALID_ARGUMENT', /not an absolute path/],
    [{ url: 'http://nowhere' }, 'INVALID_ARGUMENT', /not the URL/],
    [{ url: `file://${directory}/none`, create: false }, 'FAILED_PRECONDITION', /not a directory/],
    [{ accessKeyFile: '/k', url: 's3://bucket' }, 'INVALID_ARGUMENT', /belong together/],
  ]
  for (const [change, code, message] of cases) {
    const opening = engine.run({ ...place, ...change }, 'open', {})
    await expect(opening).rejects.toMatchObject({ name: 'AppError', code, message: expect.stringMatching(message) })
  }
  await expect(engine.run(place, 'getBackup', { id: '0'.repeat(32) })).rejects.toMatchObject({ code: 'NOT_FOUND' })
})

test('progress is told, and not too often', async () => {
  const { engine, place } = await initialized()
  const root = makeTree(6000, 1)
  let told = 0
  let most = 0
  const since = performance.now()
  const backup = await engine.run(
    place,
    'backupTree',
    { root, about: about(), parent: null },
    { progress: (done) => ([told, most] = [told + 1, Math.max(most, done)]) },
  )
  expect(told).toBeGreaterThan(0)
  expect(told).toBeLessThanOrEqual((performance.now() - since) / 100 + 1)
  expect(most).toBeLessThanOrEqual(Math.max(backup.size, backup.files))
})

test('a listener that throws fails the job, and not the daemon', async () => {
  const { engine, place } = await initialized()
  const progress = () => {
    throw new Error('deaf')
  }
  const args = { root: makeTree(1000, 1), about: about(), parent: null }
  await expect(engine.run(place, 'backupTree', args, { progress })).rejects.toThrow('deaf')
})
