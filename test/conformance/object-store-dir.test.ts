/**
 * A directory store on file systems that are full, read-only, unmounted or frozen, and with writers that are killed.
 * Needs root.
 */

import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, ftruncateSync, mkdirSync, mkdtempSync, openSync, readdirSync, rmSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as later } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { openDirStore } from '../../src/objectstore/dir.ts'
import type { ObjectStore } from '../../src/objectstore/objectstore.ts'

let directory: string
let mountpoint: string
let mounted: boolean

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'holdfast-test-'))
  mountpoint = join(directory, 'mnt')
  mkdirSync(mountpoint)
  mounted = false
})

afterEach(() => {
  if (mounted) unmount()
  rmSync(directory, { recursive: true, force: true })
})

function mount(...args: readonly string[]): void {
  execFileSync('mount', [...args, mountpoint])
  mounted = true
}

function unmount(): void {
  execFileSync('umount', [mountpoint])
  mounted = false
}

/** An ext4 of 32 MiB on a loop device that goes with its mount. */
function mountImage(): void {
  const image = join(directory, 'image')
  const file = openSync(image, 'w')
  ftruncateSync(file, 32 * 2 ** 20)
  closeSync(file)
  execFileSync('mkfs.ext4', ['-q', image])
  mount('-o', 'loop', image)
}

async function keysOf(store: ObjectStore): Promise<string[]> {
  const all: string[] = []
  for await (const object of store.list('')) all.push(object.key)
  return all
}

const data = new Uint8Array(100_000).fill(7)

describe('a directory store', () => {
  it('shows nothing of an object that did not fit, and takes smaller ones', async () => {
    mount('-t', 'tmpfs', '-o', 'size=2m', 'tmpfs')
    const store = await openDirStore(mountpoint)
    await store.put('fits', data)
    await expect(store.put('large', new Uint8Array(3 * 2 ** 20))).rejects.toMatchObject({ code: 'NO_SPACE' })
    expect(await keysOf(store)).toEqual(['fits'])
    await expect.poll(() => readdirSync(join(mountpoint, '.tmp'))).toEqual([])
    await store.put('small', data)
    expect(Buffer.compare(await store.get('small'), data)).toBe(0)
  })

  it('reads a read-only file system and says that it cannot write to it', async () => {
    mount('-t', 'tmpfs', 'tmpfs')
    await (await openDirStore(mountpoint)).put('a/b', data)
    mount('-o', 'remount,ro')
    const store = await openDirStore(mountpoint)
    expect(Buffer.compare(await store.get('a/b'), data)).toBe(0)
    expect(await keysOf(store)).toEqual(['a/b'])
    const readOnly = { code: 'FAILED_PRECONDITION', message: expect.stringMatching(/is read-only/) }
    await expect(store.put('a/c', data)).rejects.toMatchObject(readOnly)
    await expect(store.delete(['a/b'])).rejects.toMatchObject(readOnly)
  })

  it('writes nothing below a mount point whose disk was taken out, and goes on when it is back', async () => {
    mountImage()
    const store = await openDirStore(mountpoint)
    await store.put('a/b', data)
    unmount()
    const calls = [
      () => store.put('a/c', data),
      () => store.get('a/b'),
      () => store.stat('a/b'),
      () => store.delete(['a/b']),
      () => keysOf(store),
    ]
    for (const call of calls) await expect(call()).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    expect(readdirSync(mountpoint)).toEqual([])
    mount('-o', 'loop', join(directory, 'image'))
    const again = await openDirStore(mountpoint)
    expect(await keysOf(again)).toEqual(['a/b'])
  })

  it('leaves the rest of the process its threads when its file system hangs', async () => {
    mountImage()
    const store = await openDirStore(mountpoint, { timeoutMs: 300 })
    await store.put('a/b', data)
    execFileSync('fsfreeze', ['--freeze', mountpoint])
    try {
      const puts = ['a/c', 'x/y', 'a/d', 'a/e', 'a/f'].map((key) => store.put(key, data))
      for (const end of await Promise.allSettled(puts)) {
        expect(end).toMatchObject({ status: 'rejected', reason: { code: 'TIMEOUT' } })
      }
      const start = performance.now()
      await Promise.all(Array.from({ length: 20 }, () => stat('/')))
      expect(performance.now() - start).toBeLessThan(500)
      const signal = AbortSignal.timeout(50)
      await expect(store.put('a/g', data, { signal })).rejects.toMatchObject({ name: 'TimeoutError' })
    } finally {
      execFileSync('fsfreeze', ['--unfreeze', mountpoint])
    }
    await expect.poll(() => store.put('a/h', data).then(() => 'stored', String), { timeout: 10_000 }).toBe('stored')
    for (const key of await keysOf(store)) expect(Buffer.compare(await store.get(key), data)).toBe(0)
    await expect.poll(() => readdirSync(join(mountpoint, '.tmp')), { timeout: 10_000 }).toEqual([])
  })

  it('has every object whole, and every one that was stored, when its writer is killed at any moment', async () => {
    const store = await openDirStore(mountpoint)
    const told = new Set<string>()
    for (let round = 0; round < 12; round++) {
      const path = join(import.meta.dirname, '../support/write-objects.ts')
      const writer = spawn(process.execPath, [path, mountpoint], { stdio: ['ignore', 'pipe', 'inherit'] })
      let output = ''
      writer.stdout.on('data', (text) => {
        output += text
      })
      const closed = once(writer, 'close')
      await expect.poll(() => output.includes('\n'), { timeout: 10_000, interval: 5 }).toBe(true)
      await later(Math.random() * 60)
      writer.kill('SIGKILL')
      await closed
      for (const line of output.split('\n').slice(0, -1)) told.add(line)
      const found = await keysOf(store)
      expect(found).toEqual(expect.arrayContaining([...told]))
      for (const key of found) expectWhole(key, await store.get(key))
      await store.delete(found)
      told.clear()
    }
  })
})

/** As write-objects.ts makes it. */
function expectWhole(key: string, bytes: Uint8Array): void {
  const [number = 0, size = 0] = (key.split('/')[2] ?? '').split('-').map(Number)
  expect(bytes.length).toBe(size)
  expect(bytes.every((it) => it === number % 256)).toBe(true)
}
