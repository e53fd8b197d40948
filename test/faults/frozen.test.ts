/** `kill -9` of the daemon in the moment in which it has frozen a volume to take a snapshot: its writers go on. */

import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { type FaultBed, openFaultBed } from '../support/fault-bed.ts'
import { until } from '../support/processes.ts'

/** On ext4 an image is copied byte by byte: long enough to be met in the middle. */
async function storageWithoutReflink(run: FaultBed['run'], directory: string): Promise<void> {
  const disk = join(directory, 'disk')
  for (const [program, ...args] of [
    ['truncate', '--size', '2G', disk],
    ['mkfs.ext4', '-q', disk],
    ['mkdir', join(directory, 'storage')],
    ['mount', '-o', 'loop', disk, join(directory, 'storage')],
  ] as const) {
    expect(await run(program, ...args)).toMatchObject({ exitCode: 0 })
  }
}

/** How much of an image has been copied to a draft, in blocks. */
function copied(bed: FaultBed): number {
  const drafts = readdirSync(bed.sandbox.reach(`${bed.vfs}/tmp`)).map((name) =>
    bed.sandbox.reach(`${bed.vfs}/tmp/${name}/image`),
  )
  return drafts.reduce((blocks, image) => blocks + (statSync(image, { throwIfNoEntry: false })?.blocks ?? 0), 0)
}

/** Appends a line every few milliseconds, each one durable; it ends with the sandbox. */
const writer = `
import { appendFileSync } from 'node:fs'
for (let line = 0; ; line++) {
  appendFileSync(process.argv[1], line + '\\n', { flush: true })
  await new Promise((resolve) => setTimeout(resolve, 5))
}`

test('a frozen volume is thawed, the snapshot leaves nothing, and can be taken', async () => {
  await using bed = await openFaultBed({ vfs: 'storage/vfs', prepare: storageWithoutReflink })
  await bed.api('POST', '/v1/volumes', { name: 'db', size: '600M' })
  const { Mountpoint } = await bed.docker('Mount', { Name: 'db', ID: 'container' })
  const inVolume = (name: string): string => bed.sandbox.reach(`${Mountpoint}/${name}`)
  const filled = await bed.run('dd', 'if=/dev/urandom', `of=${Mountpoint}/bulk`, 'bs=1M', 'count=500', 'conv=fsync')
  expect(filled.exitCode).toBe(0)
  await bed.sandbox.start('writer', process.execPath, ['--input-type=module', '-e', writer, `${Mountpoint}/lines`])
  const written = (): number => statSync(inVolume('lines')).size
  await until('the writer writes', 10_000, () => written() > 0)

  const taking = Promise.allSettled([bed.api('POST', '/v1/volumes/db/snapshots', { name: 's1' })])
  // It is copied only while it is frozen.
  await until('the copy has begun', 20_000, () => copied(bed) > 0)
  await bed.kill9()
  expect(await taking).toEqual([expect.objectContaining({ status: 'rejected' })])

  const before = written()
  await until('the writer goes on without the daemon', 15_000, () => written() > before)
  await bed.start()
  const after = written()
  await sleep(300)
  expect(written()).toBeGreaterThan(after)
  expect(await bed.problems(['db'])).toEqual([])

  await bed.api('POST', '/v1/volumes/db/snapshots', { name: 's1' })
  const { mountpoint } = await bed.api<{ mountpoint: string }>('POST', '/v1/volumes/db/snapshots/s1/mount', {})
  const lines = readFileSync(bed.sandbox.reach(`${mountpoint}/lines`), 'utf8')
    .split('\n')
    .slice(0, -1)
  expect(lines).toEqual(lines.map((_, index) => String(index)))
  expect(lines.length).toBeGreaterThan(0)
})
