/** What a user of the docker command waits for, beside Docker's own `local` driver. */

import { startDockerd } from '../support/dockerd.ts'
import { startHoldfast } from '../support/holdfast.ts'
import { openSandbox } from '../support/sandbox.ts'
import { inTurn, ms, type Pair, report, times } from './measure.ts'

const row = (what: string, { ours, theirs, ratio }: Pair): string[] => [what, ms(ours), ms(theirs), times(ratio)]

const sandbox = await openSandbox()
try {
  await startHoldfast(sandbox, ['--log-level', 'warn'])
  const { docker, run } = await startDockerd(sandbox)
  let number = 0
  const createAndRemove = (driver: string) => async (): Promise<void> => {
    const name = `bench-${driver}-${number++}`
    await docker('volume', 'create', '-d', driver, name)
    await docker('volume', 'rm', name)
  }
  const runContainer = (driver: string) => async (): Promise<void> => {
    await run('--rm', '-v', `data-${driver}:/data`, 'busybox', '/bin/sh', '-c', 'echo x > /data/x')
  }
  for (const driver of ['holdfast', 'local']) await docker('volume', 'create', '-d', driver, `data-${driver}`)
  report(
    'Docker: ms, medians',
    ['command', 'holdfast', 'local', 'ratio'],
    [
      row('docker volume create + rm', await inTurn(40, createAndRemove('holdfast'), createAndRemove('local'))),
      row('docker run --rm with one volume', await inTurn(20, runContainer('holdfast'), runContainer('local'))),
    ],
  )
} finally {
  await sandbox.close()
}
