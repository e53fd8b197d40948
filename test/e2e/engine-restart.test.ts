/** dockerd ends and comes back: what it forgets, repeats or never says must not cost a container its volume. */

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { openStage, type Stage, volumeKinds } from '../support/stage.ts'

/** A container `c1` that has written `data` to the volume `v1` at `/d`. */
async function play({ engine: { docker, run } }: Stage, options: readonly string[], ...more: string[]): Promise<void> {
  await docker('volume', 'create', '-d', 'holdfast', '--label', 'keep=1', ...options, 'v1')
  await run('-d', '--name', 'c1', '-v', 'v1:/d', ...more, 'busybox', 'sleep', '3600')
  await docker('exec', 'c1', 'sh', '-c', 'echo data > /d/f; sync')
}

async function expectFreeAfterRemoval(stage: Stage): Promise<void> {
  await stage.engine.docker('rm', '-f', 'c1')
  await stage.engine.docker('volume', 'rm', 'v1')
  expect(stage.mountsOf('v1')).toEqual([])
}

describe.each(volumeKinds)('with $kind', ({ options, ownMounts }) => {
  it('kill -9 of dockerd and a start: no Unmount came, the same id comes again', async () => {
    await using stage = await openStage()
    const { engine } = stage
    await play(stage, options, '--restart', 'always')
    await engine.kill9()
    await engine.start()
    expect(await engine.docker('exec', 'c1', 'cat', '/d/f')).toBe('data')
    expect(stage.mountsOf('v1')).toHaveLength(ownMounts)
    expect((await stage.inspect('v1')).Labels).toEqual({ keep: '1' })
    await engine.docker('stop', 'c1')
    await engine.docker('start', 'c1')
    expect(await engine.docker('exec', 'c1', 'cat', '/d/f')).toBe('data')
    await expectFreeAfterRemoval(stage)
  })

  it('a stop of dockerd and a start', async () => {
    await using stage = await openStage()
    const { engine } = stage
    await play(stage, options)
    await engine.stop()
    expect(stage.mountsOf('v1')).toEqual([])
    await engine.start()
    await engine.docker('start', 'c1')
    expect(await engine.docker('exec', 'c1', 'cat', '/d/f')).toBe('data')
    await expectFreeAfterRemoval(stage)
  })

  it('an id that leaked, because its container was removed after a crash, holds nothing', async () => {
    await using stage = await openStage()
    const { engine } = stage
    await play(stage, options)
    await engine.kill9()
    await engine.start()
    await expectFreeAfterRemoval(stage)
  })

  it('live-restore, docker cp and a stop: the last Unmount never comes', async () => {
    await using stage = await openStage(['--live-restore'])
    const { engine } = stage
    await play(stage, options)
    await engine.kill9()
    await engine.start()
    expect(await engine.docker('exec', 'c1', 'cat', '/d/f')).toBe('data')
    const file = join(stage.sandbox.directory, 'file')
    writeFileSync(file, 'copied')
    await engine.docker('cp', file, 'c1:/d/g')
    expect(await engine.docker('exec', 'c1', 'cat', '/d/f', '/d/g')).toBe('data\ncopied')
    expect((await stage.holdfast.tryCli('volume', 'rm', 'v1')).exitCode).toBe(6)
    expect(stage.mountsOf('v1')).toHaveLength(ownMounts)
    await engine.docker('stop', 'c1')
    await engine.docker('start', 'c1')
    expect(await engine.docker('exec', 'c1', 'cat', '/d/f', '/d/g')).toBe('data\ncopied')
    expect(stage.mountsOf('v1')).toHaveLength(ownMounts)
    await expectFreeAfterRemoval(stage)
  })

  it('live-restore with the daemon down: Docker forgets who uses the volume, Holdfast does not', async () => {
    await using stage = await openStage(['--live-restore'])
    const { engine, holdfast } = stage
    await play(stage, options)
    await holdfast.stop()
    await engine.kill9()
    await engine.start()
    await holdfast.start()
    const { exitCode, stderr } = await engine.tryDocker('volume', 'rm', 'v1')
    expect({ exitCode, stderr }).toEqual({ exitCode: 1, stderr: expect.stringMatching(/v1 is used by/) })
    expect(await engine.docker('exec', 'c1', 'sh', '-c', 'echo more >> /d/f; cat /d/f')).toBe('data\nmore')
    await expectFreeAfterRemoval(stage)
  })
})

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
