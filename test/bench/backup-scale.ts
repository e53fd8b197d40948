/**
 * How backups grow. With the number of files, 10,000 to 1,000,000 small ones: an unchanged backup beside a plain `find -ls` of the same tree (which
 * reads no more than names and inodes), and the memory of all processes. With the number of chunks in the repository, a quarter, half and all of two
 * million: time and memory of each job. Takes some minutes, most of it to make the files.
 */

import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createEngine } from '../../src/engine/engine.ts'
import type { JobArgs, JobName } from '../../src/engine/jobs.ts'
import { exec } from '../../src/system/exec.ts'
import { type Holdfast, startHoldfast } from '../support/holdfast.ts'
import { openSandbox, type Sandbox } from '../support/sandbox.ts'
import { fill } from './backup-data.ts'
import { fillRepository } from './many-chunks.ts'
import { inTurn, ms, report, timed, times } from './measure.ts'
import { peakOf, startedAs } from './processes.ts'

/** What to measure: `files`, `chunks`, or with that many files; `files` and `chunks` when nothing is named. */
const parts = process.argv.length > 2 ? process.argv.slice(2) : ['files', 'chunks']
const fileCounts = parts.includes('files') ? [10_000, 100_000, 1_000_000] : parts.map(Number).filter(Number.isInteger)
const chunkCounts = parts.includes('chunks') ? [500_000, 1_000_000, 2_000_000] : []
const runs = 3
const main = join(import.meta.dirname, '../../dist/src/cli/main.js')

async function measureFiles(sandbox: Sandbox, daemon: Holdfast, files: number): Promise<(string | number)[]> {
  const socket = sandbox.reach('/run/holdfast/holdfast.sock')
  const holdfast = (...args: string[]) => exec(process.execPath, [main, '--socket', socket, ...args], { timeoutMs: 0 })
  const volume = `files-${files}`
  await holdfast('volume', 'create', volume)
  const root = (await holdfast('volume', 'mount', volume)).trim()
  fill(root, { files, meanLength: 200, databases: 0, databasePages: 0 })
  await exec('sync', ['-f', root], { timeoutMs: 0 })
  const roots = () => [daemon.pid, ...startedAs(main)]
  const backup = () => holdfast('backup', 'create', volume, '--to', 'here', '--quiet')
  const mib = async (): Promise<string> => ((await peakOf(roots, backup)) / 2 ** 20).toFixed(0)
  const [first, unchanged] = [await mib(), await mib()]
  const find = () => exec('find', [root, '-fls', join(sandbox.directory, 'list')], { timeoutMs: 0 })
  const { ours, theirs, ratio } = await inTurn(runs, backup, find)
  await holdfast('volume', 'umount', volume)
  await holdfast('volume', 'rm', '--purge', volume)
  return [files, ms(ours), ms(theirs), times(ratio), first, unchanged]
}

/** Each job in a process of its own, as the daemon runs it. */
async function measureChunks(sandbox: Sandbox, chunks: number): Promise<string[][]> {
  const directory = join(sandbox.directory, `chunks-${chunks}`)
  const source = join(sandbox.directory, 'source')
  mkdirSync(source, { recursive: true })
  writeFileSync(join(source, 'file'), 'text')
  const passphraseFile = writePassphrase(sandbox)
  const made = await fillRepository(directory, chunks, passphrase)
  const engine = createEngine({ log })
  const rows: string[][] = []
  const run = async <J extends JobName>(job: J, args: JobArgs<J>, shown: string = job): Promise<void> => {
    let seconds = 0
    const work = async () => {
      seconds =
        (await timed(() => engine.run({ url: `file://${directory}`, passphraseFile, graceMs: 0 }, job, args))) / 1000
    }
    const peak = await peakOf(() => startedAs(job), work)
    rows.push([String(chunks), shown, seconds.toFixed(1), (peak / 2 ** 20).toFixed(0)])
  }
  const about = {
    createdAt: new Date().toISOString(),
    host: 'h',
    volume: 'w',
    snapshot: null,
    labels: {},
    program: 'p',
  }
  await run('listBackups', {})
  await run('backupTree', { root: source, about, parent: null }, 'backup of one file')
  await run('verify', { readData: false, backup: null })
  await run('prune', { dryRun: false }, 'prune of nothing')
  await run('deleteBackups', { ids: [made.all] }, 'forget')
  await run('prune', { dryRun: false }, 'prune of half: condemn and copy')
  await run('prune', { dryRun: false }, 'prune of half: sweep')
  await run('verify', { readData: false, backup: null }, 'verify of the rest')
  await engine.stop()
  rmSync(directory, { recursive: true })
  return rows
}

const ignore = () => undefined
const log = { debug: ignore, info: ignore, warn: ignore, error: (fields: object) => console.error(fields) }
const passphrase = 'correct horse battery staple'

function writePassphrase(sandbox: Sandbox): string {
  const file = join(sandbox.directory, 'passphrase')
  writeFileSync(file, `${passphrase}\n`, { mode: 0o600 })
  return file
}

const sandbox = await openSandbox()
try {
  if (fileCounts.length > 0) {
    const daemon = await startHoldfast(sandbox, ['--log-level', 'warn', '--trash-keep', '0s'])
    const repository = `file://${sandbox.directory}/repository`
    await daemon.cli('target', 'add', 'here', repository, '--passphrase-file', writePassphrase(sandbox))
    const rows: (string | number)[][] = []
    for (const files of fileCounts) rows.push(await measureFiles(sandbox, daemon, files))
    const header = ['files', 'holdfast backup create', 'find -ls', 'ratio', 'peak MiB of the first backup', 'unchanged']
    report('An unchanged backup: ms, medians', header, rows)
  }
  const rows: string[][] = []
  for (const chunks of chunkCounts) rows.push(...(await measureChunks(sandbox, chunks)))
  if (rows.length > 0) report('A repository of many chunks', ['chunks', 'job', 'seconds', 'peak MiB of the job'], rows)
} finally {
  await sandbox.close()
}
