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

describe('a call of dockerd', () => {
  it('that finds no daemon is answered when one is back within 15 s', async () => {
    await docker('volume', 'create', '-d', 'holdfast', 'patient')
    await stage.holdfast.stop()
    const started = run('--rm', '-v', 'patient:/d', 'busybox', 'echo', 'started')
    await sleep(1_500)
    await stage.holdfast.start()
    expect(await started).toBe('started')
  })

  it('that was lost with the daemon is repeated without its body: Create then still does what was asked', async () => {
    stage.holdfast.freeze()
    const created = docker('volume', 'create', '-d', 'holdfast', '-o', 'uid=5', 'lost-get')
    await sleep(500)
    await stage.holdfast.kill9()
    await stage.holdfast.start()
    expect(await created).toBe('lost-get')
    expect(await run('--rm', '-v', 'lost-get:/d', 'busybox', 'stat', '-c', '%u', '/d')).toBe('5')
  })

  it.each([20, 40, 60, 80, 120])('never leaves a ghost: kill -9 %i ms after docker volume create began', async (ms) => {
    const create = ['volume', 'create', '-d', 'holdfast', '-o', 'uid=5', '-o', 'size=64M', `killed-${ms}`]
    const created = tryDocker(...create)
    await sleep(ms)
    await stage.holdfast.kill9()
    await stage.holdfast.start()
    const { exitCode, stderr } = await created
    if (exitCode !== 0) {
      expect(stderr).toMatch(/without its body|connect|EOF|reset/)
      await docker(...create)
    }
    expect(await run('--rm', '-v', `killed-${ms}:/d`, 'busybox', 'stat', '-c', '%u', '/d')).toBe('5')
    expect(stage.mountsOf(`killed-${ms}`)).toEqual([])
    await docker('volume', 'rm', `killed-${ms}`)
  })
})
