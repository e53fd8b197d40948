/** One daemon per root and per storage; a stop and a start that take over what is mounted. */

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { InfoView } from '../../src/services/node/contract.ts'
import { type FaultBed, openFaultBed } from '../support/fault-bed.ts'
import { until } from '../support/processes.ts'

const main = join(import.meta.dirname, '../../dist/src/cli/main.js')

let bed: FaultBed
beforeEach(async () => {
  bed = await openFaultBed()
  await bed.api('POST', '/v1/volumes', { name: 'img', size: '32M' })
  await bed.write('img', 'precious')
})
afterEach(() => bed?.[Symbol.asyncDispose]())

/** Runs `holdfast daemon` beside the first one, with other settings than that. */
async function second(flags: Readonly<Record<string, string>>): Promise<{ exitCode: number | null; stderr: string }> {
  const all: Readonly<Record<string, string>> = {
    root: bed.root,
    socket: '/run/second.sock',
    'plugin-socket': '/run/second-plugin.sock',
    'driver-opt': `vfs.path=${bed.vfs}`,
    ...flags,
  }
  const args = Object.entries(all).flatMap(([key, value]) => [`--${key}`, value])
  return await bed.run('timeout', '20', process.execPath, main, 'daemon', ...args)
}

test('a second daemon on the same root says so and exits; the first one goes on', async () => {
  expect(await second({})).toMatchObject({
    exitCode: 7,
    stderr: expect.stringMatching(/^holdfast: another daemon uses the root directory .*root; stop it/m),
  })
  expect(await bed.read('img')).toBe('precious')
  expect(await bed.problems()).toEqual([])
})

test.each(['socket', 'plugin-socket'] as const)('a second daemon on the same %s likewise', async (key) => {
  const elsewhere = join(bed.sandbox.directory, 'elsewhere')
  const path = String(bed.flags[key])
  const ended = await second({ root: elsewhere, 'driver-opt': `vfs.path=${elsewhere}/vfs`, [key]: path })
  expect(ended).toMatchObject({ exitCode: 7, stderr: expect.stringContaining(`another program answers on ${path}`) })
  expect(existsSync(bed.sandbox.reach('/run/second.sock'))).toBe(false)
  expect(await bed.read('img')).toBe('precious')
})

test('a second root with the same vfs.path does not touch it, and says so', async () => {
  const elsewhere = join(bed.sandbox.directory, 'elsewhere')
  const flags = {
    ...bed.flags,
    root: elsewhere,
    socket: '/run/second.sock',
    'plugin-socket': '/run/second-plugin.sock',
  }
  const daemon = join(import.meta.dirname, '../support/crashing-daemon.ts')
  const other = await bed.sandbox.start('second', process.execPath, [daemon, JSON.stringify(flags), '/nowhere'])
  await until('the second daemon says so', 20_000, () =>
    /another daemon uses the vfs driver's storage/.test(bed.sandbox.readLog('second')),
  )
  expect(readdirSync(`${bed.vfs}/volumes`)).toEqual(['img'])
  expect(await bed.read('img')).toBe('precious')
  expect(await bed.problems()).toEqual([])
  await other.end('SIGTERM')
})

test('SIGTERM unlinks both sockets and leaves mounts; the next start takes them over without a second one', async () => {
  const { Mountpoint } = await bed.docker('Mount', { Name: 'img', ID: 'container' })
  const mounts = () => bed.mounts().filter(({ mountpoint }) => mountpoint === Mountpoint)
  const [before] = mounts()
  expect(before?.fsType).toBe('ext4')
  const content = (): string => readFileSync(bed.sandbox.reach(`${Mountpoint}/data.txt`), 'utf8')

  await bed.stop()
  expect([existsSync(bed.socket), existsSync(bed.pluginSocket)]).toEqual([false, false])
  expect(content()).toBe('precious')

  await bed.start()
  expect(await bed.docker('Mount', { Name: 'img', ID: 'container' })).toMatchObject({ Mountpoint })
  expect(mounts()).toEqual([before])
  expect(await bed.problems(['img'])).toEqual([])
  await bed.docker('Unmount', { Name: 'img', ID: 'container' })
  expect(mounts()).toEqual([])
})

test('after kill -9 the same, over sockets that nobody answers on', async () => {
  const { Mountpoint } = await bed.docker('Mount', { Name: 'img', ID: 'container' })
  const before = bed.mounts()
  await bed.kill9()
  expect(existsSync(bed.pluginSocket)).toBe(true)
  await bed.start()
  expect(await bed.docker('Mount', { Name: 'img', ID: 'container' })).toMatchObject({ Mountpoint })
  expect(bed.mounts()).toEqual(before)
  expect(await bed.problems(['img'])).toEqual([])
  const { pid } = await bed.api<InfoView>('GET', '/v1/info')
  expect(pid).toBeGreaterThan(0)
})
