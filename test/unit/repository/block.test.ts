import { closeSync, ftruncateSync, openSync, readFileSync, statSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { Repository } from '../../../src/repository/repository.ts'
import { about, newRepository, noise, scratch } from './support.ts'

const mib = 2 ** 20

function image(size: number, parts: readonly (readonly [number, Buffer])[]): string {
  const path = join(scratch(), 'image')
  write(path, parts, size)
  return path
}

function write(path: string, parts: readonly (readonly [number, Buffer])[], size?: number): void {
  const fd = openSync(path, size === undefined ? 'r+' : 'w+')
  if (size !== undefined) ftruncateSync(fd, size)
  for (const [offset, bytes] of parts) writeSync(fd, bytes, 0, bytes.length, offset)
  closeSync(fd)
}

function backUp(repository: Repository, device: string, more: object = {}) {
  const args = { device, size: statSync(device).size, allocated: null, parent: null, changed: null, about: about() }
  return repository.backupBlock({ ...args, ...more })
}

test.each([
  ['plain', undefined],
  ['encrypted', 'secret'],
])('a device comes back from a %s repository, holes as holes', async (_, passphrase) => {
  const { repository } = await newRepository({ passphrase })
  const device = image(600 * mib + 4096, [
    [0, noise(mib)],
    [300 * mib + 100, noise(70_000, 2)],
    [600 * mib, noise(4096, 3)],
  ])
  const { id, added } = await backUp(repository, device)
  expect(added).toBeLessThan(1.5 * mib)
  const target = image(0, [])
  await repository.restoreBlock({ backup: id, target, isZeroed: false })
  expect(readFileSync(target).equals(readFileSync(device))).toBe(true)
  expect(statSync(target).blocks).toBeLessThan(3 * 2048)
})

test('an incremental backup reads the changed extents only, and is complete', async () => {
  const { repository } = await newRepository()
  const device = image(300 * mib, [
    [0, noise(4 * mib)],
    [290 * mib, noise(mib, 4)],
  ])
  const allocated = [
    { start: 0, end: 4 * mib },
    { start: 290 * mib, end: 291 * mib },
  ]
  const first = await backUp(repository, device, { allocated })
  // The second write is not told of: that it is missing from the backup shows that only what was told is read.
  write(device, [
    [mib + 5, noise(100, 5)],
    [3 * mib, noise(100, 6)],
  ])
  const changed = [
    { start: mib, end: mib + 4096 },
    { start: 290 * mib, end: 290 * mib + 1 },
  ]
  const second = await backUp(repository, device, { parent: first.id, changed })
  expect(second.added).toBeLessThan(300_000)
  const target = image(0, [])
  await repository.restoreBlock({ backup: second.id, target, isZeroed: true })
  const expected = readFileSync(device)
  noise(4 * mib).copy(expected, 3 * mib, 3 * mib, 3 * mib + 65_536)
  expect(readFileSync(target).equals(expected)).toBe(true)
  const unchanged = await backUp(repository, device, { parent: second.id, changed: [] })
  expect(unchanged).toMatchObject({ added: 0, root: second.root })
})

test('a device that has grown since its parent', async () => {
  const { repository } = await newRepository()
  const device = image(10 * mib + 512, [[0, noise(mib)]])
  const first = await backUp(repository, device)
  write(device, [[12 * mib, noise(100, 2)]])
  const second = await backUp(repository, device, {
    parent: first.id,
    changed: [{ start: 10 * mib, end: 12 * mib + 100 }],
  })
  const target = image(0, [])
  await repository.restoreBlock({ backup: second.id, target, isZeroed: true })
  expect(readFileSync(target).equals(readFileSync(device))).toBe(true)
})

test('any extent is read on its own', async () => {
  const { repository } = await newRepository({ passphrase: 'secret' })
  const device = image(280 * mib, [
    [mib - 10, noise(200_000)],
    [270 * mib, noise(mib, 2)],
  ])
  const { id } = await backUp(repository, device)
  const whole = readFileSync(device)
  await using reader = await repository.openBlock(id)
  expect(reader.size).toBe(280 * mib)
  const wanted = [
    [0, 10],
    [mib - 20, mib + 70_000],
    [270 * mib - 5, 271 * mib + 5],
    [280 * mib - 1, 280 * mib],
    [5, 5],
  ] as const
  const read = await Promise.all(wanted.map(([start, end]) => reader.read(start, end)))
  for (const [i, [start, end]] of wanted.entries()) {
    expect(Buffer.from(read[i] as Uint8Array).equals(whole.subarray(start, end))).toBe(true)
  }
  await expect(reader.read(0, 280 * mib + 1)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
})

test('kinds are not mixed up', async () => {
  const { repository } = await newRepository()
  const { id } = await backUp(repository, image(mib, []))
  await expect(repository.restoreTree({ backup: id, target: scratch(), path: '' })).rejects.toMatchObject({
    code: 'NOT_SUPPORTED',
  })
})
