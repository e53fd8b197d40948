/**
 * Backups of 60,000 files of 2 GiB and two 1 GiB databases, encrypted, beside Debian's restic: first, unchanged, 1 % changed, restore, to
 * a directory and, an eighth of the data, to S3 (Ceph's RADOS Gateway), in turn and with `sync`; memory of all processes; Docker's Get meanwhile.
 * By the commands that a user types. Rounds: HOLDFAST_TEST_BENCH_ROUNDS, default 3.
 */

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { exec } from '../../src/system/exec.ts'
import { type Holdfast, startHoldfast } from '../support/holdfast.ts'
import { RawConnection } from '../support/raw-http.ts'
import { rgwMissing, startRgw } from '../support/rgw.ts'
import { openSandbox, type Sandbox } from '../support/sandbox.ts'
import { change, fill, readAll, type Shape, small, usual } from './backup-data.ts'
import { median, quantile, report, timed, times } from './measure.ts'
import { peakOf, startedAs } from './processes.ts'

/** What to measure: `directory` (with Docker's Get), `s3`; both when nothing is named. */
const parts = process.argv.length > 2 ? process.argv.slice(2) : ['directory', 's3']
const rounds = Number(process.env['HOLDFAST_TEST_BENCH_ROUNDS'] ?? 3)
const main = join(import.meta.dirname, '../../dist/src/cli/main.js')
const mib = 2 ** 20

/** One of the two programs, on a repository of its own. */
interface Side {
  open(): Promise<void>
  backup(): Promise<unknown>
  restore(): Promise<unknown>
  /** Where the repository is, when that is here. */
  readonly folder: string | undefined
  /** Ids of the processes that are at work. */
  processes(): readonly number[]
  /** Bytes in the repository; undefined where that is not known. */
  stored(): Promise<number | undefined>
}

interface Place {
  readonly name: string
  readonly phases: readonly Phase[]
  ours(bed: Bed, round: number): Side
  theirs(bed: Bed, round: number): Side
}

interface Bed {
  readonly sandbox: Sandbox
  readonly holdfast: Holdfast
  /** Where the volume is, and what is in it. */
  readonly volume: string
  readonly data: string
  readonly shape: Shape
  readonly passphraseFile: string
}

type Phase = 'first' | 'unchanged' | '1 % changed' | 'restore'

/** The program alone, without its start being waited for by this process' memory. */
async function holdfast(bed: Bed, ...args: string[]): Promise<string> {
  const socket = bed.sandbox.reach('/run/holdfast/holdfast.sock')
  return await exec(process.execPath, [main, '--socket', socket, ...args], { timeoutMs: 0 })
}

async function sync(directory: string): Promise<void> {
  await exec('sync', ['-f', directory], { timeoutMs: 0 })
}

async function used(directory: string): Promise<number> {
  return Number((await exec('du', ['-sB1', directory])).split('\t')[0])
}

/** @param url of a repository that is new @param folder where it is, when that is here */
function holdfastSide(bed: Bed, url: string, options: readonly string[], folder?: string): Side {
  const target = `t${crypto.randomUUID().slice(0, 8)}`
  return {
    async open() {
      await holdfast(bed, 'target', 'add', target, url, '--passphrase-file', bed.passphraseFile, ...options)
    },
    async backup() {
      await holdfast(bed, 'backup', 'create', bed.volume, '--to', target, '--quiet')
      await sync(bed.sandbox.directory)
    },
    async restore() {
      await holdfast(bed, 'backup', 'restore', `${target}/latest`, '--to', `restored-${target}`, '--quiet')
      await sync(bed.sandbox.directory)
    },
    folder,
    processes: () => [bed.holdfast.pid, ...startedAs(main)],
    stored: async () => (folder ? await used(folder) : undefined),
  }
}

/** @param url of a repository that is new @param folder where it is, when that is here */
function resticSide(bed: Bed, url: string, secrets: readonly string[], folder?: string): Side {
  const cache = join(bed.sandbox.directory, 'restic-cache')
  const restic = (...args: string[]): Promise<string> => {
    const words = ['-q', '-r', url, '--password-file', bed.passphraseFile, '--cache-dir', cache, ...args]
    return exec('env', [...secrets, 'restic', ...words], { timeoutMs: 0 })
  }
  return {
    async open() {
      await restic('init')
    },
    async backup() {
      await restic('backup', bed.data)
      await sync(bed.sandbox.directory)
    },
    async restore() {
      await restic('restore', 'latest', '--target', join(bed.sandbox.directory, `restic-${crypto.randomUUID()}`))
      await sync(bed.sandbox.directory)
    },
    folder,
    processes: () => startedAs('restic'),
    stored: async () => (folder ? await used(folder) : undefined),
  }
}

type Samples = Record<Phase, number[]>

interface Measured {
  readonly seconds: Samples
  readonly growth: number[]
  readonly memory: number[]
}

const noSamples = (): Measured => ({
  seconds: { first: [], unchanged: [], '1 % changed': [], restore: [] },
  growth: [],
  memory: [],
})

/**
 * One round of both sides, phase by phase in turn; who begins alternates. Looking at memory takes a tenth of the processors, and is done in a round of
 * its own, the last. Nothing is removed before the end: for five minutes after many files were removed, ext4 is slow to make new ones. What a side is
 * going to read is in the page cache when it begins.
 */
async function measureRound(bed: Bed, place: Place, round: number, both: readonly [Measured, Measured]): Promise<void> {
  const sides = [place.ours(bed, round), place.theirs(bed, round)] as const
  const order = round % 2 === 0 ? ([0, 1] as const) : ([1, 0] as const)
  for (const side of sides) await side.open()
  for (const phase of place.phases) {
    if (phase === '1 % changed') await changeAll(bed, round)
    for (const index of order) await measurePhase(bed, sides[index], phase, both[index], round === rounds)
  }
}

async function changeAll({ data, shape }: Bed, round: number): Promise<void> {
  change(data, shape, round)
  await sync(data)
}

/** @param isLast look at memory instead of the time */
async function measurePhase(bed: Bed, side: Side, phase: Phase, measured: Measured, isLast: boolean): Promise<void> {
  readAll(phase === 'restore' ? (side.folder ?? bed.data) : bed.data)
  const before = await side.stored()
  const work = () => (phase === 'restore' ? side.restore() : side.backup())
  if (isLast) measured.memory.push(await peakOf(() => side.processes(), work))
  else measured.seconds[phase].push((await timed(work)) / 1000)
  const after = await side.stored()
  if (phase === '1 % changed' && before !== undefined && after !== undefined) measured.growth.push(after - before)
}

async function measure(bed: Bed, place: Place): Promise<void> {
  const both = [noSamples(), noSamples()] as const
  for (let round = 0; round <= rounds; round++) await measureRound(bed, place, round, both)
  const [ours, theirs] = both
  const rows = place.phases.map((phase) => {
    const ratios = theirs.seconds[phase].map((seconds, round) => seconds / (ours.seconds[phase][round] as number))
    const shown = [ours, theirs].map(({ seconds }) => median(seconds[phase]).toFixed(2))
    return [phase, ...shown, times(median(ratios))]
  })
  if (ours.growth.length > 0) {
    const [a, b] = [median(ours.growth), median(theirs.growth)]
    rows.push(['growth at 1 %, MiB', (a / mib).toFixed(0), (b / mib).toFixed(0), `${times(a / b)} of its`])
  }
  const peaks = [ours, theirs].map(({ memory }) => (Math.max(...memory) / mib).toFixed(0))
  rows.push(['peak memory of all processes, MiB', ...peaks, ''])
  report(`Backups to ${place.name}: s, medians of ${rounds}`, ['', 'holdfast', 'restic', 'faster'], rows)
}

function directoryPlace(): Place {
  const folder = (bed: Bed, side: string, round: number) => join(bed.sandbox.directory, `${side}-${round}`)
  return {
    name: 'a directory',
    phases: ['first', 'unchanged', '1 % changed', 'restore'],
    ours: (bed, round) => {
      const at = folder(bed, 'ours', round)
      return holdfastSide(bed, `file://${at}`, [], at)
    },
    theirs: (bed, round) => {
      const at = folder(bed, 'theirs', round)
      return resticSide(bed, at, [], at)
    },
  }
}

/** Asks Get as Docker does, 200 times a second, while a first backup runs. */
async function measureGet(bed: Bed): Promise<void> {
  const side = holdfastSide(bed, `file://${join(bed.sandbox.directory, 'beside')}`, [])
  await side.open()
  const connection = await RawConnection.open(bed.holdfast.pluginSocket)
  const latencies: number[] = []
  let running = true
  const asking = (async () => {
    while (running) {
      latencies.push(await timed(() => connection.request('/VolumeDriver.Get', { Name: bed.volume })))
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
  })()
  const before = await memoryNow(bed)
  await side.backup()
  running = false
  await asking
  await new Promise((resolve) => setTimeout(resolve, 1000))
  const after = await memoryNow(bed)
  connection.close()
  const figures = [0.5, 0.99, 1].map((share) => quantile(latencies, share).toFixed(2))
  report(
    `Docker's Get while a first backup runs: ms, ${latencies.length} calls`,
    ['median', 'p99', 'worst', 'memory before, MiB', 'after, MiB'],
    [[...figures, before, after]],
  )
}

/** MiB of the daemon and its children. */
async function memoryNow(bed: Bed): Promise<string> {
  const peak = await peakOf(
    () => [bed.holdfast.pid],
    () => new Promise((resolve) => setTimeout(resolve, 200)),
  )
  return (peak / mib).toFixed(0)
}

async function measureS3(bed: Bed): Promise<void> {
  const missing = rgwMissing()
  if (missing !== undefined) return console.log(`\nNo figures for S3: ${missing}`)
  const rgw = await startRgw()
  try {
    const [accessFile, secretFile] = ['access-key', 'secret-key'].map((name) => join(bed.sandbox.directory, name)) as [
      string,
      string,
    ]
    writeFileSync(accessFile, rgw.accessKey)
    writeFileSync(secretFile, rgw.secretKey)
    const secrets = [`AWS_ACCESS_KEY_ID=${rgw.accessKey}`, `AWS_SECRET_ACCESS_KEY=${rgw.secretKey}`]
    await makeBucket(rgw.endpoint, rgw.accessKey, rgw.secretKey)
    const options = ['--endpoint', rgw.endpoint, '--access-key-file', accessFile, '--secret-key-file', secretFile]
    const where = `s3:${rgw.endpoint}/bench`
    await measure(bed, {
      name: 'S3 (RADOS Gateway)',
      phases: ['first', 'unchanged', 'restore'],
      ours: (it, round) => holdfastSide(it, `s3://bench/ours-${round}`, [...options, '--path-style']),
      theirs: (it, round) => resticSide(it, `${where}/theirs-${round}`, secrets),
    })
  } finally {
    await rgw.close()
  }
}

async function makeBucket(endpoint: string, accessKeyId: string, secretAccessKey: string): Promise<void> {
  const { CreateBucketCommand, S3Client } = await import('@aws-sdk/client-s3')
  const client = new S3Client({
    endpoint,
    region: 'us-east-1',
    forcePathStyle: true,
    credentials: { accessKeyId, secretAccessKey },
  })
  await client.send(new CreateBucketCommand({ Bucket: 'bench' }))
  client.destroy()
}

const sandbox = await openSandbox()
try {
  const daemon = await startHoldfast(sandbox, ['--log-level', 'warn', '--trash-keep', '0s'])
  const passphraseFile = join(sandbox.directory, 'passphrase')
  writeFileSync(passphraseFile, 'correct horse battery staple\n', { mode: 0o600 })
  const socket = sandbox.reach('/run/holdfast/holdfast.sock')
  const run = (...args: string[]) => exec(process.execPath, [main, '--socket', socket, ...args])
  const open = async (volume: string, shape: Shape): Promise<Bed> => {
    await run('volume', 'create', volume)
    const data = (await run('volume', 'mount', volume)).trim()
    fill(data, shape)
    await sync(data)
    return { sandbox, holdfast: daemon, volume, data, shape, passphraseFile }
  }
  if (parts.includes('directory')) {
    const bed = await open('data', usual)
    await measure(bed, directoryPlace())
    await measureGet(bed)
  }
  if (parts.includes('s3')) await measureS3(await open('small', small))
} finally {
  await sandbox.close()
}
