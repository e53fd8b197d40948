/** Locks by name: who waits for whom, for how long, and what is said to those who wait in vain. */

import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Locks, mountKey, trashKey, volumeKey } from '../../src/locks.ts'
import { parseVolumeName } from '../../src/units.ts'

/** Holds `keys` until the returned function is called. */
async function hold(locks: Locks, keys: readonly string[], doing: string): Promise<() => Promise<void>> {
  const { promise, resolve } = Promise.withResolvers<void>()
  const held = Promise.withResolvers<void>()
  const done = locks.with(keys, doing, async () => {
    held.resolve()
    await promise
  })
  await held.promise
  return async () => {
    resolve()
    await done
  }
}

test('one key has one holder at a time, in the order they came', async () => {
  const locks = new Locks()
  const order: number[] = []
  let inside = 0
  const work = async (number: number): Promise<void> => {
    expect(++inside).toBe(1)
    await sleep(2)
    order.push(number)
    inside--
  }
  await Promise.all([1, 2, 3, 4].map((number) => locks.with(['volume:a'], 'x', () => work(number))))
  expect(order).toEqual([1, 2, 3, 4])
})

test('different keys do not wait for each other: a mount goes on beside a long copy', async () => {
  const locks = new Locks()
  const release = await hold(locks, [volumeKey('a')], 'snapshot a@s1 is being created')
  expect(await locks.with([mountKey('a'), volumeKey('b')], 'x', async () => 'free', 5)).toBe('free')
  await release()
})

test('who waits for the volume does not hold its mounts up meanwhile', async () => {
  const locks = new Locks()
  const release = await hold(locks, [volumeKey('a')], 'snapshot a@s1 is being created')
  const waiting = locks.with([mountKey('a'), volumeKey('a')], 'revert', async () => 'reverted', 1_000)
  expect(await locks.with([mountKey('a')], 'mount', async () => 'mounted', 5)).toBe('mounted')
  await release()
  expect(await waiting).toBe('reverted')
})

test('who waits in vain is told what the holder does, has done nothing and holds nothing', async () => {
  const locks = new Locks()
  const release = await hold(locks, ['volume:b'], 'snapshot b@s1 is being created')
  let begun = false
  const waiting = locks.with(['volume:a', 'volume:b'], 'clone', async () => (begun = true), 20)
  await expect(waiting).rejects.toMatchObject({
    code: 'ABORTED',
    message: expect.stringContaining('snapshot b@s1 is being created'),
  })
  expect(begun).toBe(false)
  expect(await locks.with(['volume:a'], 'x', async () => 'free', 5)).toBe('free')
  await release()
})

test('a turn that comes too late is passed on to the next', async () => {
  const locks = new Locks()
  const release = await hold(locks, ['volume:a'], 'first')
  await expect(locks.with(['volume:a'], 'second', async () => undefined, 10)).rejects.toThrow('first')
  const third = locks.with(['volume:a'], 'third', async () => 'mine', 1_000)
  await release()
  expect(await third).toBe('mine')
  expect(await locks.with(['volume:a'], 'fourth', async () => 'free', 5)).toBe('free')
})

test('the doing that is told is the present holder’s, also after a change of hands', async () => {
  const locks = new Locks()
  const releaseFirst = await hold(locks, ['volume:a'], 'first')
  const second = hold(locks, ['volume:a'], 'second')
  await releaseFirst()
  const releaseSecond = await second
  await expect(locks.with(['volume:a'], 'x', async () => undefined, 5)).rejects.toThrow(/^second;/)
  await releaseSecond()
})

test('work that throws lets go of everything', async () => {
  const locks = new Locks()
  const failing = locks.with(['volume:a', 'mount:a'], 'x', async () => Promise.reject(new Error('no')))
  await expect(failing).rejects.toThrow('no')
  expect(await locks.with(['mount:a', 'volume:a'], 'x', async () => 'free', 5)).toBe('free')
})

test('a key named twice is taken once', async () => {
  expect(await new Locks().with(['volume:a', 'volume:a'], 'x', async () => 'free', 20)).toBe('free')
})

test('no storm of calls, whatever keys they name in whatever order, ends in a deadlock', async () => {
  const key = fc.constantFrom('volume:a', 'volume:b', 'volume:c', 'mount:a', 'mount:b', 'mount:c')
  const call = fc.record({ keys: fc.array(key, { minLength: 1, maxLength: 4 }), turns: fc.integer({ min: 0, max: 3 }) })
  await fc.assert(
    fc.asyncProperty(fc.array(call, { minLength: 2, maxLength: 25 }), async (calls) => {
      const locks = new Locks()
      const holders = new Map<string, number>()
      const one = ({ keys, turns }: { keys: string[]; turns: number }): Promise<void> =>
        locks.with(keys, 'storm', async () => {
          for (const held of new Set(keys)) {
            expect(holders.get(held) ?? 0).toBe(0)
            holders.set(held, 1)
          }
          for (let turn = 0; turn < turns; turn++) await Promise.resolve()
          for (const held of new Set(keys)) holders.set(held, 0)
        })
      await Promise.all(calls.map(one))
    }),
    { numRuns: 200 },
  )
})

test('no name that a volume can have shares a lock with one in the trash', () => {
  expect(trashKey('7f3a')).not.toBe(volumeKey('7f3a'))
  expect(() => parseVolumeName(trashKey('7f3a').slice('volume:'.length))).toThrow()
})
