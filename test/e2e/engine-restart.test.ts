/** dockerd ends and comes back: what it forgets, repeats or never says must not cost a container its volume. */

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { expectFreeAfterRemoval, openStage, play, volumeKinds } from '../support/stage.ts'

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
})
