import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Command, Noun } from '../../../src/cli/command.ts'
import { nouns } from '../../../src/cli/nouns.ts'
import { Harness } from './harness.ts'

let cli: Harness

beforeEach(async () => {
  cli = await Harness.start()
})

afterEach(() => cli[Symbol.asyncDispose]())

/** The words of every command. */
async function everyCommand(): Promise<string[][]> {
  const within = (words: string[], found: Noun | Command): string[][] =>
    'run' in found ? [words] : Object.entries(found.verbs).flatMap(([verb, next]) => within([...words, verb], next))
  const loaded = Object.entries(nouns).map(async ([name, { load }]) => within([name], await load()))
  return (await Promise.all(loaded)).flat()
}

/** A command line and what it prints, for people. */
const commands: [string, string | RegExp][] = [
  ['info', /^version: {8}9\.9\.9\n[\s\S]*driver: {9}vfs\n {2}state: {8}ready\n/],
  ['version', 'program: 0.1.0\ndaemon:  9.9.9\n'],
  ['completion bash', /^_holdfast\(\) \{/],
  ['completion zsh', /^#compdef holdfast/],
  ['completion fish', /^function __holdfast_complete/],
  ['volume create new --size 1G', 'new\n'],
  ['volume ls', /^NAME {3}DRIVER {3}SIZE {3}USED {3}STATUS {3}MOUNTS {3}CREATED\ndb {5}vfs {6}10G {4}500M {3}ok {7}1 /],
  [
    'volume inspect db',
    /^name: {9}db\n[\s\S]*\nlabels: {7}env=prod\n[\s\S]*\npre-snapshot: sync\nhook timeout: 1 minute\n$/,
  ],
  ['volume rm web', 'web\n'],
  ['volume resize db 20G', 'db\n'],
  ['volume update db -o pre-snapshot=sync', 'db\n'],
  ['volume mount db', '/var/lib/holdfast/mounts/db\n'],
  ['volume mount db --at /mnt/x', '/mnt/x\n'],
  ['volume umount db', 'db\n'],
  ['volume usage db', 'NAME   USED   SIZE\ndb     500M   10G\n'],
  ['volume trim db', 'NAME   TRIMMED\ndb     1K\n'],
  ['volume takeover db --force', 'this node may mount db; no other node had it\n'],
  ['trash ls', /^NAME {3}ID {7}DRIVER[\s\S]*\nold {4}id-old {3}vfs/],
  ['trash restore old --as older', 'older\n'],
  ['trash empty', 'old\n'],
  ['trash empty id-old', 'old\n'],
  ['snapshot create db --name s2 --label a=b --pause', 'db@s2\n'],
  ['snapshot ls db', /^SNAPSHOT {3}SIZE[\s\S]*\ndb@s1 /],
  ['snapshot inspect db@s1', /^name: {7}db@s1\n/],
  ['snapshot rm db@s1', 'db@s1\n'],
  ['snapshot revert db@s1', 'db@s1\n'],
  ['snapshot mount db@s1', '/var/lib/holdfast/mounts/db@s1\n'],
  ['snapshot umount db@s1', 'db@s1\n'],
  ['snapshot diff db@s1 db@s2', 'A a\nM b\\nc\nD d\n'],
  ['target add off s3://bucket@eu-1/x --endpoint http://h:1', 'off\n'],
  ['target ls', /^NAME {3}URL {15}ENCRYPTED {3}CREATED\nnas {4}file:\/\/\/srv\/nas {3}yes {9}/],
  ['target inspect nas', /^name: {12}nas\n[\s\S]*\npassphrase file: \/etc\/pass\nupload limit: {4}1K\/s\n/],
  ['target rm nas', 'nas\n'],
  ['target check nas', /^name: {12}nas\n[\s\S]*\nlisting: {9}at once\n/],
  ['target passphrase add nas --passphrase-file new', 'p2\n'],
  ['target passphrase ls nas', /^ID {3}LABEL {3}IN USE {3}CREATED\np1 {3}first {3}yes /],
  ['target passphrase rm nas p1', 'p1\n'],
  ['backup create db --to nas', `file:///srv/nas?backup=${'3f2a'.repeat(8)}\n`],
  [
    'backup ls nas --volume db',
    /^BACKUP {33}VOLUME [\s\S]*\nnas\/(3f2a){8} {3}db {7}- {10}tree {3}10M {4}1M {6}node1 /,
  ],
  ['backup inspect nas/3f2a3f2a', /^id: {7}(3f2a){8}\n[\s\S]*\nadded: {4}1M\n/],
  ['backup ls-files nas/3f2a3f2a', /^drwxr-xr-t {5}0 {5}0 {10}7 2026-11-23 10:00 bin\n-rwsr-sr-x {2}1000 100000 /],
  ['backup restore nas/3f2a3f2a --to new --quiet', 'new\n'],
  ['backup rm nas/3f2a3f2a', `file:///srv/nas?backup=${'3f2a'.repeat(8)}\n`],
  ['backup verify nas --read-data', 'backups: 2\npacks:   3\nchunks:  4\nread:    1M\nall is well\n'],
  ['backup repair nas', 'packs:       3\nlost chunks: 0\n'],
  [
    'backup forget nas --volume db --keep last=1 --prune',
    /\n(3f2a){8} .* keep {7}last, daily\ne{32} .* removed .*\n\ndeleted: /,
  ],
  ['backup forget nas --volume db --keep last=1 --dry-run', /\ne{32} .* would remove /],
  ['backup prune nas --dry-run', /^deleted: {7}1M in 2 packs\nto be deleted: 1K in 1 packs, by /],
  ['schedule create db --cron @daily --snapshot', 'db\n'],
  [
    'schedule ls db',
    /^NAME[\s\S]*\nnightly {3}db {7}0 3 \* \* \* \(UTC\) {3}snapshot, backup to nas, trim {3}in \d+ days .* failing {3}2\n/,
  ],
  ['schedule inspect nightly', /\nlast error: {5}UNAVAILABLE: the store does not answer\n$/],
  ['schedule rm nightly', 'nightly\n'],
  ['schedule run nightly', 'nightly\n'],
  ['schedule pause nightly', 'nightly\n'],
  ['schedule resume nightly', 'nightly\n'],
  ['operation ls --all', 'ID   KIND   SUBJECT   STATE   PROGRESS   RATE   TIME LEFT   STARTED   ERROR\n'],
]

describe('every command', () => {
  it.each(commands)('%s prints its answer for people', async (line, expected) => {
    const { code, stdout, stderr } = await cli.holdfast(...line.split(' '))
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    if (typeof expected === 'string') expect(stdout).toBe(expected)
    else expect(stdout).toMatch(expected)
  })

  it.each(commands)('%s prints one JSON document for programs', async (line) => {
    const { code, stdout, stderr } = await cli.holdfast(...line.split(' '), '--json')
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(JSON.parse(stdout)).toBeTypeOf('object')
  })

  it('is among these or has a test of its own', async () => {
    const lines = (await everyCommand()).map((words) => words.join(' '))
    const untried = lines.filter((name) => !commands.some(([line]) => `${line} `.startsWith(`${name} `)))
    expect(untried).toEqual(['daemon', 'doctor', 'operation inspect', 'operation watch', 'operation cancel'])
  })

  it('documents itself and its options', async () => {
    for (const words of await everyCommand()) {
      const { code, stdout } = await cli.holdfast('help', ...words)
      expect(code).toBe(0)
      expect(stdout).toMatch(new RegExp(`^Usage: holdfast ${words.join(' ')}`))
      expect((await cli.holdfast(...words, '--help')).stdout).toBe(stdout)
      const [noun, ...verbs] = words
      if (noun && verbs.length > 0) expect((await cli.holdfast(noun, 'help', ...verbs)).stdout).toBe(stdout)
    }
  })

  it.each([['target'], ['target', 'passphrase']])('of %s %s is in the help of its noun', async (...words) => {
    const { code, stdout } = await cli.holdfast(...words)
    expect(code).toBe(0)
    expect(stdout).toMatch(new RegExp(`^Usage: holdfast ${words.join(' ')} VERB `))
    expect((await cli.holdfast('help', ...words)).stdout).toBe(stdout)
  })
})

describe('doctor', () => {
  it('ends with 1 when anything is found, and shows the remedy', async () => {
    const { code, stdout } = await cli.holdfast('doctor')
    expect(code).toBe(1)
    expect(stdout).toBe('error:    x (data-without-record)\n  fact:   x has no record\n  remedy: remove it\n')
    const json = await cli.holdfast('doctor', '--json')
    expect(json.code).toBe(1)
    expect(JSON.parse(json.stdout)).toMatchObject([{ severity: 'error', check: 'data-without-record' }])
  })

  it('ends with 0 when all is well', async () => {
    await cli.holdfast('volume', 'rm', 'web')
    expect(await cli.holdfast('doctor')).toEqual({ code: 0, stdout: 'all is well\n', stderr: '' })
  })
})

describe('volume create', () => {
  it('asks for what flags and -o say together', async () => {
    const line =
      'volume create n --driver vfs -o size=1G --size 1G -o uid=7 --opt on-remove=delete --option driver=vfs --label a=b --label c -o label.d=e'
    expect((await cli.holdfast(...line.split(' '))).code).toBe(0)
    expect(cli.services.calls).toEqual([
      [
        'volumes.create',
        {
          name: 'n',
          driver: 'vfs',
          size: '1G',
          onRemove: 'delete',
          labels: { a: 'b', c: '', d: 'e' },
          options: { uid: '7' },
        },
        { operationId: expect.stringMatching(/^[0-9a-f-]{36}$/) },
      ],
    ])
  })

  it.each([
    ['--size 1G -o size=2G', 'given twice'],
    ['--size 1G --size 2G', 'given twice'],
    ['--label a=1 --label a=2', 'given twice'],
    ['-o uid', 'not KEY=VALUE'],
    ['-o =7', 'not KEY=VALUE'],
  ])('refuses %s', async (options, message) => {
    const { code, stderr } = await cli.holdfast('volume', 'create', 'n', ...options.split(' '))
    expect(code).toBe(2)
    expect(stderr).toContain(message)
    expect(cli.services.calls).toEqual([])
  })
})

describe('volume ls --filter', () => {
  it('hands the filters on', async () => {
    const filters = ['driver=vfs', 'label=a', 'label=b=c', 'name=d*', 'dangling=true'].flatMap((filter) => [
      '--filter',
      filter,
    ])
    expect((await cli.holdfast('volume', 'ls', ...filters)).stdout).toMatch(/\nweb /)
    const filter = { driver: 'vfs', labels: ['a', 'b=c'], name: 'd*', dangling: true }
    expect(cli.services.calls).toEqual([['volumes.list', filter]])
  })

  it.each([
    ['nam=x', "unknown filter 'nam'; did you mean 'name'?"],
    ['db', 'not KEY=VALUE'],
    ['dangling=yes', 'true, false'],
  ])('refuses %s', async (filter, message) => {
    const { code, stderr } = await cli.holdfast('volume', 'ls', '--filter', filter)
    expect(code).toBe(2)
    expect(stderr).toContain(message)
  })
})

describe('several names', () => {
  it('are inspected as far as they are there, the others are errors', async () => {
    const people = await cli.holdfast('volume', 'inspect', 'nope', 'db')
    expect(people).toMatchObject({
      code: 3,
      stdout: expect.stringContaining('name:         db'),
      stderr: expect.stringContaining('nope'),
    })
    const { code, stdout, stderr } = await cli.holdfast('volume', 'inspect', 'nope', 'db', '--json')
    expect(code).toBe(3)
    expect(JSON.parse(stdout)).toMatchObject([{ name: 'db' }])
    expect(stderr).toContain('holdfast: volume nope does not exist')
  })

  it('are removed although one cannot be; the exit code is that of the first failure', async () => {
    const { code, stdout, stderr } = await cli.holdfast('volume', 'rm', 'db', 'nope', 'web')
    expect({ code, stdout }).toEqual({ code: 6, stdout: 'web\n' })
    expect(stderr).toMatch(/^holdfast: volume db is mounted[\s\S]*\nholdfast: volume nope does not exist/)
  })

  it('are removed with one JSON document, which is the error when there is one', async () => {
    const { code, stdout, stderr } = await cli.holdfast('volume', 'rm', '--json', 'db', 'web')
    expect({ code, stderr }).toEqual({ code: 6, stderr: '' })
    const details = { removed: ['web'], failed: [{ name: 'db', code: 'IN_USE', message: expect.any(String) }] }
    expect(JSON.parse(stdout)).toMatchObject({ error: { code: 'IN_USE', details } })
    await cli.holdfast('volume', 'create', 'a')
    expect(JSON.parse((await cli.holdfast('volume', 'rm', '--json', 'a')).stdout)).toEqual({ removed: ['a'] })
  })
})

describe('the grammar', () => {
  it.each([
    ['volum ls', "unknown command 'volum'; did you mean 'volume'?"],
    ['volume sl', "unknown command 'volume sl'; did you mean 'ls'?"],
    ['volume create a --sise 1G', "unknown option '--sise'; did you mean '--size'?"],
    ['--jsn', "unknown option '--jsn'; did you mean '--json'?"],
    ['volume create', 'NAME is missing'],
    ['volume resize db', 'SIZE is missing'],
    ['volume update db', 'option --option is missing: --option=KEY=VALUE'],
    ['volume update db -o pre-snapshot', "'pre-snapshot' after -o is not KEY=VALUE"],
    ['volume update db -o size=1G', "option 'size' of volume db cannot be changed; known are pre-snapshot, post-"],
    ['volume update db -o pre=x -o hook-timout=5s', "option 'pre' of volume db cannot be changed"],
    ['volume rm', 'NAME is missing'],
    ['volume ls extra', "'extra' is one argument too many"],
    ['volume rm web --purge=yes', '--purge takes no value'],
    ['volume create a --size', '--size needs a value'],
    ['volume create a --size --quiet', '--size needs a value'],
    ['snapshot rm db', "'db' is not a snapshot; name it as VOLUME@SNAPSHOT"],
    ['completion csh', "unknown shell 'csh'"],
    ['backup create db', 'option --to is missing: --to=TARGET|URL'],
    ['backup forget nas --volume db', 'option --keep is missing'],
    ['target passphrase add nas', 'option --passphrase-file is missing'],
    ['target passphrase ad nas', "unknown command 'target passphrase ad'; did you mean 'add'?"],
    ['target add n s3://b --upload-limit fast', "'fast' is not a size"],
    ['target add n s3://b --encryption aes', "--encryption 'aes' is not one of sse-s3, kms"],
    ['backup restore nas/1 --to n -o from-snapshot=a@b', 'begins as the backup that is named'],
    ['help volum', "unknown command 'volum'"],
    ['constructor', "unknown command 'constructor'"],
    ['volume toString', "unknown command 'volume toString'"],
    ['daemon --log-level loud', "'loud' is not one of"],
  ])('%s is refused with 2', async (line, message) => {
    const words = line.split(' ')
    const people = await cli.holdfast(...words)
    expect(people).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining(message) })
    expect(people.stderr).toMatch(/^holdfast: .*\n$/)
    const program = await cli.holdfast('--json', ...words)
    expect(program).toMatchObject({ code: 2, stderr: '' })
    expect(JSON.parse(program.stdout)).toEqual({
      error: { code: 'INVALID_ARGUMENT', message: expect.stringContaining(message), details: expect.any(Object) },
    })
  })

  it('takes options of every command anywhere, and after -- none', async () => {
    const expected = await cli.holdfast('volume', 'inspect', 'db', '--json')
    expect(await cli.holdfast('--json', 'volume', 'inspect', 'db')).toEqual(expected)
    expect(await cli.holdfast('volume', '--json', 'inspect', 'db')).toEqual(expected)
    expect(await cli.holdfast('volume', 'inspect', '--', '--json')).toMatchObject({ code: 3, stdout: '' })
  })

  it.each([[], ['--help'], ['-h'], ['help']])('shows the commands for %j', async (...words) => {
    const { code, stdout } = await cli.holdfast(...words)
    expect(code).toBe(0)
    for (const name of Object.keys(nouns)) expect(stdout).toContain(`\n  ${name} `)
  })
})

describe('names of other characters', () => {
  it('reach the daemon as they are', async () => {
    const { code, stderr } = await cli.holdfast('volume', 'inspect', '../info?x#y %')
    expect(code).toBe(3)
    expect(stderr).toContain('volume ../info?x#y % does not exist')
  })

  it('cannot play with the terminal', async () => {
    const { stderr } = await cli.holdfast('volume', 'inspect', 'a\u001b[2J')
    expect(stderr).toContain('volume a\\u001b[2J does not exist')
  })
})
