/** A mounted image is thawed whatever happens to those who froze it. */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { copyFrozen } from '../../src/system/freeze.ts'
import { makeFileSystem, makeScratch, removeScratch, sh } from './driver-bed.ts'

let scratch: string
let root: string
let image: string
let copy: string

beforeAll(async () => {
  scratch = await makeScratch()
  root = await makeFileSystem(scratch, ['mkfs.ext4', '-q', '-F'], 2 ** 30)
  image = join(scratch, 'disk')
  copy = join(scratch, 'copy')
  // So much that a copy takes a while on a file system without reflink.
  await sh('dd', 'if=/dev/urandom', `of=${join(root, 'data')}`, 'bs=1M', 'count=500', 'conv=fsync')
})

afterAll(() => removeScratch(scratch))

const write = (seconds: number) => sh('timeout', String(seconds), 'touch', join(root, 'written'))

/** Whether a write, which takes less than a millisecond, is waiting after 50. */
async function isFrozen(): Promise<boolean> {
  const written = writeFile(join(root, 'written'), 'x').then(() => false)
  return Promise.race([written, delay(50, true)])
}

/** Starts a program that copies the frozen image, and waits until it is frozen. */
async function startCopy() {
  const program = [
    `import { copyFrozen } from '${join(import.meta.dirname, '../../src/system/freeze.ts')}'`,
    `await copyFrozen(${[root, image, copy].map((it) => JSON.stringify(it)).join(', ')}, 60_000)`,
  ].join('\n')
  const child = spawn(process.execPath, ['--input-type=module', '--eval', program], { stdio: 'inherit' })
  await expect.poll(() => existsSync(copy), { timeout: 10_000, interval: 1 }).toBe(true)
  return child
}

test('after the copy', async () => {
  await copyFrozen(root, image, copy, 60_000)
  await write(2)
  await mkdir(join(scratch, 'check'))
  await sh('mount', '-o', 'loop,ro,noload', copy, join(scratch, 'check'))
  await sh('cmp', join(root, 'data'), join(scratch, 'check', 'data'))
  await sh('umount', join(scratch, 'check'))
  await rm(copy)
})

test('when its copier is killed in the middle, and the daemon too', async () => {
  let met = 0
  for (let round = 0; round < 5; round++) {
    const child = await startCopy()
    if (await isFrozen()) met++
    const ended = once(child, 'exit')
    child.kill('SIGKILL')
    await ended
    await write(5)
    await rm(copy, { force: true })
  }
  expect(met).toBeGreaterThan(0)
})

test('when the copy takes longer than its writers may wait', async () => {
  const begun = performance.now()
  await expect(copyFrozen(root, image, copy, 20)).rejects.toMatchObject({ code: 'TIMEOUT' })
  expect(performance.now() - begun).toBeLessThan(10_000)
  await write(2)
  await rm(copy, { force: true })
})

test('when the copy is cancelled', async () => {
  const controller = new AbortController()
  const reason = new Error('cancelled by the test')
  const copying = copyFrozen(root, image, copy, 60_000, controller.signal)
  const failed = expect(copying).rejects.toBe(reason)
  await expect.poll(() => existsSync(copy), { timeout: 10_000, interval: 1 }).toBe(true)
  await delay(20)
  controller.abort(reason)
  await failed
  await write(2)
  await rm(copy, { force: true })
})

test('when there is no room for the copy', async () => {
  const small = await makeScratch()
  try {
    const full = await makeFileSystem(small, ['mkfs.ext4', '-q', '-F'], 2 ** 26)
    await expect(copyFrozen(root, image, join(full, 'copy'), 60_000)).rejects.toMatchObject({ code: 'NO_SPACE' })
    await write(2)
  } finally {
    await removeScratch(small)
  }
})
