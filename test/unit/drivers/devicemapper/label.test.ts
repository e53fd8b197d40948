/** Labels on a file that is as long as a device with one: what is written is read, and nothing else is taken for a label. */

import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { parseLabel } from '../../../../drivers/devicemapper/label.ts'
import { ensureBlank, readMetadata } from '../../../../drivers/devicemapper/pool-devices.ts'

const page = (text: string) => Buffer.concat([Buffer.from(text), Buffer.alloc(4096)]).subarray(0, 4096)
const magic = 'holdfast thin volume 1\n'
const label = { volume: 'id', name: 'db', size: 4096, complete: true }

function file(content: Buffer): string {
  const directory = mkdtempSync(join(tmpdir(), 'holdfast-dm-'))
  onTestFinished(() => rmSync(directory, { recursive: true }))
  const path = join(directory, 'device')
  writeFileSync(path, content)
  truncateSync(path, 2 ** 20)
  return path
}

test('a label', () => {
  expect(parseLabel(page(magic + JSON.stringify(label)))).toEqual(label)
  const moved = { ...label, complete: false, from: 'other' }
  expect(parseLabel(page(magic + JSON.stringify(moved)))).toEqual(moved)
})

test.each([
  ['zeros', ''],
  ['the data of a user', 'holdfast is my favourite'],
  ['a label that was torn', `${magic}{"volume":"id","si`],
  ['one that lacks an id', `${magic}{"size":4096}`],
  ['one that lacks a size', `${magic}{"volume":"id"}`],
  ['one of a later version', `holdfast thin volume 2\n${JSON.stringify(label)}`],
  ['null', `${magic}null`],
])('%s is no label', (_, text) => {
  expect(parseLabel(page(text))).toBeNull()
})

/** The beginning of a pool's metadata: struct thin_disk_superblock. */
function superBlock(flags: number, blockSectors: number): Buffer {
  const block = Buffer.alloc(4096)
  block.writeUInt32LE(0x1234, 0)
  block.writeUInt32LE(flags, 4)
  block.writeBigUInt64LE(27_022_010n, 32)
  block.writeUInt32LE(blockSectors, 336)
  return block
}

test('what a metadata device says of itself', async () => {
  expect(await readMetadata(file(Buffer.alloc(4096)))).toBeNull()
  expect(await readMetadata(file(superBlock(0, 128)))).toEqual({ needsCheck: false, blockSize: 65_536 })
  expect(await readMetadata(file(superBlock(1, 256)))).toEqual({ needsCheck: true, blockSize: 131_072 })
  await expect(readMetadata(file(page('something else')))).rejects.toMatchObject({
    ...{ code: 'FAILED_PRECONDITION', message: expect.stringMatching(/holds something else than the metadata/) },
  })
})

test('a device that holds anything is not made the data of a new pool', async () => {
  await ensureBlank(file(Buffer.alloc(4096)))
  await expect(ensureBlank(file(page('XFSB')))).resolves.toBeUndefined() // Too little to be one.
  const swap = Buffer.alloc(4096)
  swap.write('SWAPSPACE2', 4086)
  swap.writeUInt32LE(1, 1024)
  swap.writeUInt32LE(255, 1028)
  await expect(ensureBlank(file(swap))).rejects.toMatchObject({
    ...{ code: 'FAILED_PRECONDITION', message: expect.stringMatching(/is not blank \(swap\); .*wipefs -a/) },
  })
  await expect(ensureBlank('/nowhere/disk')).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' })
})
