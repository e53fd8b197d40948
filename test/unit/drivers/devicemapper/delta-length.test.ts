/** Deltas longer than any buffer, told by a thin_delta that is a script here. */

import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test, vi } from 'vitest'
import { changesOf } from '../../../../drivers/devicemapper/delta.ts'
import type { DriverContext } from '../../../../src/driver.ts'

const block = 65_536
const blocks = 2 ** 19

const silent = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined }
const context: DriverContext = { signal: new AbortController().signal, log: silent, progress: () => undefined }
const pool = { name: 'pool', number: '0:0', blockSize: block, own: true, metadata: '/dev/metadata', data: '/dev/data' }
const snapshot = (thin: number) => ({ thin, size: blocks * block, fs: null })

/** Programs of these names, each a shell script, are found before all others. */
async function programs(scripts: Readonly<Record<string, string>>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'holdfast-programs-'))
  onTestFinished(() => rm(directory, { recursive: true }))
  for (const [name, script] of Object.entries(scripts)) {
    await writeFile(join(directory, name), `#!/bin/sh\n${script}\n`)
    await chmod(join(directory, name), 0o755)
  }
  vi.stubEnv('PATH', `${directory}:${process.env.PATH}`)
  onTestFinished(() => void vi.unstubAllEnvs())
}

const line = (tag: string) => `print "    <${tag} begin=\\"" i "\\" length=\\"1\\"/>"`

test('more than 16 MiB of a delta are read', async () => {
  const lines = `for (i = 0; i < ${blocks}; i += 2) { ${line('different')}; i++; ${line('same')}; i-- }`
  await programs({ dmsetup: 'exit 0', thin_delta: `awk 'BEGIN { ${lines} }'` })
  const { allocated, changed } = await changesOf(pool, snapshot(2), snapshot(1), context)
  expect(allocated).toEqual([{ start: 0, end: blocks * block }])
  expect(changed).toHaveLength(blocks / 2)
  expect(changed?.at(-1)).toEqual({ start: (blocks - 2) * block, end: (blocks - 1) * block })
})

test('a delta that breaks off, or speaks another language, is not believed', async () => {
  const dump = `echo '<range_mapping origin_begin="3" data_begin="9" length="2" time="0"/>'`
  const whole = { allocated: [{ start: 3 * block, end: 5 * block }], changed: null }
  for (const thin_delta of [`echo '<same begin="0" length="5"/>'; exit 1`, `echo '<different from="0" to="5"/>'`]) {
    await programs({ dmsetup: 'exit 0', thin_delta, thin_dump: dump })
    expect(await changesOf(pool, snapshot(2), snapshot(1), context)).toEqual(whole)
  }
  await programs({ thin_dump: 'exit 1' })
  expect(await changesOf(pool, snapshot(2), null, context)).toEqual({ allocated: null, changed: null })
})
