/**
 * How an unchanged backup grows with the number of files, 10,000 to 1,000,000 small ones, beside a plain `find -ls` of the
 * same tree (which reads no more than names and inodes). Takes some minutes, most of it to make the files.
 */

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { exec } from '../../src/system/exec.ts'
import { startHoldfast } from '../support/holdfast.ts'
import { openSandbox } from '../support/sandbox.ts'
import { fill } from './backup-data.ts'
import { inTurn, ms, report, times } from './measure.ts'

const counts = [10_000, 100_000, 1_000_000]
const runs = 3
const main = join(import.meta.dirname, '../../dist/src/cli/main.js')

const sandbox = await openSandbox()
try {
  await startHoldfast(sandbox, ['--log-level', 'warn', '--trash-keep', '0s'])
  const socket = sandbox.reach('/run/holdfast/holdfast.sock')
  const holdfast = (...args: string[]) => exec(process.execPath, [main, '--socket', socket, ...args], { timeoutMs: 0 })
  const passphraseFile = join(sandbox.directory, 'passphrase')
  writeFileSync(passphraseFile, 'correct horse battery staple\n', { mode: 0o600 })
  const repository = `file://${sandbox.directory}/repository`
  await holdfast('target', 'add', 'here', repository, '--passphrase-file', passphraseFile)
  const rows: string[][] = []
  for (const files of counts) {
    const volume = `files-${files}`
    await holdfast('volume', 'create', volume)
    const root = (await holdfast('volume', 'mount', volume)).trim()
    fill(root, { files, meanLength: 200, databases: 0, databasePages: 0 })
    await exec('sync', ['-f', root], { timeoutMs: 0 })
    const backup = () => holdfast('backup', 'create', volume, '--to', 'here', '--quiet')
    await backup()
    const list = join(sandbox.directory, 'list')
    const find = () => exec('find', [root, '-fls', list], { timeoutMs: 0 })
    const { ours, theirs, ratio } = await inTurn(runs, backup, find)
    rows.push([String(files), ms(ours), ms(theirs), times(ratio)])
    await holdfast('volume', 'umount', volume)
    await holdfast('volume', 'rm', '--purge', volume)
  }
  report('An unchanged backup: ms, medians', ['files', 'holdfast backup create', 'find -ls', 'ratio'], rows)
} finally {
  await sandbox.close()
}
