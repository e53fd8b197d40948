/** Hooks: what a text means, where it runs, in which order, and that post runs whenever pre was begun. */

import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { chmod, chown } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { putVolume } from '../../../../src/catalog/changes.ts'
import { AppError } from '../../../../src/errors.ts'
import type { Volume } from '../../../../src/model.ts'
import { parseHookCommand, parseHooks } from '../../../../src/services/snapshots/hook-command.ts'
import type { CreateVolumeRequest } from '../../../../src/services/volumes/contract.ts'
import { openCore, type TestCore } from '../../../support/core.ts'
import { type FakeContainer, type FakeEngine, openEngine } from '../../../support/fake-engine.ts'

const refuses = (code: string, message: RegExp) =>
  expect.objectContaining({ code, message: expect.stringMatching(message) })

describe('what a text means', () => {
  test.each([
    ['psql -c "CHECKPOINT" | cat', { where: 'container', argv: ['sh', '-c', 'psql -c "CHECKPOINT" | cat'] }],
    [' ["freeze", "/data dir"] ', { where: 'container', argv: ['freeze', '/data dir'] }],
    ['host:freeze  a b', { where: 'host', argv: ['freeze', 'a', 'b'] }],
    ['host: ["freeze", "a b"]', { where: 'host', argv: ['freeze', 'a b'] }],
  ])('%j', (text, command) => expect(parseHookCommand('pre-snapshot', text)).toEqual(command))

  test.each([
    ['', /is empty/],
    ['  ', /is empty/],
    ['[', /begins with \[ and is no JSON array/],
    ['[1]', /is not a JSON array of strings/],
    ['[]', /names no program/],
    ['[""]', /names no program/],
    ['["a", "b\\u0000"]', /has a NUL character/],
    ['host:', /names no program/],
    ['host:/bin/rm -rf', /names a path/],
    ['host:../rm', /names a path/],
  ])('%j is refused', (text, message) => {
    expect(() => parseHookCommand('pre-snapshot', text)).toThrow(refuses('INVALID_ARGUMENT', message))
  })

  test.each([
    [{ preSnapshot: '[' }, /^pre-snapshot "\["/],
    [{ postSnapshot: '' }, /^post-snapshot ""/],
    [{ hookContainer: '../c' }, /^hook-container .* is not a container's name/],
    [{ hookTimeout: '0s' }, /^hook-timeout "0s" is not a time/],
    [{ hookTimeout: 'soon' }, /is not a duration/],
    [{ hookTimeout: '365d' }, /^hook-timeout "365d" is not a time/],
  ])('a volume with %j is refused', (request, message) => {
    expect(() => parseHooks(request)).toThrow(refuses('INVALID_ARGUMENT', message))
  })
})

interface Bed extends AsyncDisposable {
  readonly t: TestCore
  readonly engine: FakeEngine
  /** Commands, pauses and the driver's snapshots, in the order they came. */
  order(): string[]
}

const running = (Name: string, State = 'running'): FakeContainer => ({ Id: `id-of-${Name}`, Name, State })
const both: Partial<CreateVolumeRequest> = { preSnapshot: '["pre"]', postSnapshot: '["post"]' }

/** A volume `db` with hooks, used by the container `c1`. */
async function open(hooks: Partial<CreateVolumeRequest> = both, hostHooks: string | null = null): Promise<Bed> {
  await using opened = new AsyncDisposableStack()
  const t = opened.use(await openCore())
  Object.assign(t.core.config, { hostHooks })
  const engine = opened.use(await openEngine(t.core.config.dockerSocket))
  engine.containers = [running('c1')]
  await t.volumes.create({ name: 'db', ...hooks })
  const seen: string[] = []
  let calls = t.driver.calls.length
  const takeCalls = (): void => {
    const made = t.driver.calls.slice(calls).filter((call) => call.startsWith('snapshots.'))
    calls = t.driver.calls.length
    seen.push(...made)
  }
  engine.onDone = (what) => {
    takeCalls()
    seen.push(what)
  }
  const order = (): string[] => {
    takeCalls()
    return [...seen]
  }
  const all = opened.move()
  return { t, engine, order, [Symbol.asyncDispose]: () => all.disposeAsync() }
}

const snapshots = ({ t }: Bed): string[] => t.snapshots.list('db').map(({ name }) => name)
const orderly = ['exec c1: pre', 'snapshots.create db@s', 'exec c1: post']

describe('in a container', () => {
  test('pre, the snapshot, post; they are told what it is about', async () => {
    await using b = await open()
    await b.t.snapshots.create('db', { name: 's' })
    expect(b.order()).toEqual(orderly)
    const env = ['HOLDFAST_VOLUME=db', 'HOLDFAST_SNAPSHOT=s']
    expect(b.engine.environments).toEqual([env, env])
  })

  test('the volume shows them, and the same again is the same volume', async () => {
    await using b = await open({ ...both, hookContainer: 'c1', hookTimeout: '5s' })
    const hooks = { pre: '["pre"]', post: '["post"]', container: 'c1', timeoutMs: 5_000 }
    expect(b.t.volumes.list()).toEqual([expect.objectContaining({ hooks })])
    expect(await b.t.volumes.create({ name: 'db', ...both })).toMatchObject({ existed: true })
    await expect(b.t.volumes.create({ name: 'db', ...both, postSnapshot: 'x', hookTimeout: '6s' })).rejects.toEqual(
      refuses('ALREADY_EXISTS', /post-snapshot is \["post"\], asked for x; hook-timeout is 5s, asked for 6s/),
    )
  })

  test('update changes those that are given, removes empty ones, and leaves the rest', async () => {
    await using b = await open({ ...both, hookTimeout: '5s' })
    const changed = await b.t.volumes.update('db', { preSnapshot: '["new"]', postSnapshot: '', hookContainer: 'c1' })
    expect(changed.hooks).toEqual({ pre: '["new"]', container: 'c1', timeoutMs: 5_000 })
    await b.t.snapshots.create('db', { name: 's' })
    expect(b.order()).toEqual(['exec c1: new', 'snapshots.create db@s'])
    await b.t.volumes.update('db', { preSnapshot: '', hookContainer: '', hookTimeout: ' ' })
    expect(b.t.volumes.list()).toEqual([expect.objectContaining({ hooks: {} })])
  })

  test.each([
    [{}, 'INVALID_ARGUMENT', /there is nothing to change; give pre-snapshot/],
    [{ preSnapshot: undefined }, 'INVALID_ARGUMENT', /there is nothing to change/],
    [{ postSnapshot: '', preSnapshot: '[' }, 'INVALID_ARGUMENT', /^pre-snapshot "\["/],
    [{ hookTimeout: '5' }, 'INVALID_ARGUMENT', /'5' has no unit; .* such as 5m/],
    [{ preSnapshot: 'host:pre' }, 'FAILED_PRECONDITION', /programs of this node are not allowed/],
    [{ preSnapshot: 'x'.repeat(70_000) }, 'INVALID_ARGUMENT', /65536 is the limit/],
  ])('update with %j is refused and changes nothing', async (request, code, message) => {
    await using b = await open()
    const before = b.t.volumes.list()
    await expect(b.t.volumes.update('db', request)).rejects.toEqual(refuses(code, message))
    expect(b.t.volumes.list()).toEqual(before)
    await expect(b.t.volumes.update('nobody', { preSnapshot: '' })).rejects.toEqual(refuses('NOT_FOUND', /nobody/))
  })

  test('one that the admin no longer allows can be removed, one at a time', async () => {
    await using b = await open()
    const [volume] = b.t.core.catalog.volumes()
    const hooks = { pre: 'host:pre', post: 'host:post' }
    await b.t.core.catalog.write(putVolume({ ...(volume as Volume), hooks }))
    expect((await b.t.volumes.update('db', { preSnapshot: '' })).hooks).toEqual({ post: 'host:post' })
  })

  test('--pause pauses after pre and before post', async () => {
    await using b = await open()
    await b.t.snapshots.create('db', { name: 's', pause: true })
    expect(b.order()).toEqual(['exec c1: pre', 'pause c1', 'snapshots.create db@s', 'unpause c1', 'exec c1: post'])
  })

  test('one alone is run alone', async () => {
    await using b = await open({ postSnapshot: 'sync' })
    await b.t.snapshots.create('db', { name: 's' })
    expect(b.order()).toEqual(['snapshots.create db@s', 'exec c1: sh -c sync'])
  })

  test('when pre fails there is no snapshot, its last words are told, and post runs', async () => {
    await using b = await open()
    b.engine.outcomes.set('pre', { exitCode: 3, stdout: `${'x\n'.repeat(20)}locking\n`, stderr: 'no \u001b[31mlock\n' })
    await expect(b.t.snapshots.create('db', { name: 's' })).rejects.toEqual(
      refuses(
        'FAILED_PRECONDITION',
        /^the pre-snapshot hook of volume db \(in container c1\) failed with exit code 3: x; x; x; locking; no {2}\[31mlock; /,
      ),
    )
    expect(snapshots(b)).toEqual([])
    expect(b.order()).toEqual(['exec c1: pre', 'exec c1: post', 'snapshots.delete db@s'])
  })

  test('a program that the container does not have fails in the engine’s words', async () => {
    await using b = await open()
    b.engine.outcomes.set('pre', { refused: 'exec: "pre": executable file not found in $PATH' })
    await expect(b.t.snapshots.create('db', { name: 's' })).rejects.toEqual(
      refuses('FAILED_PRECONDITION', /in container c1\): exec: "pre": executable file not found/),
    )
  })

  test('when the snapshot fails, post runs', async () => {
    await using b = await open()
    b.t.driver.fail('snapshots.create', new AppError('NO_SPACE', 'the disk is full'))
    await expect(b.t.snapshots.create('db', { name: 's' })).rejects.toEqual(refuses('NO_SPACE', /the disk is full/))
    expect(b.order().slice(0, 3)).toEqual(orderly)
  })

  test('when post fails, the snapshot is kept and the log says so', async () => {
    await using b = await open()
    b.engine.outcomes.set('post', { exitCode: 1, stderr: 'cannot thaw' })
    await b.t.snapshots.create('db', { name: 's' })
    expect(snapshots(b)).toEqual(['s'])
    expect(b.t.logged).toContainEqual(expect.stringMatching(/^the post-snapshot hook failed; .*cannot thaw/))
  })

  test('a pre that takes too long fails it; post runs', async () => {
    await using b = await open()
    b.engine.outcomes.set('pre', { until: new Promise(() => undefined) })
    await expect(b.t.snapshots.create('db', { name: 's', hookTimeout: '100ms' })).rejects.toEqual(
      refuses('TIMEOUT', /in container c1\): it did not end within 100ms, and it still runs in the container/),
    )
    expect(snapshots(b)).toEqual([])
    expect(b.order().slice(0, 2)).toEqual(['exec c1: pre', 'exec c1: post'])
  })

  test('a cancel in the middle of pre ends it; post runs', async () => {
    await using b = await open()
    const begun = Promise.withResolvers<void>()
    b.engine.outcomes.set('pre', { until: new Promise(() => undefined) })
    const { onDone } = b.engine
    b.engine.onDone = (what) => {
      onDone(what)
      begun.resolve()
    }
    const operationId = '00000000-0000-0000-0000-000000000001'
    const creating = b.t.snapshots.create('db', { name: 's' }, { operationId })
    await begun.promise
    b.t.core.operations.cancel(operationId)
    await expect(creating).rejects.toEqual(refuses('CANCELLED', /was cancelled/))
    expect(b.order().slice(0, 2)).toEqual(['exec c1: pre', 'exec c1: post'])
    expect(snapshots(b)).toEqual([])
  })

  test('an engine that is away makes it fail before anything is begun', async () => {
    await using b = await open()
    await b.engine[Symbol.asyncDispose]()
    await expect(b.t.snapshots.create('db', { name: 's' })).rejects.toEqual(
      refuses('UNAVAILABLE', /is the engine running/),
    )
    expect(b.t.core.operations.list(true).map(({ kind }) => kind)).toEqual(['volume.create'])
  })
})

describe('which container', () => {
  test.each([
    ['none', [], []],
    ['one that has ended', [running('c1', 'exited')], []],
    ['one that runs besides one that has ended', [running('c0', 'exited'), running('c1')], orderly],
  ])('%s', async (_, containers, order) => {
    await using b = await open()
    b.engine.containers = containers
    await b.t.snapshots.create('db', { name: 's' })
    expect(b.order()).toEqual(order.length > 0 ? order : ['snapshots.create db@s'])
  })

  test('the one that is named, also when it does not use the volume or others do', async () => {
    await using b = await open({ ...both, hookContainer: 'admin' })
    b.engine.containers = [running('c1'), running('c2'), running('admin')]
    await b.t.snapshots.create('db', { name: 's' })
    expect(b.order()).toEqual(['exec admin: pre', 'snapshots.create db@s', 'exec admin: post'])
  })

  test('a named one that is not there: nothing writes when no other runs', async () => {
    await using b = await open({ ...both, hookContainer: 'admin' })
    b.engine.containers = []
    await b.t.snapshots.create('db', { name: 's' })
    expect(b.order()).toEqual(['snapshots.create db@s'])
  })

  test.each<[string, Partial<CreateVolumeRequest>, FakeContainer[], RegExp]>([
    ['several', {}, [running('c1'), running('c2')], /2 containers use it \(c1, c2\).*hook-container/],
    ['a paused one', {}, [running('c1', 'paused')], /container c1 .* is paused; run: docker unpause c1/],
    ['a named one that is paused', { hookContainer: 'c1' }, [running('c1', 'paused')], /is paused/],
    [
      'a named one that has ended',
      { hookContainer: 'a' },
      [running('c1'), running('a', 'exited')],
      /a .* is exited, and others use/,
    ],
    ['a named one that is not there', { hookContainer: 'a' }, [running('c1')], /a .* is not there, and others use/],
  ])('%s: refused before anything is begun', async (_, hooks, containers, message) => {
    await using b = await open({ ...both, ...hooks })
    b.engine.containers = containers
    await expect(b.t.snapshots.create('db', { name: 's' })).rejects.toEqual(refuses('FAILED_PRECONDITION', message))
    expect(b.order()).toEqual([])
    expect(snapshots(b)).toEqual([])
  })
})

describe('after a crash', () => {
  test('post runs once, however often recovery is tried', async () => {
    await using b = await open()
    const begun = Promise.withResolvers<void>()
    b.engine.outcomes.set('pre', { until: new Promise(() => undefined) })
    b.engine.onDone = () => begun.resolve()
    b.t.snapshots.create('db', { name: 's' }).catch(() => undefined)
    await begun.promise
    // The life before still waits for an engine that nobody else reaches any more.
    rmSync(b.t.core.config.dockerSocket)
    await using next = await b.t.restart()
    await using engine = await openEngine(next.core.config.dockerSocket)
    engine.containers = [running('c1')]
    next.driver.fail('snapshots.delete', new AppError('UNAVAILABLE', 'not yet'))
    await next.recover(10)
    while (next.core.operations.list().length > 0) await pause(5)
    expect(engine.done).toEqual(['exec c1: post'])
    expect(next.snapshots.list('db')).toEqual([])
    expect(next.driver.calls.filter((call) => call.startsWith('snapshots.delete'))).toHaveLength(2)
  })
})

/** A zombie is not: who inherits it reaps it when it likes. */
function isAlive(pid: number): boolean {
  try {
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}

describe('programs of this node', () => {
  let above: string
  let folder: string
  beforeEach(() => {
    above = mkdtempSync(join(tmpdir(), 'holdfast-hooks-'))
    folder = join(above, 'hooks')
    mkdirSync(folder, { mode: 0o755 })
  })
  afterEach(() => rmSync(above, { recursive: true }))

  const program = (name: string, text: string): void =>
    writeFileSync(join(folder, name), `#!/bin/sh\n${text}\n`, { mode: 0o755 })
  const host = { preSnapshot: 'host:pre a b', postSnapshot: 'host:["post", "c d"]' }

  test('run with their arguments and nothing of the daemon’s environment, whoever uses the volume', async () => {
    program('pre', `{ echo "$0 $1 $2 $#"; env; } > ${folder}/pre.out`)
    program('post', `echo "$1 $#" > ${folder}/post.out`)
    await using b = await open(host, folder)
    b.engine.containers = []
    await b.t.snapshots.create('db', { name: 's' })
    const [first, ...env] = readFileSync(join(folder, 'pre.out'), 'utf8').trim().split('\n')
    expect(first).toBe(`${folder}/pre a b 2`)
    expect(env.map((line) => line.split('=')[0]).sort()).toEqual([
      'HOLDFAST_SNAPSHOT',
      'HOLDFAST_VOLUME',
      'PATH',
      'PWD',
    ])
    expect(env).toEqual(expect.arrayContaining(['HOLDFAST_SNAPSHOT=s', 'HOLDFAST_VOLUME=db']))
    expect(readFileSync(join(folder, 'post.out'), 'utf8')).toBe('c d 1\n')
  })

  test('one that fails makes no snapshot', async () => {
    program('pre', 'echo "cannot freeze" >&2; exit 4')
    program('post', `touch ${folder}/post.out`)
    await using b = await open(host, folder)
    await expect(b.t.snapshots.create('db', { name: 's' })).rejects.toEqual(
      refuses(
        'FAILED_PRECONDITION',
        /^the pre-snapshot hook of volume db \(on this node\) failed with exit code 4: cannot freeze/,
      ),
    )
    expect(readFileSync(join(folder, 'post.out'), 'utf8')).toBe('')
  })

  test('one that takes too long is ended with all that it has started', async () => {
    program('pre', `echo $$ > ${folder}/pids; sh -c 'echo $$ >> ${folder}/pids; sleep 30; :'; :`)
    program('post', '')
    await using b = await open(host, folder)
    const begun = performance.now()
    await expect(b.t.snapshots.create('db', { name: 's', hookTimeout: '300ms' })).rejects.toEqual(
      refuses('TIMEOUT', /on this node\): .*pre did not end within 300ms/),
    )
    expect(performance.now() - begun).toBeLessThan(5_000)
    const pids = readFileSync(join(folder, 'pids'), 'utf8').trim().split('\n').map(Number)
    expect(pids).toHaveLength(2)
    expect(pids.filter(isAlive)).toEqual([])
  })

  test('are refused, also at creation, when the setting names no directory', async () => {
    await expect(open(host)).rejects.toEqual(
      refuses('FAILED_PRECONDITION', /host:pre.* are not allowed; .*setting host-hooks/),
    )
  })

  test.each<[string, () => void | Promise<void>, string, RegExp]>([
    ['not there', () => rmSync(join(folder, 'pre')), 'NOT_FOUND', /pre for hooks on this node is not there/],
    ['not executable', () => chmod(join(folder, 'pre'), 0o644), 'PERMISSION_DENIED', /is not executable/],
    ['writable by others', () => chmod(join(folder, 'pre'), 0o777), 'PERMISSION_DENIED', /changed by others/],
    ['another user’s', () => chown(join(folder, 'pre'), 1000, 0), 'PERMISSION_DENIED', /changed by others/],
    [
      'in a directory that others can add to',
      () => chmod(folder, 0o1777),
      'PERMISSION_DENIED',
      /the directory .*changed by others/,
    ],
    [
      'below a directory that others can change',
      () => chmod(above, 0o777),
      'PERMISSION_DENIED',
      /the directory .*changed by others/,
    ],
    [
      'in a directory that others can change',
      () => chmod(folder, 0o777),
      'PERMISSION_DENIED',
      /the directory .*changed by others/,
    ],
    [
      'a symlink',
      () => {
        rmSync(join(folder, 'pre'))
        symlinkSync('/bin/true', join(folder, 'pre'))
      },
      'PERMISSION_DENIED',
      /is not a regular file/,
    ],
    [
      'a directory',
      () => {
        rmSync(join(folder, 'pre'))
        mkdirSync(join(folder, 'pre'))
      },
      'PERMISSION_DENIED',
      /is not a regular file/,
    ],
  ])('one that is %s is not run', async (_, spoil, code, message) => {
    program('pre', '')
    program('post', '')
    await using b = await open(host, folder)
    await spoil()
    await expect(b.t.snapshots.create('db', { name: 's' })).rejects.toEqual(refuses(code, message))
    expect(b.order()).toEqual([])
  })
})
