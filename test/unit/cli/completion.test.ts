import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { candidates } from '../../../src/cli/complete.ts'
import { nouns } from '../../../src/cli/nouns.ts'
import { Harness } from './harness.ts'

let cli: Harness

beforeEach(async () => {
  cli = await Harness.start()
})

afterEach(() => cli[Symbol.asyncDispose]())

describe('what may come next', () => {
  it.each([
    ['', [...Object.keys(nouns), 'help']],
    ['vol', ['volume']],
    ['--js', ['--json']],
    ['volume u', ['update', 'umount', 'usage']],
    ['--json volume um', ['umount']],
    ['volume update db -o pre', ['pre-snapshot=']],
    ['volume update d', ['db']],
    ['volume inspect ', ['db', 'web']],
    ['volume inspect db w', ['web']],
    ['volume resize db ', []],
    ['volume rm --p', ['--purge']],
    ['volume create x --driver ', ['vfs', 'nfs']],
    ['volume create x --driver=v', ['--driver=vfs']],
    ['volume create x --from-snapshot d', ['db@s1']],
    ['volume create ', []],
    ['volume create x -o s', ['size=']],
    ['volume create x --opt on-remove=d', ['on-remove=delete']],
    ['volume create x --option=dr', ['--option=driver=']],
    ['volume ls --filter d', ['driver=', 'dangling=true']],
    ['volume nope ', []],
    ['snapshot rm db@', ['db@s1']],
    ['trash restore ', ['old', 'id-old']],
    ['completion ', ['bash', 'zsh', 'fish']],
    ['help vol', ['volume']],
    ['help volume tr', ['trim']],
    ['help target passphrase r', ['rm']],
    ['nope ', []],
    ['target passphrase ', ['add', 'ls', 'rm']],
    ['target passphrase add ', ['nas']],
    ['target rm ', ['nas']],
    ['backup create ', ['db', 'web']],
    ['backup create db@', ['db@s1']],
    ['backup create db --to ', ['nas']],
    ['backup create db --to=n', ['--to=nas']],
    ['backup rm n', ['nas/']],
    ['backup rm nas/3', [`nas/${'3f2a'.repeat(8)}`]],
    ['backup rm file:///srv/nas?', []],
    ['backup verify n', ['nas']],
    ['backup verify nas/e', [`nas/${'e'.repeat(32)}`]],
    ['backup forget nas --volume w', ['web']],
    ['volume create x -o from-b', ['from-backup=']],
    ['schedule rm ', ['nightly']],
  ])('after %j', async (line, expected) => {
    expect(await candidates(line.split(' '), { HOLDFAST_SOCKET: cli.socket })).toEqual(expected)
  })

  it('asks the daemon that the line names', async () => {
    expect(await candidates(['--socket', cli.socket, 'volume', 'rm', ''], {})).toEqual(['db', 'web'])
  })

  it('is silent about names when no daemon answers', async () => {
    expect(await candidates(['volume', 'rm', ''], { HOLDFAST_SOCKET: '/nonexistent' })).toEqual([])
    const quiet = await cli.spawn('__complete', '--socket', '/nonexistent', 'volume', 'rm', '').ended
    expect(quiet).toEqual({ code: 0, stdout: '', stderr: '' })
  })
})

describe('in bash', () => {
  let directory: string

  beforeEach(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'holdfast-bash-'))
    const main = path.resolve(import.meta.dirname, '../../../src/cli/main.ts')
    const program = `#!/bin/sh\nexec '${process.execPath}' '${main}' "$@"\n`
    writeFileSync(path.join(directory, 'holdfast'), program, { mode: 0o755 })
  })

  afterEach(() => rmSync(directory, { recursive: true, force: true }))

  /** What the line is after a press of the tab key in an interactive bash on a terminal. */
  async function tab(line: string): Promise<string> {
    const { stdout: script } = await cli.holdfast('completion', 'bash')
    writeFileSync(path.join(directory, 'rc'), script)
    // Tab; then to the line's begin and end (^A, ^E) to print it.
    const printed = await typeInto(path.join(directory, 'rc'), `${line}\t\u0001echo "<\u0005>"\nexit\n`)
    return /^<holdfast (.*)>\r?$/m.exec(printed)?.[1] ?? printed
  }

  /** `script` gives bash a terminal. */
  async function typeInto(rc: string, keys: string): Promise<string> {
    const env = {
      PATH: `${directory}:/usr/bin:/bin`,
      HOME: directory,
      TERM: 'dumb',
      HOLDFAST_SOCKET: cli.socket,
      NODE_NO_WARNINGS: '1',
    }
    const bash = `bash --noprofile --rcfile ${rc} -i`
    const child = spawn('script', ['-qec', bash, '/dev/null'], { env, stdio: ['pipe', 'pipe', 'inherit'] })
    let printed = ''
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => (printed += chunk))
    child.stdin.write(keys)
    const [code] = (await once(child, 'close')) as [number]
    expect(code).toBe(0)
    return printed
  }

  it.each([
    ['holdfast vol', 'volume '],
    ['holdfast volume cr', 'volume create '],
    ['holdfast volume rm w', 'volume rm web '],
    ['holdfast snapshot rm db@', 'snapshot rm db@s1 '],
    ['holdfast snapshot rm db@s', 'snapshot rm db@s1 '],
    ['holdfast snapshot rm d', 'snapshot rm db@s1 '],
    ['holdfast volume create x --driver=v', 'volume create x --driver=vfs '],
    ['holdfast volume ls --filter dr', 'volume ls --filter driver='],
    ['holdfast backup rm n', 'backup rm nas/'],
    ['holdfast backup rm nas/3', `backup rm nas/${'3f2a'.repeat(8)} `],
    ['holdfast volume ls --json --fil', 'volume ls --json --filter '],
  ])('a tab after %j', async (line, expected) => {
    expect(await tab(line)).toBe(expected)
  })
})
