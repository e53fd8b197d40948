import { setTimeout as later } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { limited } from '../../../src/objectstore/limited.ts'
import { openMemoryStore } from '../../../src/objectstore/memory.ts'

const tenth = 100_000

async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now()
  await work()
  return performance.now() - start
}

describe('a limited store', () => {
  it('keeps the rate up, whoever uploads', async () => {
    const store = limited(openMemoryStore(), { upload: 10 * tenth, parallel: 4 })
    const data = new Uint8Array(tenth)
    const ms = await timed(() => Promise.all(['a', 'b', 'c', 'd'].map((key) => store.put(key, data))))
    expect(ms).toBeGreaterThan(280)
    expect(ms).toBeLessThan(900)
  })

  it('keeps the rate down, for ranges and whole objects, and leaves the other way alone', async () => {
    const store = limited(openMemoryStore(), { download: 10 * tenth, parallel: 4 })
    const put = await timed(() => store.put('a', new Uint8Array(5 * tenth)))
    expect(put).toBeLessThan(100)
    const ranges = await timed(async () => {
      for (let part = 0; part < 3; part++) await store.get('a', { start: part * tenth, end: (part + 1) * tenth })
    })
    expect(ranges).toBeGreaterThan(180)
    const whole = await timed(async () => {
      await store.get('a')
      await store.get('a', { start: 0, end: 1 })
    })
    expect(whole).toBeGreaterThan(500)
  })

  it('has no more transfers at a time than it may, and loses no place to a failure', async () => {
    const inner = openMemoryStore()
    let running = 0
    let most = 0
    const slow = async () => {
      most = Math.max(most, ++running)
      await later(5)
      running--
      throw new Error('planted')
    }
    const store = limited({ ...inner, put: slow }, { parallel: 3 })
    const keys = ['a', 'b', 'c', 'd', 'e', 'f', 'g']
    const ends = await Promise.allSettled(keys.map((key) => store.put(key, new Uint8Array(1))))
    expect(ends.every((it) => it.status === 'rejected')).toBe(true)
    expect(most).toBe(3)
  })

  it('leaves its waiting when the signal aborts', async () => {
    const store = limited(openMemoryStore(), { upload: 1, parallel: 1 })
    await store.put('a', new Uint8Array(1000))
    const signal = AbortSignal.timeout(20)
    await expect(store.put('b', new Uint8Array(1), { signal })).rejects.toMatchObject({ name: 'TimeoutError' })
    expect(await store.stat('b')).toBeUndefined()
  })
})
