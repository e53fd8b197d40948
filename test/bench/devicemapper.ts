/**
 * The devicemapper driver, in the kernel lab (it starts itself there): each call for a 1 GiB volume by the admin API, beside the bare dmsetup,
 * mkfs and mount commands in a shell, in turn; and backups of 1 GiB in 30,000 files to a directory. With HOLDFAST_TEST_NATIVE=1
 * on a machine with device-mapper and the disks of HOLDFAST_LAB_DISKS. Runs: HOLDFAST_TEST_BENCH_ROUNDS, default 9.
 */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { exec } from '../../src/system/exec.ts'
import { call } from '../support/admin-api.ts'
import { startHoldfast } from '../support/holdfast.ts'
import { openSandbox, type Sandbox } from '../support/sandbox.ts'
import { change, fill, type Shape } from './backup-data.ts'
import { median, ms, report, timed, times } from './measure.ts'

const rounds = Number(process.env['HOLDFAST_TEST_BENCH_ROUNDS'] ?? 9)
const pool = 'holdfast_pool'
const sectors = 2 ** 30 / 512
const shape: Shape = { files: 30_000, meanLength: 35_791, databases: 0, databasePages: 0 }

/** A step of a volume's life, by the API and by hand. */
interface Step {
  readonly name: string
  readonly ours: (name: string) => Promise<unknown>
  readonly bare: (thin: number, at: string) => string
}

type Api = <T>(method: string, path: string, body?: object) => Promise<T>

/** What one would write into a script: the same options of mkfs, and nothing is remembered or looked at. */
function stepsOf(api: Api): Step[] {
  const device = `dmsetup create bare --table "0 ${sectors} thin /dev/mapper/${pool} `
  return [
    {
      name: 'create',
      ours: (name) => api('POST', '/v1/volumes', { name, size: '1G' }),
      bare: (thin) =>
        `dmsetup message ${pool} 0 "create_thin ${thin}"; ${device}${thin}"; mkfs.ext4 -q -F -m 0 -E lazy_itable_init=1,lazy_journal_init=1,nodiscard /dev/mapper/bare; dmsetup remove bare`,
    },
    {
      name: 'mount',
      ours: (name) => api('POST', `/v1/volumes/${name}/mount`, {}),
      bare: (thin, at) => `${device}${thin}"; mount -o discard /dev/mapper/bare ${at}`,
    },
    {
      name: 'snapshot',
      ours: (name) => api('POST', `/v1/volumes/${name}/snapshots`, { name: 's' }),
      bare: (thin) =>
        `dmsetup suspend bare; dmsetup message ${pool} 0 "create_snap ${thin + 1} ${thin}"; dmsetup resume bare`,
    },
    {
      name: 'umount',
      ours: (name) => api('POST', `/v1/volumes/${name}/umount`),
      bare: (_, at) => `umount ${at}; dmsetup remove bare`,
    },
    {
      name: 'delete, with its snapshot',
      ours: (name) => api('DELETE', `/v1/volumes/${name}?purge=true`),
      bare: (thin) => `dmsetup message ${pool} 0 "delete ${thin + 1}"; dmsetup message ${pool} 0 "delete ${thin}"`,
    },
  ]
}

async function measureSteps(api: Api, at: string): Promise<void> {
  const steps = stepsOf(api).map((step) => ({ ...step, samples: [] as [number, number][] }))
  for (let round = 0; round <= rounds; round++) {
    const [name, thin] = [`bench-${round}`, 2 * round]
    for (const { ours, bare, samples } of steps) {
      const mine = await timed(() => ours(name))
      const theirs = await timed(() => exec('bash', ['-ec', bare(thin, at)]))
      if (round > 0) samples.push([mine, theirs]) // The first warms up.
    }
  }
  const rows = steps.map(({ name, samples }) => [
    name,
    ms(median(samples.map(([mine]) => mine))),
    ms(median(samples.map(([, theirs]) => theirs))),
    times(median(samples.map(([mine, theirs]) => mine / theirs))),
  ])
  report(
    `Thin volumes of 1 GiB in the kernel lab: ms, medians of ${rounds}`,
    ['call', 'holdfast', 'in a shell', 'ratio'],
    rows,
  )
}

async function measureBackups(api: Api, { directory: scratch, reach }: Sandbox): Promise<void> {
  const directory = join(scratch, 'backups')
  await api('POST', '/v1/volumes', { name: 'data', size: '2G' })
  const mountpoint = reach((await api<{ mountpoint: string }>('POST', '/v1/volumes/data/mount', {})).mountpoint)
  fill(mountpoint, shape)
  await exec('sync', ['-f', mountpoint], { timeoutMs: 0 })
  await api('POST', '/v1/targets', { name: 'there', url: `file://${directory}`, access: {} })
  const backup = () =>
    api<{ url: string; added: number }>('POST', '/v1/backups', { volume: 'data', to: { at: 'there' } })
  const rows: [string, number, string][] = []
  console.error('the volume is filled')
  const measure = async (what: string, work: () => Promise<unknown>): Promise<void> => {
    const before = await used(directory)
    const seconds = (await timed(work)) / 1000
    rows.push([what, seconds, (((await used(directory)) - before) / 2 ** 20).toFixed(0)])
    console.error(`${what}: ${seconds.toFixed(2)} s`)
  }
  await measure('first', backup)
  await measure('unchanged', backup)
  await measure('unchanged, again', backup)
  for (const round of [1, 2]) {
    change(mountpoint, shape, round)
    await exec('sync', ['-f', mountpoint], { timeoutMs: 0 })
    await measure('1 % changed, scattered', backup)
  }
  const { url } = await backup()
  await measure('restore', () => api('POST', '/v1/backups/restore', { from: { backup: url }, to: 'restored' }))
  report(
    'Backups of 1 GiB in 30,000 files on a thin volume, to a directory, in the kernel lab',
    ['backup', 's', 'repository grew by, MiB'],
    rows.map(([what, seconds, grown]) => [what, seconds.toFixed(2), grown]),
  )
}

async function used(directory: string): Promise<number> {
  return existsSync(directory) ? Number((await exec('du', ['-sB1', directory])).split('\t')[0]) : 0
}

async function measureAll(): Promise<void> {
  const [data, metadata] = (process.env['HOLDFAST_LAB_DISKS'] ?? '').split(' ')
  if (!data || !metadata) throw new Error('two disks that may be overwritten are needed: HOLDFAST_LAB_DISKS')
  const directory = mkdtempSync(join(tmpdir(), 'holdfast-bench-'))
  const sandbox = await openSandbox()
  try {
    const devices = [`data-device=${data}`, `metadata-device=${metadata}`]
    const settings = devices.flatMap((it) => ['--driver-opt', `devicemapper.${it}`])
    const flags = ['--driver', 'devicemapper', '--default-driver', 'devicemapper', '--log-level', 'warn', ...settings]
    const holdfast = await startHoldfast(sandbox, flags)
    const api: Api = (method, path, body) => call(sandbox.reach('/run/holdfast/holdfast.sock'), method, path, body)
    await measureSteps(api, directory)
    await measureBackups(api, sandbox)
    await api('POST', '/v1/volumes/data/umount')
    for (const name of ['data', 'restored']) await api('DELETE', `/v1/volumes/${name}?purge=true`)
    await holdfast.stop()
    await exec('dmsetup', ['remove', pool])
  } finally {
    await sandbox.close()
    rmSync(directory, { recursive: true, force: true })
  }
}

/** Runs this file in the lab, or natively. */
async function runInLab(): Promise<void> {
  const runner = process.env['HOLDFAST_TEST_NATIVE'] === '1' ? 'native' : 'run'
  const modules = ['dm-thin-pool', 'loop', 'overlay'].flatMap((name) => ['--module', name])
  const args = ['--memory', '3G', '--timeout', '1800', '--disk', '8G', '--disk', '64M', ...modules]
  const program = join(import.meta.dirname, '../../scripts/lab', runner)
  const lab = spawn(program, [...args, '--', process.execPath, import.meta.filename], { stdio: 'inherit' })
  const [code] = await once(lab, 'exit')
  process.exitCode = code ?? 1
}

await (process.env['HOLDFAST_LAB'] === '1' ? measureAll() : runInLab())
