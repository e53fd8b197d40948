/** Hooks around snapshots in real containers, and programs of the node; schedules that run by themselves. */

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Dockerd, startDockerd } from '../support/dockerd.ts'
import { type Holdfast, startHoldfast } from '../support/holdfast.ts'
import { until } from '../support/processes.ts'
import { openSandbox, type Sandbox } from '../support/sandbox.ts'

let sandbox: Sandbox
let holdfast: Holdfast
let engine: Dockerd

const at = (name: string): string => join(sandbox.directory, name)

beforeAll(async () => {
  sandbox = await openSandbox()
  mkdirSync(at('hooks'), { mode: 0o755 })
  holdfast = await startHoldfast(sandbox, ['--host-hooks', at('hooks')])
  engine = await startDockerd(sandbox)
})
afterAll(async () => await sandbox?.close())

/** A volume with hooks, and a container of the same name that uses it at /d. */
async function play(name: string, ...options: string[]): Promise<void> {
  await engine.docker('volume', 'create', '-d', 'holdfast', ...options.flatMap((option) => ['-o', option]), name)
  await engine.run('-d', '--name', name, '-v', `${name}:/d`, 'busybox', 'sleep', '3600')
}

const inContainer = async (name: string, script: string): Promise<string> =>
  await engine.docker('exec', name, 'sh', '-c', script)

const isThere = async (name: string, path: string): Promise<boolean> =>
  (await engine.tryDocker('exec', name, 'sh', '-c', `test -e ${path}`)).exitCode === 0

describe('in a container', () => {
  it('pre and post run around the snapshot, which has what pre wrote and not what post wrote', async () => {
    await play(
      'v1',
      'pre-snapshot=echo "$HOLDFAST_VOLUME@$HOLDFAST_SNAPSHOT" > /d/pre',
      'post-snapshot=["cp", "/d/pre", "/d/post"]',
    )
    expect(await holdfast.cli('snapshot', 'create', 'v1', '--name', 's')).toBe('v1@s')
    const mountpoint = await holdfast.cli('snapshot', 'mount', 'v1@s')
    const seen = sandbox.reach(mountpoint)
    expect(readFileSync(join(seen, 'pre'), 'utf8')).toBe('v1@s\n')
    expect(() => readFileSync(join(seen, 'post'))).toThrow(/ENOENT/)
    await holdfast.cli('snapshot', 'umount', 'v1@s')
    expect(await inContainer('v1', 'cat /d/post')).toBe('v1@s')
  })

  it('with --pause, they run while the container is not paused', async () => {
    await play('v2', 'pre-snapshot=echo a > /d/pre', 'post-snapshot=echo b > /d/post')
    await holdfast.cli('snapshot', 'create', 'v2', '--name', 's', '--pause')
    expect(await inContainer('v2', 'cat /d/pre /d/post')).toBe('a\nb')
  })

  it('with --pause, a backup that reads the volume itself is of one instant, and the container goes on', async () => {
    await play('live')
    await inContainer('live', 'mkdir /d/many; for i in $(seq 2000); do echo $i > /d/many/$i; done')
    const counting = 'while :; do echo >> /d/a; echo >> /d/z; done'
    await engine.docker('exec', '-d', 'live', 'sh', '-c', counting)
    await holdfast.cli('target', 'add', 'paused', `file://${at('paused')}`)
    const backup = await holdfast.cli('backup', 'create', 'live', '--to', 'paused', '--pause')
    expect(await engine.docker('inspect', '-f', '{{.State.Status}}', 'live')).toBe('running')
    await holdfast.cli('backup', 'restore', backup, '--to', 'copy')
    const sizes = await engine.run('--rm', '-v', 'copy:/d', 'busybox', 'stat', '-c', '%s', '/d/a', '/d/z')
    const [a, z] = sizes.split('\n').map(Number) as [number, number]
    expect(z).toBeGreaterThan(0)
    expect([0, 1]).toContain(a - z)
  })

  it('a pre that fails makes no snapshot; its words are told, and post has run', async () => {
    await play('v3', 'pre-snapshot=echo begun; echo no lock >&2; exit 7', 'post-snapshot=touch /d/post')
    const { exitCode, stderr } = await holdfast.tryCli('snapshot', 'create', 'v3')
    expect({ exitCode, stderr }).toEqual({
      exitCode: 7,
      // Docker sends what came by two streams in any order.
      stderr: expect.stringMatching(
        /pre-snapshot hook of volume v3 \(in container v3\) failed with exit code 7: (begun; no lock|no lock; begun)/,
      ),
    })
    expect(JSON.parse(await holdfast.cli('snapshot', 'ls', 'v3', '--json'))).toEqual([])
    await inContainer('v3', 'test -e /d/post')
  })

  it('one that the container does not have is told', async () => {
    await play('v4', 'pre-snapshot=["no-such-program"]')
    const { exitCode, stderr } = await holdfast.tryCli('snapshot', 'create', 'v4')
    expect({ exitCode, stderr }).toEqual({ exitCode: 7, stderr: expect.stringMatching(/no-such-program.*not found/s) })
  })

  it('a pre that takes too long is killed with all that it has started', async () => {
    await play('v5', 'pre-snapshot=sleep 1234 & sleep 1235; :', 'post-snapshot=touch /d/post', 'hook-timeout=1h')
    const { exitCode, stderr } = await holdfast.tryCli('snapshot', 'create', 'v5', '--hook-timeout', '1s')
    expect({ exitCode, stderr }).toEqual({ exitCode: 9, stderr: expect.stringMatching(/did not end within 1s$/) })
    await inContainer('v5', 'test -e /d/post')
    expect(await inContainer('v5', 'ps')).not.toMatch(/sleep 123[45]/)
  })

  it('without a container that runs, there is nothing to keep still', async () => {
    await play('v6', 'pre-snapshot=exit 1')
    await engine.docker('rm', '-f', 'v6')
    expect(await holdfast.cli('snapshot', 'create', 'v6', '--name', 's')).toBe('v6@s')
  })

  it('of several containers, one must be named; a paused one is refused', async () => {
    await play('v7', 'pre-snapshot=true')
    await engine.run('-d', '--name', 'v7b', '-v', 'v7:/d', 'busybox', 'sleep', '3600')
    expect((await holdfast.tryCli('snapshot', 'create', 'v7')).stderr).toMatch(/2 containers use it .*hook-container/)
    await engine.docker('rm', '-f', 'v7b')
    await engine.docker('pause', 'v7')
    expect((await holdfast.tryCli('snapshot', 'create', 'v7')).stderr).toMatch(/is paused; run: docker unpause v7/)
    await engine.docker('unpause', 'v7')
    await holdfast.cli('snapshot', 'create', 'v7', '--name', 's')
  })

  it('a daemon that is killed in the middle of pre runs post when it is back', async () => {
    await play('v8', 'pre-snapshot=touch /d/pre; sleep 3600', 'post-snapshot=echo thawed >> /d/post')
    const creating = holdfast.tryCli('snapshot', 'create', 'v8', '--hook-timeout', '1h')
    await until('pre', 20_000, async () => await isThere('v8', '/d/pre'))
    await holdfast.kill9()
    expect((await creating).exitCode).not.toBe(0)
    await holdfast.start()
    await until('post', 20_000, async () => await isThere('v8', '/d/post'))
    await until('recovery', 20_000, async () => (await holdfast.cli('operation', 'ls', '--json')) === '[]')
    expect(await inContainer('v8', 'cat /d/post')).toBe('thawed')
    expect(JSON.parse(await holdfast.cli('snapshot', 'ls', 'v8', '--json'))).toEqual([])
  })
})

describe('on the node', () => {
  it('a program of the directory of host-hooks runs, and no other', async () => {
    writeFileSync(at('hooks/note'), `#!/bin/sh\necho "$HOLDFAST_VOLUME@$HOLDFAST_SNAPSHOT $*" >> ${at('noted')}\n`, {
      mode: 0o755,
    })
    await play('h1', 'pre-snapshot=host:note pre', 'post-snapshot=host:["note", "po st"]')
    await holdfast.cli('snapshot', 'create', 'h1', '--name', 's')
    expect(readFileSync(at('noted'), 'utf8')).toBe('h1@s pre\nh1@s po st\n')
    const refused = await engine.tryDocker(
      'volume',
      'create',
      '-d',
      'holdfast',
      '-o',
      'pre-snapshot=host:sh -c reboot',
      'h2',
    )
    expect(refused.stderr).toMatch(/sh for hooks on this node is not there/)
  })
})

describe('a schedule', () => {
  interface ScheduleJson {
    readonly status: string
    readonly failures: number
    readonly lastSuccessAt: string | null
    readonly lastError: { readonly message: string } | null
  }
  const inspect = async (name: string): Promise<ScheduleJson> => {
    const [view] = JSON.parse(await holdfast.cli('schedule', 'inspect', name, '--json')) as [ScheduleJson]
    return view
  }
  const snapshots = async (volume: string): Promise<{ labels: unknown }[]> =>
    JSON.parse(await holdfast.cli('snapshot', 'ls', volume, '--json')) as { labels: unknown }[]

  it('makes snapshots by itself, with hooks, keeps as many as it is to, and goes on after a kill', async () => {
    await play('s1', 'pre-snapshot=echo x >> /d/ran')
    const what = ['--cron', '*/2 * * * * *', '--snapshot', '--keep-snapshots', 'last=2', '--name', 'often']
    expect(await holdfast.cli('schedule', 'create', 's1', ...what)).toBe('often')
    const ran = async (): Promise<number> => Number(await inContainer('s1', 'cat /d/ran 2>/dev/null | wc -l'))
    await until('three runs', 30_000, async () => (await ran()) >= 3)
    expect(await inspect('often')).toMatchObject({ failures: 0, lastError: null })
    await holdfast.kill9()
    const before = await ran()
    await holdfast.start()
    // What was missed, or was interrupted, is caught up within a minute.
    await until('two more', 90_000, async () => (await ran()) >= before + 2)
    await holdfast.cli('schedule', 'pause', 'often')
    await until('its end', 20_000, async () => (await inspect('often')).status === 'paused')
    const kept = await snapshots('s1')
    expect(kept.length).toBeLessThanOrEqual(3)
    for (const { labels } of kept) expect(labels).toEqual({ 'holdfast.schedule': 'often' })
    await holdfast.cli('schedule', 'rm', 'often')
  })

  it('backs up, forgets, and goes on with a backup that a stop of the daemon has interrupted', async () => {
    await play('s3')
    await holdfast.cli('target', 'add', 'nas', `file://${at('nas')}`)
    const what = ['--cron', '@yearly', '--backup', 'nas', '--keep', 'last=2']
    await holdfast.cli('schedule', 'create', 's3', ...what, '--name', 'yearly')
    await holdfast.cli('schedule', 'create', 's3', ...what, '--name', 'both', '--snapshot')
    const own = async (target: string, name: string): Promise<string[]> => {
      const backups = JSON.parse(await holdfast.cli('backup', 'ls', target, '--json')) as {
        readonly url: string
        readonly labels: Readonly<Record<string, string>>
      }[]
      return backups.filter(({ labels }) => labels['holdfast.schedule'] === name).map(({ url }) => url)
    }
    const urls: string[] = []
    for (let i = 0; i < 3; i++) {
      await inContainer('s3', `echo ${i} > /d/f`)
      await holdfast.cli('schedule', 'run', 'yearly')
      urls.push((await own('nas', 'yearly')).at(-1) as string)
    }
    await holdfast.cli('schedule', 'run', 'both')
    expect(await own('nas', 'yearly')).toEqual(urls.slice(1))
    expect(await own('nas', 'both')).toHaveLength(1)

    await inContainer('s3', 'dd if=/dev/urandom of=/d/big bs=1M count=8 2>/dev/null')
    await holdfast.cli('target', 'add', 'slow', `file://${at('slow')}`, '--upload-limit', '1M')
    await holdfast.cli('schedule', 'create', 's3', '--cron', '@yearly', '--backup', 'slow', '--name', 'slowly')
    const running = holdfast.tryCli('schedule', 'run', 'slowly')
    const kinds = async (): Promise<string> => await holdfast.cli('operation', 'ls', '--json')
    await until('the backup', 20_000, async () => (await kinds()).includes('backup.create'))
    await holdfast.stop()
    expect((await running).exitCode).not.toBe(0)
    await holdfast.start()
    expect(await inspect('slowly')).toMatchObject({ failures: 0, lastError: null, lastSuccessAt: null })
    await until('its end', 120_000, async () => (await inspect('slowly')).lastSuccessAt !== null)
    expect(await inspect('slowly')).toMatchObject({ status: 'ok', failures: 0, lastError: null })
    expect(await own('slow', 'slowly')).toHaveLength(1)
  })

  it('that fails is told by run, ls and doctor', async () => {
    await play('s2', 'pre-snapshot=echo no lock; exit 1')
    await holdfast.cli('schedule', 'create', 's2', '--cron', '@yearly', '--snapshot', '--name', 'never')
    expect(await holdfast.tryCli('schedule', 'run', 'never')).toMatchObject({ exitCode: 7 })
    expect(await inspect('never')).toMatchObject({ status: 'failing', failures: 1 })
    expect(await holdfast.cli('schedule', 'ls')).toMatch(/never.*failing/)
    const findings = JSON.parse((await holdfast.tryCli('doctor', '--json')).stdout) as {
      check: string
      subject: string
    }[]
    expect(findings).toContainEqual(expect.objectContaining({ check: 'schedule-failing', subject: 'never' }))
  })
})
