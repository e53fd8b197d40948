/**
 * How backups grow with the number of files, 10,000 to 1,000,000 small ones: an unchanged one beside a plain `find -ls` of the same tree (which
 * reads no more than names and inodes), and the memory of all processes. Takes some minutes, most of it to make the files.
 */

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { exec } from '../../src/system/exec.ts'
import { type Holdfast, startHoldfast } from '../support/holdfast.ts'
import { openSandbox, type Sandbox } from '../support/sandbox.ts'
import { fill } from './backup-data.ts'
import { inTurn, ms, report, times } from './measure.ts'
import { peakOf, startedAs } from './processes.ts'

/** How many files; others may be named as arguments. */
const counts = process.argv.length > 2 ? process.argv.slice(2).map(Number) : [10_000, 100_000, 1_000_000]
const runs = 3
const main = join(import.meta.dirname, '../../dist/src/cli/main.js')

async function measure(sandbox: Sandbox, daemon: Holdfast, files: number): Promise<(string | number)[]> {
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

const sandbox = await openSandbox()
try {
  const daemon = await startHoldfast(sandbox, ['--log-level', 'warn', '--trash-keep', '0s'])
  const passphraseFile = join(sandbox.directory, 'passphrase')
  writeFileSync(passphraseFile, 'correct horse battery staple\n', { mode: 0o600 })
  const repository = `file://${sandbox.directory}/repository`
  await daemon.cli('target', 'add', 'here', repository, '--passphrase-file', passphraseFile)
  const rows: (string | number)[][] = []
  for (const files of counts) rows.push(await measure(sandbox, daemon, files))
  const header = ['files', 'holdfast backup create', 'find -ls', 'ratio', 'peak MiB of the first backup', 'unchanged']
  report('An unchanged backup: ms, medians', header, rows)
} finally {
  await sandbox.close()
}
