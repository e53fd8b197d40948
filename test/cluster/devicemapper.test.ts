/**
 * The devicemapper driver as a user has it: a machine with a disk that scripts/dm-prepare has made ready, the built daemon, a Docker
 * engine; a database that is written to while snapshots and backups are made of it; and crashes of the whole machine.
 */

import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { busyboxImage } from '../support/images.ts'
import { LabNetwork } from '../support/lab.ts'
import { startDocker } from '../support/lab-docker.ts'
import { holdfastIn, main, startHoldfast } from '../support/lab-holdfast.ts'
import type { LabHost } from '../support/lab-host.ts'
import type { LabProcess } from '../support/lab-process.ts'
import { until } from '../support/processes.ts'

const MiB = 2 ** 20
const GiB = 2 ** 30
const minute = 60_000
/** Everything here takes a few minutes on a machine of its own, and many times that on a busy one. */
const patience = 8 * minute
const rounds = Number(process.env.HOLDFAST_STORM_ROUNDS ?? 3)
const prepare = join(import.meta.dirname, '../../scripts/dm-prepare')
const programs = '--wasm-wrapper-tiering-budget=2000000000' // See vitest.config.ts.

let network: LabNetwork
let host: LabHost

const holdfast = (...args: string[]): Promise<string> => holdfastIn(host, ...args)
const inNode = (name: string, ...args: string[]): string[] => [programs, join(import.meta.dirname, name), ...args]

/** A program of ours in the machine, to its end. */
async function answerOf<T>(name: string, ...args: string[]): Promise<T> {
  const { code, stdout, stderr } = await host.run(process.execPath, inNode(name, ...args), patience)
  if (code !== 0) throw new Error(`${name} ${args.join(' ')}: ${stderr}`)
  return JSON.parse(stdout) as T
}

/** Names of all devices of device-mapper. */
async function devices(): Promise<string[]> {
  return (await host.sh('dmsetup info -c --noheadings -o name --sort name')).split('\n')
}

const pool = 'holdfast_pool'
const target = 'safe'

/** Nothing is wrong, and no device is active but the pool. */
async function expectAllWell(): Promise<void> {
  expect(await devices()).toEqual([pool])
  // A busy machine may be late with an answer, which is a finding of its own.
  const findings = async () => JSON.parse((await host.run(process.execPath, [main, 'doctor', '--json'])).stdout)
  await expect.poll(findings, { timeout: 2 * minute, interval: 1_000 }).toEqual([])
}

beforeAll(async () => {
  network = await LabNetwork.open()
  host = await network.host('dm', { disks: [8 * GiB, 64 * MiB], modules: ['dm-thin-pool'], memory: '1500M' })
  await host.boot()
  const said = await host.sh(`${prepare} --yes /dev/ubda`)
  await host.sh(`cat >/etc/holdfast/daemon.json <<'JSON'\n${said.slice(said.indexOf('{'))}\nJSON`)
  await startHoldfast(host)
  await holdfast('target', 'add', target, 'file:///var/lib/backups')
}, 3 * minute)
afterAll(async () => await network?.[Symbol.asyncDispose]())

test('a disk is made ready for a pool, and the daemon makes one there', async () => {
  const parts = (await host.sh('blockdev --getsize64 /dev/ubda /dev/ubda1 /dev/ubda2')).split('\n').map(Number)
  // 48 bytes for each 64 KiB of 8 GiB: 6 MiB and one block.
  expect(parts).toEqual([8 * GiB, 7 * MiB, expect.closeTo(8 * GiB, -7.5)])
  const [info] = JSON.parse(await holdfast('info', '--json')).drivers
  expect(info).toMatchObject({ name: 'devicemapper', state: 'ready', facts: { pool, 'block size': '64K' } })
})

test.each([
  ['is the home of one', ':', '/dev/ubda', 'has partitions: ubda1 ', ':'],
  ['is a partition', ':', '/dev/ubda1', 'is no whole disk', ':'],
  [
    'is swap space',
    'mkswap /dev/ubdb; swapon /dev/ubdb',
    '/dev/ubdb',
    'is swap space',
    'swapoff /dev/ubdb; wipefs -qa /dev/ubdb',
  ],
  [
    'is part of another device',
    `dmsetup create x --table '0 8 linear /dev/ubdb 0'`,
    '/dev/ubdb',
    'is part of dm-',
    'dmsetup remove x',
  ],
])('a disk that %s is refused', async (_, before, disk, words, after) => {
  await host.sh(before)
  const { code, stderr } = await host.run(prepare, ['--yes', disk])
  expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringMatching(`^dm-prepare: ${disk} (${words})`) })
  await host.sh(after)
})

describe('with Docker', () => {
  beforeAll(async () => void (await startDocker(host, await busyboxImage(network.shared))), 2 * minute)

  test('volumes are made, used, and seen again by the next container', async () => {
    await host.sh('docker volume create -d holdfast -o driver=devicemapper -o size=256M seeded')
    const use = 'docker run --rm --network none -v seeded:/seed busybox'
    expect(await host.sh(`${use} sh -c 'cat /seed/hello; ls /seed; echo more >/seed/more'`)).toBe(
      'hello from the image\nhello',
    )
    expect(await host.sh(`${use} cat /seed/more`)).toBe('more')
    const [volume] = JSON.parse(await holdfast('volume', 'inspect', 'seeded', '--json'))
    expect(volume).toMatchObject({ driver: 'devicemapper', size: 256 * MiB })
    await host.sh('docker volume rm seeded')
    await holdfast('trash', 'empty', 'seeded')
    await expectAllWell()
  })
})

test(
  'a hundred volumes are made at the same time',
  async () => {
    const { made, seconds } = await answerOf<{ made: number; seconds: number }>('parallel-actor.ts', '100')
    expect(made).toBe(100)
    console.log(`100 volumes in ${seconds.toFixed(1)} s`)
    await expectAllWell()
  },
  2 * patience,
)

describe('a database that is written to all the time', () => {
  let writer: LabProcess
  let url = ''
  /** How many transactions were reported done when the snapshot or backup was asked for. */
  const doneBefore = new Map<string, number>()
  const log = (): string => join(network.shared, 'transactions')
  const done = (): number => Number(existsSync(log()) ? readFileSync(log(), 'utf8') : 0)

  /** Waits until the writer has gone on. */
  const moreWritten = async (name: string): Promise<void> => {
    const before = done()
    await until('the database is written to', minute, () => done() > before + 20)
    doneBefore.set(name, done())
  }

  const check = async (volume: string): Promise<number> => {
    const directory = await holdfast('volume', 'mount', volume)
    const { integrity, done: found } = await answerOf<{ integrity: string; done: number }>(
      'database-actor.ts',
      'check',
      join(directory, 'db'),
    )
    await holdfast('volume', 'umount', volume)
    expect(integrity).toBe('ok')
    return found
  }

  test('goes on while snapshots and a backup are made of it', async () => {
    await holdfast('volume', 'create', 'db', '--size', '256M')
    const directory = await holdfast('volume', 'mount', 'db')
    const args = inNode('database-actor.ts', 'write', join(directory, 'db'), log())
    writer = await host.start(process.execPath, args)
    for (const name of ['s1', 's2', 's3']) {
      await moreWritten(name)
      await holdfast('snapshot', 'create', 'db', '--name', name)
    }
    await moreWritten('backup')
    url = await holdfast('backup', 'create', 'db', '--to', target)
    await moreWritten('end')
    expect(writer.stderr).toBe('')
    await host.sh(`kill -KILL ${writer.pid}`)
    await until('the end of the writer', minute, () => writer.ended)
    await holdfast('volume', 'umount', 'db')
  })

  test('is whole in each snapshot, with all that was reported done before', async () => {
    for (const name of ['s1', 's2', 's3']) {
      await holdfast('volume', 'create', `db-${name}`, '--from-snapshot', `db@${name}`)
      expect(await check(`db-${name}`)).toBeGreaterThanOrEqual(doneBefore.get(name) as number)
      await holdfast('volume', 'rm', `db-${name}`, '--purge')
    }
  })

  test('is whole after a revert, as the snapshot was, and nothing of later', async () => {
    await holdfast('snapshot', 'revert', 'db@s2')
    const found = await check('db')
    expect(found).toBeGreaterThanOrEqual(doneBefore.get('s2') as number)
    expect(found).toBeLessThan(doneBefore.get('s3') as number)
  })

  test('is whole when it comes back from a backup, new or in place', async () => {
    await holdfast('backup', 'restore', url, '--to', 'db2')
    expect(await check('db2')).toBeGreaterThanOrEqual(doneBefore.get('backup') as number)
    await holdfast('backup', 'restore', url, '--to', 'db', '--in-place')
    expect(await check('db')).toBeGreaterThanOrEqual(doneBefore.get('backup') as number)
    for (const name of ['db', 'db2']) await holdfast('volume', 'rm', name, '--purge')
    await expectAllWell()
  })
})

describe('a machine that crashes', () => {
  interface Note {
    readonly kind: string
    readonly event: string
  }

  const notesIn = (log: string): Note[] =>
    readFileSync(log, 'utf8')
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as Note)

  /** All kinds of work are begun, and one of a kind is done. */
  const isBusy = (notes: readonly Note[], kind: string): boolean => {
    const begun = new Set(notes.flatMap((it) => (it.event === 'begin' ? it.kind : [])))
    return begun.size === 5 && notes.some((it) => it.kind === kind && it.event === 'done')
  }

  test(
    'loses nothing that was reported done, shows nothing half-made, leaves no device',
    async () => {
      const log = join(network.shared, 'notes')
      writeFileSync(log, '')
      for (let round = 0; round < rounds; round++) {
        const [before, kind] = [notesIn(log).length, ['revert', 'backup', 'restore'][round % 3] as string]
        const work = (act: string): string[] => inNode('crash-actor.ts', act, String(round), log, target)
        const worker = await host.start(process.execPath, work('work'))
        await until(`a ${kind}`, patience, () => worker.ended || isBusy(notesIn(log).slice(before), kind))
        expect(worker.stderr, 'nothing fails before the crash').toBe('')
        await delay(Math.random() * 3_000)
        await host.kill()
        await host.boot()
        await startHoldfast(host)
        expect(await devices(), `round ${round}`).toEqual([pool])
        const verified = await host.run(process.execPath, work('verify'), patience)
        expect(verified, `round ${round}`).toEqual({ code: 0, stdout: '[]\n', stderr: '' })
        await expectAllWell()
      }
    },
    3 * patience,
  )
})
