/** Backups as a user lives with them: from a container's data to a repository and back, also when node, daemon or engine are gone. */

import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { until } from '../support/processes.ts'
import { openStage, type Stage } from '../support/stage.ts'

let stage: Stage
let docker: Stage['engine']['docker']
let run: Stage['engine']['run']
let cli: Stage['holdfast']['cli']

const at = (name: string): string => join(stage.sandbox.directory, name)
const json = async <T>(...args: string[]): Promise<T> => JSON.parse(await cli(...args, '--json')) as T

interface BackupJson {
  readonly id: string
  readonly url: string
  readonly volume: string
  readonly size: number
  readonly added: number
}

beforeAll(async () => {
  stage = await openStage()
  ;({ docker, run } = stage.engine)
  ;({ cli } = stage.holdfast)
  writeFileSync(at('passphrase'), 'correct horse\n', { mode: 0o600 })
  expect(await cli('target', 'add', 'safe', `file://${at('safe')}`, '--passphrase-file', at('passphrase'))).toBe('safe')
})
afterAll(async () => await stage?.[Symbol.asyncDispose]())

/** A volume with a file of a container's. */
async function fill(volume: string, text: string): Promise<void> {
  await docker('volume', 'create', '-d', 'holdfast', volume)
  await run(
    '--rm',
    '-v',
    `${volume}:/d`,
    'busybox',
    'sh',
    '-c',
    `echo ${text} > /d/f; chown 42:43 /d/f; chmod 640 /d/f`,
  )
}

const show = async (volume: string): Promise<string> =>
  await run('--rm', '-v', `${volume}:/d`, 'busybox', 'sh', '-c', 'cat /d/f; stat -c "%u:%g %a" /d/f')

describe('a backup', () => {
  it('becomes a new volume that a container reads as the first was', async () => {
    await fill('data', 'treasure')
    const url = await cli('backup', 'create', 'data', '--to', 'safe')
    expect(url).toMatch(/^file:\/\/.*\?backup=[0-9a-f]{32}$/)
    await cli('backup', 'restore', url, '--to', 'again', '--passphrase-file', at('passphrase'))
    expect(await show('again')).toBe('treasure\n42:43 640')
    expect(await json('volume', 'inspect', 'data')).toMatchObject([{ lastBackup: { url } }])
    expect(await cli('backup', 'ls-files', url)).toContain('f')
  })

  it('of what has not changed stores next to nothing', async () => {
    const backups = await json<BackupJson[]>('backup', 'ls', 'safe', '--volume', 'data')
    await cli('backup', 'create', 'data', '--to', 'safe')
    const after = await json<BackupJson[]>('backup', 'ls', 'safe', '--volume', 'data')
    expect(after).toHaveLength(backups.length + 1)
    expect(after.at(-1)?.added).toBeLessThan(4096)
  })

  it('is what docker volume create begins with, and the same again changes nothing', async () => {
    const options = ['-o', 'from-backup=latest', '-o', 'target=safe']
    await docker('volume', 'rm', 'data')
    await docker('volume', 'create', '-d', 'holdfast', ...options, 'data')
    expect(await show('data')).toBe('treasure\n42:43 640')
    expect((await json<{ origin: string }[]>('volume', 'inspect', 'data'))[0]?.origin).toMatch(/[?]backup=/)
    await cli('volume', 'create', 'data', ...options)
    const { exitCode, stderr } = await stage.engine.tryDocker(
      'volume',
      'create',
      '-d',
      'holdfast',
      '-o',
      'from-backup=safe/nothing@latest',
      'nothing',
    )
    expect(exitCode, 'there is no backup of a volume of that name').not.toBe(0)
    expect(stderr).toMatch(/no backup/i)
  })

  it('is put back in place, and what was there before stays as a snapshot', async () => {
    await fill('place', 'first')
    const url = await cli('backup', 'create', 'place', '--to', 'safe')
    await run('--rm', '-v', 'place:/d', 'busybox', 'sh', '-c', 'echo second > /d/f; touch /d/new')
    await cli('backup', 'restore', url, '--to', 'place', '--in-place')
    expect(await run('--rm', '-v', 'place:/d', 'busybox', 'ls', '/d')).toBe('f')
    expect(await show('place')).toContain('first')
    const [safety] = await json<{ name: string }[]>('snapshot', 'ls', 'place')
    expect(safety?.name).toMatch(/^before-restore-/)
    await cli('snapshot', 'revert', `place@${safety?.name}`)
    expect(await show('place')).toContain('second')
  })

  it('is refused in place while a container uses the volume', async () => {
    await run('-d', '--name', 'user', '-v', 'place:/d', 'busybox', 'sleep', '600')
    const { exitCode, stderr } = await stage.holdfast.tryCli(
      'backup',
      'restore',
      'safe/place@latest',
      '--to',
      'place',
      '--in-place',
    )
    expect(exitCode).toBe(6)
    expect(stderr).toMatch(/used by/)
    await docker('rm', '-f', 'user')
  })
})

describe('hooks', () => {
  it('run in the container before and after, and their order is seen in the volume', async () => {
    const hooks = ['-o', 'pre-snapshot=echo pre >> /d/log', '-o', 'post-snapshot=echo post >> /d/log']
    await docker('volume', 'create', '-d', 'holdfast', ...hooks, 'hooked')
    await run('-d', '--name', 'db', '-v', 'hooked:/d', 'busybox', 'sleep', '600')
    await cli('snapshot', 'create', 'hooked', '--name', 's')
    expect(await docker('exec', 'db', 'cat', '/d/log')).toBe('pre\npost')
    const mountpoint = await cli('snapshot', 'mount', 'hooked@s')
    expect(readFileSync(stage.sandbox.reach(`${mountpoint}/log`), 'utf8')).toBe('pre\n')
    await cli('snapshot', 'umount', 'hooked@s')
    await docker('rm', '-f', 'db')
  })
})

describe('a schedule', () => {
  it('backs up by its cron expression, and forgets by its retention', async () => {
    await fill('often', 'tick')
    await cli(
      'schedule',
      'create',
      'often',
      '--cron',
      '* * * * * *',
      '--backup',
      'safe',
      '--keep',
      'last=2',
      '--name',
      'tick',
    )
    const backups = async () => await json<BackupJson[]>('backup', 'ls', 'safe', '--volume', 'often')
    const [first] = (await until('a first backup', 30_000, async () => (await backups())[0] && (await backups()))) ?? []
    await until('the first one forgotten', 60_000, async () => !(await backups()).some(({ id }) => id === first?.id))
    await cli('schedule', 'pause', 'tick')
    const inspect = async () => (await json<{ status: string }[]>('schedule', 'inspect', 'tick'))[0]
    await until('the end of the last run', 20_000, async () => (await inspect())?.status === 'paused')
    expect((await backups()).length).toBeLessThanOrEqual(3)
    expect(await inspect()).toMatchObject({ failures: 0, lastError: null })
    await cli('schedule', 'rm', 'tick')
  })
})

describe('the daemon killed', () => {
  it('in the middle of a backup goes on with it after its start, under the same operation', async () => {
    await docker('volume', 'create', '-d', 'holdfast', 'large')
    const fillLarge = 'for i in $(seq 64); do dd if=/dev/urandom of=/d/$i bs=1M count=4 2>/dev/null; done'
    await run('--rm', '-v', 'large:/d', 'busybox', 'sh', '-c', fillLarge)
    const id = await cli('backup', 'create', 'large', '--to', 'safe', '--detach')
    const state = async () => (await json<{ state: string }[]>('operation', 'inspect', id))[0]?.state
    expect(await state()).toBe('running')
    await stage.holdfast.kill9()
    await stage.holdfast.start()
    await until('the end of the backup', 60_000, async () => (await state()) === 'done')
    expect(await json<BackupJson[]>('backup', 'ls', 'safe', '--volume', 'large')).toMatchObject([
      { size: 64 * 4 * 2 ** 20 },
    ])
    expect(await cli('snapshot', 'ls', 'large', '--json')).toBe('[]')
  })
})

describe('after a fire', () => {
  it('URL and passphrase are all that is needed', async () => {
    await docker('volume', 'rm', ...(await docker('volume', 'ls', '-q')).split('\n'))
    await stage.holdfast.stop()
    rmSync(stage.holdfast.root, { recursive: true })
    rmSync(at('volumes'), { recursive: true })
    await stage.holdfast.start()
    const place = [`file://${at('safe')}`, '--passphrase-file', at('passphrase')]
    const backups = await json<BackupJson[]>('backup', 'ls', ...place, '--volume', 'data')
    await cli('backup', 'restore', backups[0]?.url as string, '--to', 'data', '--passphrase-file', at('passphrase'))
    expect(await show('data')).toBe('treasure\n42:43 640')
  })

  it('a wrong passphrase opens nothing and says so', async () => {
    writeFileSync(at('wrong'), 'incorrect\n')
    const { exitCode, stderr } = await stage.holdfast.tryCli(
      'backup',
      'ls',
      `file://${at('safe')}`,
      '--passphrase-file',
      at('wrong'),
    )
    expect(exitCode).toBe(4)
    expect(stderr).toMatch(/passphrase does not open/)
  })
})
