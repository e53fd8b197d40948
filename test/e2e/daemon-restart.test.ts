/** The daemon ends and comes back under running containers. */

import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openStage, type Stage, volumeKinds } from '../support/stage.ts'

let stage: Stage
let docker: Stage['engine']['docker']
let tryDocker: Stage['engine']['tryDocker']
let run: Stage['engine']['run']

beforeAll(async () => {
  stage = await openStage()
  ;({ docker, tryDocker, run } = stage.engine)
})
afterAll(async () => await stage?.[Symbol.asyncDispose]())

const ends = [
  ['SIGTERM', async (): Promise<void> => await stage.holdfast.stop()],
  ['kill -9', async (): Promise<void> => await stage.holdfast.kill9()],
] as const

describe.each(ends)('after %s of the daemon', (signal, end) => {
  it.each(volumeKinds)('a container goes on with $kind, stops and starts', async ({ kind, options, ownMounts }) => {
    const volume = `${signal} ${kind}`.replaceAll(/\W+/g, '-')
    const container = `on-${volume}`
    await docker('volume', 'create', '-d', 'holdfast', '--label', 'keep=1', ...options, volume)
    await run('-d', '--name', container, '-v', `${volume}:/d`, 'busybox', 'sleep', '3600')
    await docker('exec', container, 'sh', '-c', 'echo before > /d/f')

    await end()
    await docker('exec', container, 'sh', '-c', 'echo while it is down >> /d/f')
    await stage.holdfast.start()

    expect(stage.mountsOf(volume)).toHaveLength(ownMounts)
    expect(await docker('exec', container, 'cat', '/d/f')).toBe('before\nwhile it is down')
    expect(await run('--rm', '-v', `${volume}:/d`, 'busybox', 'cat', '/d/f')).toBe('before\nwhile it is down')
    await docker('exec', container, 'sh', '-c', 'echo after >> /d/f')
    expect((await stage.holdfast.tryCli('volume', 'rm', volume)).exitCode).toBe(6)

    await docker('stop', container)
    expect(stage.mountsOf(volume)).toEqual([])
    await docker('start', container)
    expect(await docker('exec', container, 'cat', '/d/f')).toBe('before\nwhile it is down\nafter')
    expect(stage.mountsOf(volume)).toHaveLength(ownMounts)
    expect((await stage.inspect(volume)).Labels).toEqual({ keep: '1' })
    await docker('rm', '-f', container)
    await docker('volume', 'rm', volume)
  })
})

describe('while the daemon is down', () => {
  it('docker volume create fails with a clear error, and works when it is back', { timeout: 120_000 }, async () => {
    await docker('volume', 'create', '-d', 'holdfast', 'first')
    await stage.holdfast.stop()
    const { exitCode, stderr } = await tryDocker('volume', 'create', '-d', 'holdfast', 'missed')
    expect(exitCode).not.toBe(0)
    expect(stderr).toMatch(/holdfast/)
    await stage.holdfast.start()
    expect(await docker('volume', 'create', '-d', 'holdfast', 'missed')).toBe('missed')
  })

  it('a container that stops is not stuck, and its volume is free when the daemon is back', async () => {
    await docker('volume', 'create', '-d', 'holdfast', '-o', 'size=64M', 'unheard')
    await run('-d', '--name', 'unheard', '-v', 'unheard:/d', 'busybox', 'sh', '-c', 'echo data > /d/f; sleep 3600')
    await stage.holdfast.kill9()
    await docker('stop', 'unheard')
    await stage.holdfast.start()
    await docker('start', 'unheard')
    expect(await docker('exec', 'unheard', 'cat', '/d/f')).toBe('data')
    expect(stage.mountsOf('unheard')).toHaveLength(1)
    await docker('rm', '-f', 'unheard')
    expect(stage.mountsOf('unheard')).toEqual([])
    await docker('volume', 'rm', 'unheard')
  })

  it('a call that dockerd repeats is answered when the daemon comes back within 15 s', async () => {
    await docker('volume', 'create', '-d', 'holdfast', 'patient')
    await stage.holdfast.stop()
    const started = run('--rm', '-v', 'patient:/d', 'busybox', 'echo', 'started')
    await sleep(1_500)
    await stage.holdfast.start()
    expect(await started).toBe('started')
  })
})

it('connections that are idle for 5 to 6 s are never closed, and labels and options survive', {
  timeout: 120_000,
}, async () => {
  await docker('volume', 'create', '-d', 'holdfast', '--label', 'keep=1', '-o', 'uid=7', 'idle')
  const logged = stage.sandbox.readLog('dockerd').length
  for (const pauseMs of [4_900, 5_000, 5_900, 5_990, 6_000, 6_010, 6_100]) {
    await sleep(pauseMs)
    expect(await stage.inspect('idle')).toMatchObject({ Labels: { keep: '1' }, Options: { uid: '7' } })
  }
  expect(stage.sandbox.readLog('dockerd').slice(logged)).not.toMatch(/Unable to connect to plugin/)
})
