/** The laws of src/objectstore/objectstore.ts as tests, run against every kind of object store. */

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { AppError } from '../../src/errors.ts'
import type { ObjectStore, StoredObject } from '../../src/objectstore/objectstore.ts'
import { probeStore } from '../../src/objectstore/probe.ts'

export interface StoreUnderTest {
  readonly store: ObjectStore
  /** Opens the same place again, as another node would. */
  reopen(): Promise<ObjectStore>
  close(): Promise<void>
}

export interface SuiteOptions {
  /** Objects for the listing that spans pages. */
  readonly many: number
  /** What the store is known to do with `ifAbsent`; default: keep it. */
  readonly ifAbsent?: 'kept' | 'ignored'
}

const mebibyte = 2 ** 20

function bytes(size: number, seed = 1): Uint8Array {
  const data = new Uint8Array(size)
  let state = seed
  for (let index = 0; index < size; index++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0
    data[index] = state >>> 16
  }
  return data
}

const text = (value: string) => new TextEncoder().encode(value)

async function collect(objects: AsyncIterable<StoredObject>): Promise<StoredObject[]> {
  const all: StoredObject[] = []
  for await (const object of objects) all.push(object)
  return all
}

async function listed(objects: AsyncIterable<StoredObject>): Promise<string[]> {
  return (await collect(objects)).map((it) => it.key)
}

function same(left: Uint8Array, right: Uint8Array): void {
  // Not toEqual: it takes seconds for a megabyte.
  expect(left.length).toBe(right.length)
  expect(Buffer.compare(left, right)).toBe(0)
}

/** Each test has a prefix of its own below the store; nothing is cleaned up between them. */
export function objectStoreSuite(title: string, open: () => Promise<StoreUnderTest>, options: SuiteOptions): void {
  describe(title, () => {
    let place: StoreUnderTest
    let store: ObjectStore

    beforeAll(async () => {
      place = await open()
      store = place.store
    })

    afterAll(async () => {
      await place?.close()
    })

    it('gives back what was put, of any size', async () => {
      for (const size of [1, 1000, 65_537, mebibyte, 16 * mebibyte + 3]) {
        const data = bytes(size, size)
        await store.put(`size/${size}`, data)
        same(await store.get(`size/${size}`), data)
        expect(await store.stat(`size/${size}`)).toMatchObject({ key: `size/${size}`, size })
      }
    })

    it('keeps empty objects', async () => {
      await store.put('empty/object', new Uint8Array())
      expect((await store.get('empty/object')).length).toBe(0)
      expect(await store.stat('empty/object')).toMatchObject({ size: 0 })
    })

    it('reads ranges to the byte', async () => {
      const data = bytes(3 * mebibyte)
      await store.put('range/object', data)
      const edges = [0, 1, mebibyte - 1, mebibyte, 2 * mebibyte + 7, data.length - 1, data.length]
      for (const start of edges) {
        for (const end of edges.filter((it) => it > start)) {
          same(await store.get('range/object', { start, end }), data.subarray(start, end))
        }
      }
    })

    it('calls an object that ends before the range corrupt, not short', async () => {
      await store.put('range/short', bytes(100))
      for (const range of [
        { start: 50, end: 101 },
        { start: 100, end: 101 },
        { start: 5000, end: 6000 },
      ]) {
        await expect(store.get('range/short', range)).rejects.toMatchObject({ code: 'CORRUPT' })
      }
      await store.put('range/none', new Uint8Array())
      await expect(store.get('range/none', { start: 0, end: 1 })).rejects.toMatchObject({ code: 'CORRUPT' })
    })

    it('refuses ranges that are none', async () => {
      for (const range of [
        { start: 1, end: 1 },
        { start: 2, end: 1 },
        { start: -1, end: 1 },
        { start: 0.5, end: 1 },
      ]) {
        await expect(store.get('range/object', range)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
      }
    })

    it('says what is not there', async () => {
      await expect(store.get('absent/object')).rejects.toMatchObject({ code: 'NOT_FOUND' })
      await expect(store.get('absent/object', { start: 0, end: 9 })).rejects.toMatchObject({ code: 'NOT_FOUND' })
      expect(await store.stat('absent/object')).toBeUndefined()
      expect(await listed(store.list('absent/'))).toEqual([])
    })

    it('replaces an object whole', async () => {
      await store.put('replaced/object', bytes(5000, 1))
      await store.put('replaced/object', bytes(10, 2))
      same(await store.get('replaced/object'), bytes(10, 2))
      expect(await store.stat('replaced/object')).toMatchObject({ size: 10 })
    })

    it('stores a view of a larger buffer, and gives bytes that are the caller’s own', async () => {
      const large = bytes(10_000)
      await store.put('view/object', large.subarray(3000, 4000))
      for (const range of [undefined, { start: 100, end: 200 }]) {
        const got = await store.get('view/object', range)
        same(got, large.subarray(3000 + (range?.start ?? 0), range ? 3000 + range.end : 4000))
        expect(got.buffer.byteLength).toBe(got.length)
        got.fill(0)
      }
      same(await store.get('view/object'), large.subarray(3000, 4000))
    })

    it('refuses keys that could leave its place, in every call', async () => {
      const bad = [
        '',
        '/',
        '/a',
        'a/',
        'a//b',
        '.',
        '..',
        '../a',
        'a/../b',
        'a/.',
        '.tmp/a',
        'a\\b',
        'ä',
        'a b',
        'a\0',
        'a\n',
      ]
      for (const key of [...bad, 'x'.repeat(129), `${'x/'.repeat(256)}x`]) {
        const refused = { code: 'INVALID_ARGUMENT' }
        await expect(store.put(key, bytes(1))).rejects.toMatchObject(refused)
        await expect(store.get(key)).rejects.toMatchObject(refused)
        await expect(store.stat(key)).rejects.toMatchObject(refused)
        await expect(store.delete(['ok', key])).rejects.toMatchObject(refused)
      }
      for (const prefix of ['/', '../', 'a//', '.tmp/']) {
        await expect(listed(store.list(prefix))).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
      }
    })

    it('takes every character that a key may have, and the longest ones', async () => {
      const keys = ['chars/AZaz09', 'chars/_-.x', 'chars/-', `chars/${'n'.repeat(128)}`, `chars/${'d/'.repeat(252)}x`]
      for (const key of keys) await store.put(key, text(key))
      for (const key of keys) same(await store.get(key), text(key))
      expect(await listed(store.list('chars/'))).toEqual([...keys].sort())
    })

    it('lists by prefix, in the order of bytes, from behind a key', async () => {
      const keys = [
        'list/a',
        'list/a-b',
        'list/a.b',
        'list/a0',
        'list/B',
        'list/ab/c',
        'list/ab/d/e',
        'list/b/1',
        'lis-t',
      ]
      for (const key of keys) await store.put(key, text(key))
      const sorted = keys.filter((it) => it.startsWith('list/')).sort()
      expect(await listed(store.list('list/'))).toEqual(sorted)
      for (const prefix of ['list/a', 'list/ab', 'list/ab/', 'list/ab/d', 'list/B', 'list/zzz', 'list']) {
        expect(await listed(store.list(prefix))).toEqual(sorted.filter((it) => it.startsWith(prefix)))
      }
      for (const after of [...sorted, 'list/ab/', 'list/ab/cc', 'list/aa', 'a', 'z', 'list/ab/d']) {
        expect(await listed(store.list('list/', { after }))).toEqual(sorted.filter((it) => it > after))
      }
      const all = await collect(store.list('list/'))
      expect(all.every((it) => it.size === it.key.length)).toBe(true)
    })

    it('lists and deletes more than fit on a page', async () => {
      const keys = Array.from(
        { length: options.many },
        (_, index) => `many/${index % 7}/${String(index).padStart(6, '0')}`,
      )
      for (let start = 0; start < keys.length; start += 50) {
        await Promise.all(keys.slice(start, start + 50).map((key) => store.put(key, text(key))))
      }
      expect(await listed(store.list('many/'))).toEqual([...keys].sort())
      await store.delete([...keys, 'many/never-was'])
      expect(await listed(store.list('many/'))).toEqual([])
    })

    it('deletes, and counts what is gone as deleted', async () => {
      await store.put('deleted/one', bytes(1))
      await store.put('deleted/two', bytes(1))
      await store.put('deleted/kept', bytes(1))
      await store.delete([])
      await store.delete(['deleted/one', 'deleted/two', 'deleted/never/was'])
      await store.delete(['deleted/one'])
      expect(await store.stat('deleted/one')).toBeUndefined()
      expect(await listed(store.list('deleted/'))).toEqual(['deleted/kept'])
    })

    if ((options.ifAbsent ?? 'kept') === 'kept') conditionCases(() => store)

    it('is whole at every moment while it is written again and again', async () => {
      const versions = [1, 2, 3].map((seed) => bytes(300_000, seed))
      await store.put('whole/object', versions[0] as Uint8Array)
      let writing = true
      const write = async () => {
        for (let round = 0; round < 12; round++) await store.put('whole/object', versions[round % 3] as Uint8Array)
        writing = false
      }
      const read = async () => {
        let reads = 0
        for (; writing || reads === 0; reads++) {
          const got = await store.get('whole/object')
          expect(versions.some((it) => Buffer.compare(it, got) === 0)).toBe(true)
        }
        return reads
      }
      const [reads] = await Promise.all([read(), write()])
      expect(reads).toBeGreaterThan(0)
    })

    it('leaves with the reason of its signal', async () => {
      const reason = new AppError('CANCELLED', 'cancelled by the test')
      const signal = AbortSignal.abort(reason)
      await store.put('aborted/there', bytes(1))
      await expect(store.put('aborted/new', bytes(1), { signal })).rejects.toBe(reason)
      await expect(store.get('aborted/there', undefined, { signal })).rejects.toBe(reason)
      await expect(store.stat('aborted/there', { signal })).rejects.toBe(reason)
      await expect(store.delete(['aborted/there'], { signal })).rejects.toBe(reason)
      await expect(listed(store.list('aborted/', { signal }))).rejects.toBe(reason)
      expect(await listed(store.list('aborted/'))).toEqual(['aborted/there'])
    })

    it('tells a time of its own that is about now', async () => {
      await store.put('time/object', bytes(1))
      const age = Date.now() - ((await store.stat('time/object'))?.modifiedAt.getTime() ?? 0)
      expect(Math.abs(age)).toBeLessThan(5 * 60_000)
    })

    it('is found as it is when it is probed', async () => {
      expect(await probeStore(store, 'probe')).toEqual({ ifAbsent: options.ifAbsent ?? 'kept', listing: 'at once' })
      expect(await listed(store.list('probe/'))).toEqual([])
    })

    it('shows another opener what was put', async () => {
      await store.put('other/object', bytes(77))
      const other = await place.reopen()
      try {
        same(await other.get('other/object'), bytes(77))
        expect(await listed(other.list('other/'))).toEqual(['other/object'])
        await other.delete(['other/object'])
        expect(await store.stat('other/object')).toBeUndefined()
      } finally {
        await other.close()
        await other.close()
      }
    })
  })
}

/** For stores that keep `ifAbsent`. */
function conditionCases(store: () => ObjectStore): void {
  it('keeps the first of two puts with ifAbsent', async () => {
    await store().put('absent/first', text('first'), { ifAbsent: true })
    await expect(store().put('absent/first', text('other'), { ifAbsent: true })).rejects.toMatchObject({
      code: 'ALREADY_EXISTS',
    })
    same(await store().get('absent/first'), text('first'))
    expect(store().facts.ifAbsent).not.toBe('ignored')
  })

  it('lets one of many racers with ifAbsent win', async () => {
    for (let round = 0; round < 5; round++) {
      const key = `race/${round}`
      const put = async (racer: number) => {
        await store().put(key, text(`racer ${racer}`), { ifAbsent: true })
        return racer
      }
      const ends = await Promise.allSettled([0, 1, 2, 3, 4, 5, 6, 7].map(put))
      const won = ends.flatMap((it) => (it.status === 'fulfilled' ? [it.value] : []))
      expect(won).toHaveLength(1)
      same(await store().get(key), text(`racer ${won[0]}`))
    }
  })
}
