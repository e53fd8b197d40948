import path from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { hostile } from '../../support/fake-backup-services.ts'
import { Harness } from './harness.ts'

let cli: Harness

beforeEach(async () => {
  cli = await Harness.start()
})

afterEach(() => cli[Symbol.asyncDispose]())

const operationId = expect.stringMatching(/^[0-9a-f-]{36}$/)
const id = '3f2a'.repeat(8)

/** What the services were asked for. */
function asked(verb: string): readonly unknown[][] {
  return cli.services.calls.filter(([name]) => name === verb).map((call) => call.slice(1))
}

describe('how a store is reached', () => {
  const words =
    '--endpoint http://h:9000 --region eu-1 --access-key-file a --secret-key-file /s --passphrase-file ../p --path-style'
  const access = {
    endpoint: 'http://h:9000',
    region: 'eu-1',
    accessKeyFile: path.resolve('a'),
    secretKeyFile: '/s',
    passphraseFile: path.resolve('../p'),
    pathStyle: true,
  }

  it('is told by every verb that takes a URL, with absolute paths', async () => {
    const [at, backup] = ['s3://b/x', 's3://b/x?backup=1']
    const lines = [
      ['backup create db --to s3://b/x', { volume: 'db', labels: {}, pause: false, to: { at, access } }],
      ['backup restore s3://b/x?backup=1 --to n', { to: 'n', from: { backup, access } }],
      ['backup ls s3://b/x', { at, access }],
      ['backup inspect s3://b/x?backup=1', { backup, access }],
      ['backup ls-files s3://b/x?backup=1', { backup, access }],
      ['backup rm s3://b/x?backup=1', [{ backup, access }]],
      ['backup verify s3://b/x', { at, access }],
      ['backup verify s3://b/x?backup=1', { backup, access }],
      ['backup repair s3://b/x', { at, access }],
      ['backup forget s3://b/x --volume db --keep last=1', { at, access }],
      ['backup prune s3://b/x', { at, access }],
    ] as const
    for (const [line, expected] of lines) {
      expect(await cli.holdfast(...`${line} ${words}`.split(' '))).toMatchObject({
        code: 0,
        stderr: expect.stringMatching(/^(holdfast: n is volume db of .*\n)?$/),
      })
      expect(cli.services.calls.at(-1)?.[1], line).toEqual(expected)
    }
  })

  it('and what a target keeps besides', async () => {
    const more = '--storage-class GLACIER --encryption kms --kms-key-id k --upload-limit 10M --download-limit 1024'
    await cli.holdfast(...`target add off s3://b/x ${words} ${more}`.split(' '))
    const kept = {
      ...access,
      storageClass: 'GLACIER',
      encryption: 'kms',
      kmsKeyId: 'k',
      uploadLimit: 10 * 2 ** 20,
      downloadLimit: 1024,
    }
    expect(asked('targets.add')).toEqual([['off', 's3://b/x', kept]])
    expect((await cli.holdfast('target', 'add', 'off', 's3://b', '--encryption', 'rot13')).code).toBe(2)
  })

  it('is not sent when nothing is said', async () => {
    await cli.holdfast('backup', 'prune', 'nas')
    expect(asked('backups.prune')).toEqual([[{ at: 'nas' }, { dryRun: false }, { operationId }]])
  })

  it.each([
    'target add n s3://b --passphrase hunter2',
    'target add n s3://b --passphrase=hunter2',
    'backup ls s3://b --secret-key hunter2',
    'target passphrase add nas --passphrase hunter2',
  ])('%s is refused with a hint, and the secret is not repeated', async (line) => {
    const { code, stdout, stderr } = await cli.holdfast(...line.split(' '))
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toMatch(/write it into a file for --(passphrase|secret-key)-file=FILE/)
    expect(stderr).not.toContain('hunter2')
    expect(cli.services.calls).toEqual([])
  })
})

describe('requests', () => {
  it('of backup create name snapshot, labels and pause', async () => {
    await cli.holdfast(...'backup create db@s1 --to nas --label a=b --label c --pause'.split(' '))
    const request = { volume: 'db', snapshot: 's1', to: { at: 'nas' }, labels: { a: 'b', c: '' }, pause: true }
    expect(asked('backups.create')).toEqual([[request, { operationId }]])
  })

  it('of backup restore name path, place and driver', async () => {
    await cli.holdfast(...'backup restore nas/1 --to db --path etc --in-place --driver vfs'.split(' '))
    const request = { from: { backup: 'nas/1' }, to: 'db', path: 'etc', inPlace: true, driver: 'vfs' }
    expect(asked('backups.restore')).toEqual([[request, { operationId }]])
  })

  it('of backup restore say what the new volume is to be, as volume create does', async () => {
    const words = ['--size', '5G', '-o', 'on-remove=retain', '-o', 'adopt=/x', '-o', 'label.c=d', '--label', 'a=b']
    await cli.holdfast('backup', 'restore', 'nas/db@latest', '--to', 'n', ...words)
    const asks = { size: '5G', onRemove: 'retain', options: { adopt: '/x' }, labels: { a: 'b', c: 'd' } }
    expect(asked('backups.restore')).toEqual([
      [{ from: { backup: 'nas/db@latest' }, to: 'n', ...asks }, { operationId }],
    ])
  })

  it('of backup forget name the rules', async () => {
    const line =
      'backup forget nas --volume db --keep last=1,within=30d --label a=b --timezone Europe/Berlin --dry-run --prune'
    await cli.holdfast(...line.split(' '))
    const rules = {
      volume: 'db',
      keep: 'last=1,within=30d',
      labels: { a: 'b' },
      timeZone: 'Europe/Berlin',
      dryRun: true,
      prune: true,
    }
    expect(asked('backups.forget')).toEqual([[{ at: 'nas' }, rules, { operationId }]])
  })

  it('of backup verify tell a backup of a target from a target', async () => {
    await cli.holdfast('backup', 'verify', 'nas/1', '--read-data')
    expect(asked('backups.verify')).toEqual([[{ backup: 'nas/1' }, { readData: true }, { operationId }]])
  })

  it('of target passphrase add name an absolute file', async () => {
    await cli.holdfast('target', 'passphrase', 'add', 'nas', '--passphrase-file', 'new')
    expect(asked('targets.addPassphrase')).toEqual([['nas', path.resolve('new'), undefined]])
    await cli.holdfast('target', 'passphrase', 'add', 'nas', '--passphrase-file', '/new', '--label', 'of Ann')
    expect(asked('targets.addPassphrase')[1]).toEqual(['nas', '/new', 'of Ann'])
  })

  it('of schedule create say what was typed', async () => {
    const cron = ['--cron', '0 3 * * *']
    const line =
      '--snapshot --backup nas --trim --keep last=3 --keep-snapshots last=9 --name n --timezone UTC --jitter 5m'
    expect((await cli.holdfast('schedule', 'create', 'db', ...cron, ...line.split(' '))).stdout).toBe('n\n')
    const request = {
      volume: 'db',
      cron: '0 3 * * *',
      snapshot: true,
      trim: true,
      target: 'nas',
      keep: 'last=3',
      keepSnapshots: 'last=9',
      name: 'n',
      timeZone: 'UTC',
      jitter: '5m',
    }
    expect(asked('schedules.create')).toEqual([[request]])
  })

  it('of volume create say from which backup and with which hooks', async () => {
    const words = ['-o', 'target=nas', '-o', 'pre-snapshot=sync', '-o', 'hook-timeout=5s']
    await cli.holdfast('volume', 'create', 'n', '--from-backup', 'latest', ...words)
    const request = { name: 'n', fromBackup: 'latest', target: 'nas', preSnapshot: 'sync', hookTimeout: '5s' }
    expect(asked('volumes.create')).toEqual([[{ ...request, labels: {}, options: {} }, { operationId }]])
  })

  it('of volume update say which hooks, and which to remove', async () => {
    await cli.holdfast('volume', 'update', 'db', '-o', 'pre-snapshot=a=b c', '-o', 'post-snapshot=')
    expect(asked('volumes.update')).toEqual([['db', { preSnapshot: 'a=b c', postSnapshot: '' }]])
  })

  it('of snapshot create say how long hooks may take', async () => {
    await cli.holdfast('snapshot', 'create', 'db', '--hook-timeout', '1m')
    expect(asked('snapshots.create')).toEqual([
      ['db', { labels: {}, pause: false, hookTimeout: '1m' }, { operationId }],
    ])
  })
})

describe('--detach', () => {
  it.each([
    'backup create slow --to nas',
    'backup restore nas/1 --to slow',
    'backup forget nas --volume slow --keep last=1',
  ])('%s prints the id of the operation, which can be followed', async (line) => {
    const { code, stdout, stderr } = await cli.holdfast(...line.split(' '), '--detach')
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    const running = cli.services.operations.list()
    expect(running).toMatchObject([{ id: stdout.trim(), state: 'running' }])
    expect(await cli.holdfast('operation', 'cancel', stdout.trim())).toMatchObject({ stdout: 'cancelled\n' })
  })

  it('prints the operation with --json, and the result when there was none', async () => {
    const { stdout } = await cli.holdfast(...'backup create slow --to nas --detach --json'.split(' '))
    expect(JSON.parse(stdout)).toMatchObject({ kind: 'backup.create', state: 'running' })
    cli.services.operations.cancel(JSON.parse(stdout).id)
    expect((await cli.holdfast('backup', 'prune', 'nas', '--detach')).stdout).toMatch(/^deleted: /)
  })

  it('fails with what comes before the operation', async () => {
    const failed = await cli.holdfast(...'backup create nope --to nas --detach'.split(' '))
    expect(failed).toMatchObject({ code: 3, stdout: '', stderr: expect.stringContaining('nope does not exist') })
  })
})

describe('damage', () => {
  it('that verify finds is shown and ends with 11', async () => {
    const { code, stdout, stderr } = await cli.holdfast('backup', 'verify', 'broken')
    expect({ code, stderr }).toEqual({ code: 11, stderr: '' })
    expect(stdout).toContain('\npacks/aa: a\\u001b[2J')
    expect(stdout).toContain(`\ndamaged: file:///srv/nas?backup=${id} of volume db\n  etc/motd\n  a\\u001b`)
    const json = await cli.holdfast('backup', 'verify', 'broken', '--json')
    expect(json.code).toBe(11)
    expect(JSON.parse(json.stdout)).toMatchObject({ backups: 2, damaged: [{ paths: ['etc/motd', hostile] }] })
  })

  it('that repair cannot mend ends with 11', async () => {
    const { code, stdout } = await cli.holdfast('backup', 'repair', 'broken')
    expect({ code, stdout }).toEqual({
      code: 11,
      stdout: 'packs:       3\nlost chunks: 4\nleft out: packs/aa: torn\n',
    })
  })
})

describe('what a repository says', () => {
  it.each([
    'backup ls nas',
    'backup ls file:///srv/nas',
    'backup inspect nas/evil',
    'backup ls-files nas/1',
    'backup verify broken',
    'backup forget nas --volume db --keep last=1',
  ])('%s cannot play with the terminal', async (line) => {
    const { stdout, stderr } = await cli.holdfast(...line.split(' '))
    expect(stdout).toContain('a\\u001b[2J\\u009bb\\nc')
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
    expect(stdout + stderr).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/)
  })
})

describe('backup ls-files', () => {
  it('prints lines as ls does', async () => {
    expect((await cli.holdfast('backup', 'ls-files', 'nas/1')).stdout.split('\n')).toEqual([
      'drwxr-xr-t     0     0          7 2026-11-23 10:00 bin',
      '-rwsr-sr-x  1000 100000          7 2026-11-23 10:00 bin/su',
      'lrwxrwxrwx     0     0          0 2026-11-23 10:00 ä -> a\\u001b[2J\\u009bb\\nc',
      '---S------     0     0          7 2026-11-23 10:00 a\\u001b[2J\\u009bb\\nc',
      '',
    ])
  })

  it('prints one JSON array, also when there is nothing', async () => {
    const { stdout } = await cli.holdfast('backup', 'ls-files', 'nas/1', '--json')
    expect(JSON.parse(stdout).map((file: { path: string }) => file.path)).toEqual(['bin', 'bin/su', 'ä', hostile])
    expect((await cli.holdfast('backup', 'ls-files', 'nas/empty', '--json')).stdout).toBe('[]\n')
    expect(await cli.holdfast('backup', 'ls-files', 'nas/empty')).toEqual({ code: 0, stdout: '', stderr: '' })
  })

  it.each([[], ['--json']])('ends with the error that comes in the middle %s', async (...json) => {
    const { code, stdout, stderr } = await cli.holdfast('backup', 'ls-files', 'nas/torn', ...json)
    expect({ code, stderr }).toEqual({ code: 11, stderr: 'holdfast: a chunk is damaged\n' })
    expect(stdout).toContain('bin/su')
  })

  it('fails with what comes before the first file', async () => {
    expect(await cli.holdfast('backup', 'ls-files', 'nas/gone')).toMatchObject({ code: 3, stdout: '' })
    const { stdout } = await cli.holdfast('backup', 'ls-files', 'nas/gone', '--json')
    expect(JSON.parse(stdout)).toMatchObject({ error: { code: 'NOT_FOUND' } })
  })

  it('shows the root of the tree as a dot', async () => {
    const root = { path: '', type: 'directory', mode: 0o700, uid: 0, gid: 0, size: 0, target: null }
    const listFiles = async (_ref: unknown, _path: string, take: (files: object[]) => Promise<void>) =>
      await take([{ ...root, modifiedAt: '2026-11-23T10:00:00.000Z' }])
    Object.assign(cli.services.backups, { listFiles })
    expect((await cli.holdfast('backup', 'ls-files', 'nas/1')).stdout).toMatch(/^drwx------ .* \.\n$/)
  })

  it('carries a list that is longer than any buffer', async () => {
    const file = {
      type: 'file',
      mode: 0,
      uid: 0,
      gid: 0,
      size: 0,
      modifiedAt: '2026-11-23T10:00:00.000Z',
      target: null,
    }
    const listFiles = async (_ref: unknown, _path: string, take: (files: object[]) => Promise<void>) => {
      for (let page = 0; page < 100; page++) {
        await take(Array.from({ length: 1000 }, (_, index) => ({ ...file, path: `ä${page * 1000 + index}` })))
      }
    }
    Object.assign(cli.services.backups, { listFiles })
    const { stdout } = await cli.holdfast('backup', 'ls-files', 'nas/1', '--json')
    const paths = JSON.parse(stdout).map(({ path }: { path: string }) => path)
    expect(paths).toEqual(Array.from({ length: 100_000 }, (_, index) => `ä${index}`))
  })

  it('stops the daemon when it is interrupted', async () => {
    const stopped = Promise.withResolvers<void>()
    const taken = Promise.withResolvers<void>()
    const listFiles = async (
      _r: unknown,
      _p: string,
      take: (files: object[]) => Promise<void>,
      signal: AbortSignal,
    ) => {
      signal.addEventListener('abort', () => stopped.resolve())
      await take([{ path: 'a', type: 'file', mode: 0, uid: 0, gid: 0, size: 0, modifiedAt: '', target: null }])
      taken.resolve()
      await new Promise((resolve) => signal.addEventListener('abort', resolve))
    }
    Object.assign(cli.services.backups, { listFiles })
    const program = cli.spawn('backup', 'ls-files', 'nas/1')
    await taken.promise
    process.kill(program.pid, 'SIGINT')
    expect((await program.ended).code).not.toBe(0)
    await stopped.promise
  })
})

describe('the rest', () => {
  it('of several backups what can be removed is', async () => {
    const { code, stdout, stderr } = await cli.holdfast('backup', 'rm', 'nas/gone', 'nas/1')
    expect({ code, stdout, stderr }).toEqual({
      code: 3,
      stdout: `file:///srv/nas?backup=${id}\n`,
      stderr: 'holdfast: no such backup\n',
    })
  })

  it('a restore in place says where the former content is', async () => {
    const { stdout, stderr } = await cli.holdfast(...'backup restore nas/1 --to db --in-place'.split(' '))
    expect({ stdout, stderr }).toEqual({
      stdout: 'db\n',
      stderr:
        'holdfast: db is volume db of host node1 as of 2026-11-23T10:00:00.000Z\n' +
        'holdfast: what was there before is db@before-restore-1\n',
    })
    const evil = await cli.holdfast(...'backup restore nas/evil --to n'.split(' '))
    expect(evil.stderr).toMatch(/^holdfast: n is volume a\\u001b.*\n$/)
  })

  it('a run of a schedule that fails ends with the code of its error, a list of failing ones with 0', async () => {
    expect(await cli.holdfast('schedule', 'run', 'failing')).toMatchObject({ code: 9, stdout: '' })
    expect(await cli.holdfast('schedule', 'ls')).toMatchObject({
      code: 0,
      stdout: expect.stringContaining(' failing '),
    })
  })

  it('info shows the targets', async () => {
    expect((await cli.holdfast('info')).stdout).toMatch(/\ntarget nas: {5}file:\/\/\/srv\/nas\n$/)
  })
})
