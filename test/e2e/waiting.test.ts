/** What takes dockerd or this test long by nature: each on a stage of its own, all at the same time. */

import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it, vi } from 'vitest'
import { expectFreeAfterRemoval, openStage, play, volumeKinds } from '../support/stage.ts'

vi.setConfig({ maxConcurrency: 6 })

describe.concurrent('slow things', () => {
  it('connections that are idle for 5 to 6 s are never closed, and labels and options survive', async () => {
    await using stage = await openStage()
    await stage.engine.docker('volume', 'create', '-d', 'holdfast', '--label', 'keep=1', '-o', 'uid=7', 'idle')
    const connections = stage.holdfast.connections()
    expect(connections).not.toEqual([])
    for (const pauseMs of [4_900, 5_000, 5_900, 5_990, 6_000, 6_010, 6_100]) {
      await sleep(pauseMs)
      expect(await stage.inspect('idle')).toMatchObject({ Labels: { keep: '1' }, Options: { uid: '7' } })
    }
    expect(stage.holdfast.connections()).toEqual(expect.arrayContaining(connections))
    expect(stage.sandbox.readLog('dockerd')).not.toMatch(/Unable to connect to plugin/)
  })

  it('docker volume create without a daemon fails with a clear error, and works when it is back', async () => {
    await using stage = await openStage()
    const { engine, holdfast } = stage
    await engine.docker('volume', 'create', '-d', 'holdfast', 'first')
    await holdfast.stop()
    const { exitCode, stderr } = await engine.tryDocker('volume', 'create', '-d', 'holdfast', 'missed')
    expect({ exitCode, stderr }).toEqual({ exitCode: 1, stderr: expect.stringMatching(/holdfast/) })
    await holdfast.start()
    expect(await engine.docker('volume', 'create', '-d', 'holdfast', 'missed')).toBe('missed')
  })

  it('a container that stops without a daemon is not stuck, and its volume is free when it is back', async () => {
    await using stage = await openStage()
    const { engine, holdfast, mountsOf } = stage
    await play(stage, ['-o', 'size=64M'])
    await holdfast.kill9()
    await engine.docker('stop', 'c1')
    await holdfast.start()
    await engine.docker('start', 'c1')
    expect(await engine.docker('exec', 'c1', 'cat', '/d/f')).toBe('data')
    expect(mountsOf('v1')).toHaveLength(1)
    await expectFreeAfterRemoval(stage)
  })

  it.each(volumeKinds)(
    'live-restore without a daemon: Docker forgets who uses $kind, Holdfast does not',
    async (of) => {
      await using stage = await openStage(['--live-restore'])
      const { engine, holdfast, mountsOf } = stage
      await play(stage, of.options)
      await holdfast.stop()
      await engine.kill9()
      await engine.start()
      await holdfast.start()
      const { exitCode, stderr } = await engine.tryDocker('volume', 'rm', 'v1')
      expect({ exitCode, stderr }).toEqual({ exitCode: 1, stderr: expect.stringMatching(/v1 is used by/) })
      expect(await engine.docker('exec', 'c1', 'sh', '-c', 'echo more >> /d/f; cat /d/f')).toBe('data\nmore')
      expect(mountsOf('v1')).toHaveLength(of.ownMounts)
      await expectFreeAfterRemoval(stage)
    },
  )

  it('the daemon down at the start of dockerd, and then started', async () => {
    await using stage = await openStage()
    const { engine, holdfast } = stage
    await play(stage, [])
    await engine.stop()
    await holdfast.stop()
    await engine.start()
    await holdfast.start()
    expect(await engine.docker('volume', 'ls', '-q')).toBe('v1')
    await engine.docker('start', 'c1')
    expect(await engine.docker('exec', 'c1', 'cat', '/d/f')).toBe('data')
    expect((await stage.inspect('v1')).Labels).toEqual({ keep: '1' })
    await expectFreeAfterRemoval(stage)
  })
})
