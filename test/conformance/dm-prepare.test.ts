/** scripts/dm-prepare on loop devices: it refuses whatever holds anything, and changes nothing unless it is told to. */

import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, mkdtemp, open, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { run } from '../../src/system/exec.ts'
import { sh } from './driver-bed.ts'

const program = join(import.meta.dirname, '../../scripts/dm-prepare')
const prepare = (...args: string[]) => run(program, args)
const MiB = 2 ** 20

let directory: string
let file: string
let disk: string

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'holdfast-prepare-'))
  file = join(directory, 'disk')
  await writeFile(file, '')
  await truncate(file, 320 * MiB)
  disk = (await sh('losetup', '--find', '--show', '--partscan', file)).trim()
})
afterEach(async () => {
  await sh('losetup', '--detach', disk)
  await rm(directory, { recursive: true })
})

async function digest(): Promise<string> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(file), hash)
  return hash.digest('hex')
}

/** Refused with these words, and untouched, whether it was to be done or not. */
async function expectRefused(words: RegExp): Promise<void> {
  const before = await digest()
  for (const args of [[disk], ['--yes', disk]]) {
    const { exitCode, stdout, stderr } = await prepare(...args)
    expect({ exitCode, stdout, stderr }).toEqual({ exitCode: 1, stdout: '', stderr: expect.stringMatching(words) })
    expect(stderr).toContain(disk)
  }
  expect(await digest()).toBe(before)
}

test('without --yes it says what it would do, and does nothing', async () => {
  const before = await digest()
  const { exitCode, stdout, stderr } = await prepare(disk)
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' })
  expect(stdout).toMatch(/holdfast-metadata {2}2 MiB/)
  expect(stdout).toMatch(/holdfast-data {6}about 316 MiB/)
  expect(stdout).toMatch(/Nothing was changed/)
  expect(await digest()).toBe(before)
})

test.each([
  ['ext4', ['mkfs.ext4', '-q'], /holds something: ext4; .*wipefs -a/],
  ['xfs', ['mkfs.xfs', '-q'], /holds something: xfs/],
  ['swap space', ['mkswap'], /holds something: swap/],
])('refuses a disk with %s', async (_, [maker = '', ...args], words) => {
  await sh(maker, ...args, disk)
  await expectRefused(words)
})

test('refuses a disk with partitions', async () => {
  await run('sfdisk', ['--quiet', disk], { input: 'label: gpt\nsize=10MiB\n' })
  await expectRefused(/has partitions|holds something: .*gpt/)
})

test('refuses a disk with data that bears no signature', async () => {
  const handle = await open(file, 'r+')
  await handle.write(Buffer.from('precious'), 0, 8, 3 * MiB)
  await handle.close()
  await expectRefused(/holds data of an unknown kind; .*dd if=/)
})

test('refuses a disk that is mounted', async () => {
  const at = join(directory, 'mnt')
  await mkdir(at)
  await sh('mkfs.ext4', '-q', disk)
  await sh('mount', disk, at)
  try {
    await expectRefused(/is mounted/)
  } finally {
    await sh('umount', at)
  }
})

test('refuses a disk that a program has open', async () => {
  const handle = await open(disk, 'r')
  try {
    await expectRefused(/is open in a program/)
  } finally {
    await handle.close()
  }
})

test('refuses what is read-only or too small', async () => {
  await sh('losetup', '--detach', disk)
  disk = (await sh('losetup', '--find', '--show', '--read-only', file)).trim()
  await expectRefused(/is read-only/)
  await sh('losetup', '--detach', disk)
  disk = (await sh('losetup', '--find', '--show', file)).trim()
  await truncate(file, 32 * MiB)
  await sh('losetup', '--set-capacity', disk)
  await expectRefused(/too small/)
})

test.each([
  [['/nowhere/disk'], 1, /is no block device/],
  [[], 2, /name a disk/],
  [['/dev/loop0', '/dev/loop1'], 2, /name one disk/],
  [['--force', '/dev/loop0'], 2, /there is no option --force/],
  [['--block-size', '100K', '/dev/loop0'], 2, /in whole 64K/],
  [['--block-size', 'big', '/dev/loop0'], 2, /no size of blocks/],
  [['--block-size', '2G', '/dev/loop0'], 2, /in whole 64K/],
  [['--block-size'], 2, /needs a value/],
])('%j ends with %i', async (args, exitCode, words) => {
  expect(await prepare(...args)).toEqual({ exitCode, stdout: '', stderr: expect.stringMatching(words) })
})
