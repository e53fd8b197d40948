/** Who holds a volume: counts as Docker really sends them (docker-behaviour: ids repeat, leak and are lost). */

import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, describe, expect, test, vi } from 'vitest'
import { putHold } from '../../../../src/catalog/changes.ts'
import { AppError } from '../../../../src/errors.ts'
import { openCore, type TestCore } from '../../../support/core.ts'

/** What the kernel's mount tables say; each list is one answer, the last one stays. */
const kernel = vi.hoisted(() => ({ uses: [] as { pid: number; mountpoint: string }[], mounted: [] as string[] }))
vi.mock(import('../../../../src/system/mount.ts'), async (original) => ({
  ...(await original()),
  usesOf: async () => kernel.uses,
  readMounts: () => kernel.mounted.map((mountpoint) => ({ mountpoint }) as never),
}))
beforeEach(() => {
  kernel.uses = []
  kernel.mounted = []
})

const container = [{ pid: 4711, mountpoint: '/p' }]

async function coreWithVolume(): Promise<TestCore> {
  const t = await openCore()
  await t.volumes.create({ name: 'db' })
  return t
}

function holds(t: TestCore): string[] {
  const id = t.core.catalog.volume('db')?.id ?? ''
  return t.core.catalog.holds(id).map(({ mountId, count, stale }) => `${mountId} ${count}${stale ? ' stale' : ''}`)
}

/** Its Mounts are `minutes` ago: containers have had their time to show. */
async function age(t: TestCore, minutes = 5): Promise<void> {
  const since = new Date(Date.now() - minutes * 60_000).toISOString()
  const id = t.core.catalog.volume('db')?.id ?? ''
  await t.core.catalog.write(...t.core.catalog.holds(id).map((hold) => putHold({ ...hold, since })))
}

describe('counts', () => {
  test('two ids hold one mount; the last one to go unmounts', async () => {
    await using t = await coreWithVolume()
    const at = await t.mounts.mount('db', 'id1')
    expect(await t.mounts.mount('db', 'id2')).toBe(at)
    expect(at).toBe(join(t.core.config.root, 'mounts/db'))
    await t.mounts.unmount('db', 'id1')
    expect([holds(t), [...t.driver.mounted]]).toEqual([['id2 1'], [at]])
    await t.mounts.unmount('db', 'id2')
    expect([holds(t), [...t.driver.mounted]]).toEqual([[], []])
  })

  test('docker cp comes and goes with the container’s own id, which still holds', async () => {
    await using t = await coreWithVolume()
    await t.mounts.mount('db', 'container')
    for (let copy = 0; copy < 2; copy++) {
      await t.mounts.mount('db', 'container')
      expect(holds(t)).toEqual(['container 2'])
      await t.mounts.unmount('db', 'container')
    }
    expect([holds(t), t.driver.mounted.size]).toEqual([['container 1'], 1])
  })

  test('a Mount that fails has counted nothing', async () => {
    await using t = await coreWithVolume()
    t.driver.fail('mount', new AppError('INTERNAL', 'no'))
    await expect(t.mounts.mount('db', 'id1')).rejects.toThrow('no')
    expect(holds(t)).toEqual([])
    expect(t.mounts.get('db')?.status['mounts']).toBe(0)
  })

  test('an unknown id is success; an unknown volume and an empty id are errors', async () => {
    await using t = await coreWithVolume()
    await t.mounts.mount('db', 'id1')
    await t.mounts.unmount('db', 'nobody')
    expect([holds(t), t.driver.mounted.size]).toEqual([['id1 1'], 1])
    await expect(t.mounts.unmount('x', 'id1')).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await expect(t.mounts.mount('x', 'id1')).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await expect((async () => t.mounts.mount('db', ''))()).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  })

  test('parallel Mounts and Unmounts of many ids end in none', async () => {
    await using t = await coreWithVolume()
    const ids = Array.from({ length: 20 }, (_, number) => `id${number % 7}`)
    await Promise.all(ids.map((id) => t.mounts.mount('db', id)))
    expect(holds(t)).toHaveLength(7)
    await Promise.all(ids.map((id) => t.mounts.unmount('db', id)))
    expect([holds(t), t.driver.mounted.size]).toEqual([[], 0])
  })
})

describe('after dockerd or the daemon has restarted', () => {
  test('dockerd was killed: the same old id is mounted again, once, and unmounted once', async () => {
    await using t = await coreWithVolume()
    for (let time = 0; time < 3; time++) await t.mounts.mount('db', 'container')
    await t.mounts.resetCounts()
    expect(holds(t)).toEqual(['container 1 stale'])
    await t.mounts.mount('db', 'container')
    expect(holds(t)).toEqual(['container 1'])
    await t.mounts.unmount('db', 'container')
    expect([holds(t), t.driver.mounted.size]).toEqual([[], 0])
  })

  test('live-restore: the old container’s Unmount comes, and ends its hold', async () => {
    await using t = await coreWithVolume()
    await t.mounts.mount('db', 'container')
    await t.mounts.resetCounts()
    await t.mounts.unmount('db', 'container')
    expect([holds(t), t.driver.mounted.size]).toEqual([[], 0])
  })

  test('live-restore and docker cp: the last id is gone while the container runs; the mount stays until it has ended', async () => {
    await using t = await coreWithVolume()
    const at = await t.mounts.mount('db', 'container')
    await t.mounts.resetCounts()
    await t.mounts.mount('db', 'container')
    kernel.uses = container
    await t.mounts.unmount('db', 'container')
    expect([holds(t), t.driver.mounted.size]).toEqual([[], 1])
    kernel.mounted = [at]
    await t.mounts.sweep()
    expect(t.driver.mounted.size).toBe(1)
    kernel.uses = []
    await t.mounts.sweep()
    expect(t.driver.mounted.size).toBe(0)
  })

  test('a new life in the same boot takes the holds over as stale; the CLI’s stay as they are', async () => {
    await using t = await coreWithVolume()
    await t.mounts.takeOver('boot-1')
    await t.mounts.mount('db', 'container')
    await t.mounts.mount('db', 'container')
    await t.mounts.mount('db', 'cli')
    await using next = await t.restart()
    await next.mounts.takeOver('boot-1')
    expect(holds(next).sort()).toEqual(['cli 1', 'container 1 stale'])
    expect((await next.volumes.inspect('db')).mounts.map(({ stale }) => stale).sort()).toEqual([false, true])
  })

  test('a reboot ends all holds', async () => {
    await using t = await coreWithVolume()
    await t.mounts.takeOver('boot-1')
    await t.mounts.mount('db', 'container')
    await t.mounts.mount('db', 'cli')
    await using next = await t.restart()
    await next.mounts.takeOver('boot-2')
    expect(holds(next)).toEqual([])
  })
})

describe('sweep', () => {
  test('forgets stale ids that the kernel shows nowhere, and unmounts', async () => {
    await using t = await coreWithVolume()
    await t.mounts.mount('db', 'leaked')
    await t.mounts.resetCounts()
    await t.mounts.sweep()
    expect([holds(t), t.driver.mounted.size]).toEqual([[], 0])
  })

  test('leaves what an id holds, what the CLI holds, and what a container shows', async () => {
    await using t = await coreWithVolume()
    await t.mounts.mount('db', 'living')
    await t.mounts.sweep()
    expect(holds(t)).toEqual(['living 1'])
    await t.mounts.resetCounts()
    await t.mounts.mount('db', 'cli')
    await t.mounts.sweep()
    expect(holds(t).sort()).toEqual(['cli 1', 'living 1 stale'])
    await t.mounts.unmount('db', 'cli')
    kernel.uses = container
    await t.mounts.sweep()
    expect([holds(t), t.driver.mounted.size]).toEqual([['living 1 stale'], 1])
  })

  test('a failure is logged and left for the next time', async () => {
    await using t = await coreWithVolume()
    await t.mounts.mount('db', 'leaked')
    await t.mounts.resetCounts()
    t.driver.fail('unmount', new AppError('IN_USE', 'busy'))
    await t.mounts.sweep()
    expect(t.logged.join()).toContain('busy')
    kernel.mounted = [...t.driver.mounted]
    await t.mounts.sweep()
    expect(t.driver.mounted.size).toBe(0)
  })
})

describe('remove', () => {
  test('is refused while a container shows the volume, also when no id is known', async () => {
    await using t = await coreWithVolume()
    kernel.uses = container
    await expect(t.volumes.remove('db')).rejects.toMatchObject({
      code: 'IN_USE',
      message: expect.stringContaining('1 mount on this host'),
    })
    expect(t.mounts.get('db')).toBeDefined()
  })

  test('is refused while a container that was just started may not show yet', async () => {
    await using t = await coreWithVolume()
    await t.mounts.mount('db', 'container')
    await expect(t.volumes.remove('db')).rejects.toMatchObject({ code: 'IN_USE' })
  })

  test.each([
    ['stale', (t: TestCore) => t.mounts.resetCounts()],
    ['minutes old', age],
  ])('goes on when the ids are merely left over: %s', async (_, leave) => {
    await using t = await coreWithVolume()
    await t.mounts.mount('db', 'leaked')
    await leave(t)
    await t.volumes.remove('db')
    expect([t.mounts.get('db'), t.driver.mounted.size, t.trash.list().length]).toEqual([undefined, 0, 1])
  })

  test('is refused while the CLI holds the volume or a snapshot of it, with the command that ends it', async () => {
    await using t = await coreWithVolume()
    await t.mounts.mount('db', 'cli')
    await age(t)
    await expect(t.volumes.remove('db')).rejects.toThrow('holdfast volume umount db')
    await t.mounts.unmount('db', 'cli')
    await t.snapshots.create('db', { name: 's1' })
    await t.snapshots.mount('db', 's1')
    await expect(t.volumes.remove('db')).rejects.toThrow('holdfast snapshot umount db@s1')
  })
})

test('a Mount while a snapshot is copied does not wait for it; one while the volume is removed finds it gone', async () => {
  await using t = await coreWithVolume()
  const copying = t.driver.block('snapshots.create')
  const snapshot = t.snapshots.create('db', { name: 's1' })
  await copying.reached
  expect(await t.mounts.mount('db', 'id1')).toMatch(/mounts\/db$/)
  await t.mounts.unmount('db', 'id1')
  copying.open()
  await snapshot
  const discarding = t.driver.block('trash.discard')
  const removed = t.volumes.remove('db')
  await discarding.reached
  const mounting = t.mounts.mount('db', 'id2')
  discarding.open()
  await removed
  await expect(mounting).rejects.toMatchObject({ code: 'NOT_FOUND' })
})

test('a bind mount elsewhere is only of what the CLI has mounted', async () => {
  await using t = await coreWithVolume()
  const at = join(t.core.config.root, 'elsewhere')
  mkdirSync(at)
  await expect(t.mounts.bind('db', at)).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' })
  await t.mounts.mount('db', 'container')
  await expect(t.mounts.bind('db', at)).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' })
})

test('the generation rises with what List shows', async () => {
  await using t = await coreWithVolume()
  const before = t.mounts.generation
  await t.volumes.create({ name: 'web' })
  expect(t.mounts.generation).toBeGreaterThan(before)
})
