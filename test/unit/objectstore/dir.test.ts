import { execFileSync } from 'node:child_process'
import {
  constants,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import * as files from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as later } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { openDirStore } from '../../../src/objectstore/dir.ts'
import type { ObjectStore } from '../../../src/objectstore/objectstore.ts'
import { pageMemory } from '../../../src/system/page-memory.ts'

vi.mock('node:fs/promises', { spy: true })

let directory: string
let path: string
let store: ObjectStore

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'holdfast-test-'))
  path = join(directory, 'deep', 'store')
  store = await openDirStore(path, { create: true })
})

afterEach(() => {
  vi.restoreAllMocks()
  rmSync(directory, { recursive: true, force: true })
})

const data = new Uint8Array([1, 2, 3])

async function keys(): Promise<string[]> {
  const all: string[] = []
  for await (const object of store.list('')) all.push(object.key)
  return all
}

function failingWith(code: string) {
  return async () => Promise.reject(Object.assign(new Error(`${code}: planted`), { code }))
}

describe('a store in a directory', () => {
  it('is closed to others', async () => {
    await store.put('a/b/c', data)
    for (const name of ['', 'a', 'a/b', '.tmp']) expect(lstatSync(join(path, name)).mode & 0o777).toBe(0o700)
    expect(lstatSync(join(path, 'a/b/c')).mode & 0o777).toBe(0o600)
    expect(store.url).toBe(`file://${path}`)
    expect(store.facts.details).toEqual({ path })
  })

  it('leaves nothing but the object', async () => {
    await store.put('a/b', data)
    await store.put('a/c', data, { ifAbsent: true })
    await expect(store.put('a/c', data, { ifAbsent: true })).rejects.toMatchObject({ code: 'ALREADY_EXISTS' })
    await vi.waitFor(() => expect(readdirSync(join(path, '.tmp'))).toEqual([]))
    expect(readdirSync(join(path, 'a'))).toEqual(['b', 'c'])
    expect(lstatSync(join(path, 'a/c')).nlink).toBe(1)
  })

  it('does not show what a crash has left, and removes it when it is old', async () => {
    mkdirSync(join(path, '.tmp'))
    const [old, young] = [join(path, '.tmp', 'old'), join(path, '.tmp', 'young')]
    const [days, hours] = [Date.now() / 1000 - 25 * 3600, Date.now() / 1000 - 23 * 3600]
    writeFileSync(old, 'partial')
    writeFileSync(young, 'partial')
    utimesSync(old, days, days)
    utimesSync(young, hours, hours)
    expect(await keys()).toEqual([])
    await store.put('a', data)
    expect(await keys()).toEqual(['a'])
    expect([existsSync(old), existsSync(young)]).toEqual([false, true])
  })

  it('passes over what is not its own', async () => {
    await store.put('a/b', data)
    mkdirSync(join(path, 'lost+found'), { mode: 0 })
    for (const name of ['.DS_Store', 'a b', 'ä']) writeFileSync(join(path, name), '')
    symlinkSync(join(path, 'a/b'), join(path, 'a/link'))
    symlinkSync(join(path, 'a'), join(path, 'linked'))
    expect(await keys()).toEqual(['a/b'])
  })

  it('follows no symlink in an object’s place, to read or to write', async () => {
    const outside = join(directory, 'outside')
    mkdirSync(outside)
    writeFileSync(join(outside, 'secret'), 'secret')
    symlinkSync(join(outside, 'secret'), join(path, 'object'))
    symlinkSync(outside, join(path, 'linked'))
    await expect(store.get('object')).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' })
    await store.put('object', data)
    expect(await store.get('object')).toEqual(data)
    await expect(store.put('linked/secret', data)).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' })
    expect(await files.readFile(join(outside, 'secret'), 'utf8')).toBe('secret')
  })

  it('does not take a directory for an object', async () => {
    await store.put('a/b', data)
    await expect(store.get('a')).rejects.toMatchObject({ code: 'NOT_FOUND' })
    expect(await store.stat('a')).toBeUndefined()
    await expect(store.get('a/b/c')).rejects.toMatchObject({ code: 'NOT_FOUND' })
  })

  it('does without hard links where there are none, and says so', async () => {
    vi.mocked(files.link).mockImplementation(failingWith('EPERM'))
    await store.put('a', data, { ifAbsent: true })
    expect(store.facts.ifAbsent).toBe('ignored')
    await expect(store.put('a', new Uint8Array([9]), { ifAbsent: true })).rejects.toMatchObject({
      code: 'ALREADY_EXISTS',
    })
    expect(await store.get('a')).toEqual(data)
    expect(readdirSync(path).sort()).toEqual(['.tmp', 'a'])
  })

  it('knows its own link when a server repeats the call', async () => {
    const { link } = await vi.importActual<typeof files>('node:fs/promises')
    vi.mocked(files.link).mockImplementationOnce(async (from, to) => {
      await link(from, to)
      throw Object.assign(new Error('EEXIST: planted'), { code: 'EEXIST' })
    })
    await store.put('a', data, { ifAbsent: true })
    expect(await store.get('a')).toEqual(data)
  })

  it.each([
    ['ENOSPC', 'NO_SPACE'],
    ['EDQUOT', 'NO_SPACE'],
    ['EROFS', 'FAILED_PRECONDITION'],
    ['EIO', 'UNAVAILABLE'],
    ['ESTALE', 'UNAVAILABLE'],
    ['EACCES', 'PERMISSION_DENIED'],
    ['ENOENT', 'UNAVAILABLE'],
  ])('%s in the middle of a put is %s and leaves nothing', async (errno, code) => {
    vi.mocked(files.rename).mockImplementationOnce(failingWith(errno))
    await expect(store.put('a', data)).rejects.toMatchObject({ code, message: expect.stringContaining(path) })
    expect(await keys()).toEqual([])
    await vi.waitFor(() => expect(readdirSync(join(path, '.tmp'))).toEqual([]))
    await store.put('a', data)
    expect(await keys()).toEqual(['a'])
  })

  it('heals when something else has removed its directories', async () => {
    await store.put('a/b', data)
    rmSync(join(path, 'a'), { recursive: true })
    await expect(store.put('a/c', data)).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    await store.put('a/c', data)
    expect(await keys()).toEqual(['a/c'])
  })

  it('says "unavailable", not "not found", when its place holds another directory', async () => {
    await store.put('a', data)
    mkdirSync(join(directory, 'other'))
    rmSync(path, { recursive: true })
    const calls = [
      () => store.put('a', data),
      () => store.get('a'),
      () => store.stat('a'),
      () => store.delete(['a']),
      keys,
    ]
    for (const call of calls) await expect(call()).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    symlinkSync(join(directory, 'other'), path)
    for (const call of calls) await expect(call()).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    expect(readdirSync(join(directory, 'other'))).toEqual([])
  })

  it('gives up a call that never ends, and the ones behind it', async () => {
    const hanging = await openDirStore(path, { timeoutMs: 50 })
    const never = Promise.withResolvers<never>()
    vi.mocked(files.lstat).mockImplementation(() => never.promise)
    const late = { code: 'TIMEOUT', message: expect.stringMatching(/does not answer/) }
    for (let call = 0; call < 4; call++) await expect(hanging.stat('a')).rejects.toMatchObject(late)
    const hung = vi.mocked(files.lstat).mock.calls.length
    expect(hung).toBe(2)
    vi.mocked(files.lstat).mockRestore()
    await expect(hanging.stat('a')).rejects.toMatchObject(late)
    never.reject(Object.assign(new Error('ENOENT'), { code: 'ENOENT' }))
    expect(await hanging.stat('a')).toBeUndefined()
  })

  it('loses no thread to calls that are aborted at any moment', async () => {
    const puts = Array.from({ length: 150 }, async (_, index) => {
      const controller = new AbortController()
      const put = store.put(`a/${index}`, data, { signal: controller.signal })
      const turns = index % 30
      void (async () => {
        for (let turn = 0; turn < turns; turn++) await (turn % 3 === 0 ? later(0) : undefined)
        controller.abort(new Error('enough'))
      })()
      return await put.catch((error: Error) => error.message)
    })
    const ends = await Promise.all(puts)
    expect(ends.filter((it) => it !== undefined && it !== 'enough')).toEqual([])
    expect(ends).toContain('enough')
    await store.put('b', data, { signal: AbortSignal.timeout(5000) })
    await vi.waitFor(() => expect(readdirSync(join(path, '.tmp'))).toEqual([]))
    for (const key of await keys()) expect(await store.get(key)).toEqual(data)
  })

  it('is not made where nothing can be made, and what is missing above it is', async () => {
    await expect(openDirStore('/proc/none/repository', { create: true })).rejects.toMatchObject({
      message: expect.stringContaining('/proc/none/repository'),
    })
    const deep = await openDirStore(join(directory, 'a/b/c'), { create: true })
    expect(deep.url).toBe(`file://${join(directory, 'a/b/c')}`)
  })

  it('is not opened where there is none', async () => {
    writeFileSync(join(directory, 'file'), '')
    for (const place of ['nothing', 'file', 'file/below']) {
      await expect(openDirStore(join(directory, place))).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' })
    }
  })
})

describe('a pack', () => {
  const size = 3 * 2 ** 20 + 5
  const pages = () => Number(execFileSync('fincore', ['-nbo', 'PAGES', join(path, 'packs/a')]).toString())
  const filled = (memory: SharedArrayBuffer, start = 0) => new Uint8Array(memory, start, size).fill(7).fill(8, size - 3)

  it('goes past the page cache, but for its last page', async () => {
    const pack = filled(pageMemory(4 * 2 ** 20))
    await store.put('packs/a', pack)
    expect(pages()).toBe(1)
    expect(await store.get('packs/a')).toEqual(Uint8Array.from(pack))
  })

  it.each([
    ['of memory that does not begin at a page', () => filled(pageMemory(4 * 2 ** 20), 16)],
    ['of memory of no kind that is known', () => Uint8Array.from(filled(pageMemory(4 * 2 ** 20)))],
  ])('is whole %s', async (_, make) => {
    const pack = make()
    await store.put('packs/a', pack)
    expect(await store.get('packs/a')).toEqual(Uint8Array.from(pack))
  })

  it('is whole where the file system refuses, which is not asked again', async () => {
    const { open } = await vi.importActual<typeof files>('node:fs/promises')
    let refusals = 0
    vi.mocked(files.open).mockImplementation(async (name, flags, mode) => {
      if ((Number(flags) & constants.O_DIRECT) === 0) return await open(name, flags, mode)
      refusals++
      throw Object.assign(new Error('refused'), { code: 'EINVAL' })
    })
    for (const key of ['packs/a', 'packs/b']) {
      const pack = filled(pageMemory(4 * 2 ** 20))
      await store.put(key, pack)
      expect(await store.get(key)).toEqual(Uint8Array.from(pack))
    }
    expect(refusals).toBe(1)
  })
})
