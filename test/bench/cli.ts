/** The CLI's start, beside that of Node itself and of the docker command. */

import { join } from 'node:path'
import { run } from '../../src/system/exec.ts'
import { startHoldfast } from '../support/holdfast.ts'
import { openSandbox } from '../support/sandbox.ts'
import { inTurn, ms, report, times } from './measure.ts'

const runs = 30
const root = join(import.meta.dirname, '../..')
const main = join(root, 'dist/src/cli/main.js')

const sandbox = await openSandbox()
try {
  const { cli } = await startHoldfast(sandbox, ['--log-level', 'warn'])
  for (const name of ['one', 'two', 'three']) await cli('volume', 'create', name)
  const socket = sandbox.reach('/run/holdfast/holdfast.sock')
  const nothing = (): Promise<unknown> => run(process.execPath, ['-e', '0'])
  const commands: Record<string, () => Promise<unknown>> = {
    'holdfast volume ls': () => run(process.execPath, [main, '--socket', socket, 'volume', 'ls']),
    'scripts/holdfast volume ls': () => run(join(root, 'scripts/holdfast'), ['--socket', socket, 'volume', 'ls']),
    'holdfast volume create --help': () => run(process.execPath, [main, 'volume', 'create', '--help']),
  }
  const rows: string[][] = []
  for (const [name, command] of Object.entries(commands)) {
    const { ours, theirs, ratio } = await inTurn(runs, command, nothing)
    rows.push([name, ms(ours), ms(theirs), times(ratio)])
  }
  report('CLI: ms, medians', ['command', 'it', 'node -e 0', 'ratio'], rows)
} finally {
  await sandbox.close()
}
