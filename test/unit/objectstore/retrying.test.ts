import { describe, expect, it } from 'vitest'
import { AppError, type ErrorCode } from '../../../src/errors.ts'
import { openMemoryStore } from '../../../src/objectstore/memory.ts'
import type { ObjectStore, StoredObject } from '../../../src/objectstore/objectstore.ts'
import { type RetryPolicy, retrying } from '../../../src/objectstore/retrying.ts'

const quick = { firstWaitMs: 1, longestWaitMs: 2 }

interface Failing {
  readonly store: ObjectStore
  calls: number
}

/** A memory store whose calls fail with these codes, one a call, before they begin to work. */
function failing(codes: readonly ErrorCode[], policy: RetryPolicy = {}, inner = openMemoryStore()): Failing {
  const state = { calls: 0, store: inner }
  const due = [...codes]
  const after = async <T>(call: () => Promise<T>): Promise<T> => {
    state.calls++
    const code = due.shift()
    if (code) throw new AppError(code, `planted ${code}`)
    return await call()
  }
  const faulty: ObjectStore = {
    ...inner,
    put: (...args) => after(() => inner.put(...args)),
    get: (...args) => after(() => inner.get(...args)),
    stat: (...args) => after(() => inner.stat(...args)),
    delete: (...args) => after(() => inner.delete(...args)),
  }
  state.store = retrying(faulty, { ...quick, ...policy })
  return state
}

async function keysOf(objects: AsyncIterable<StoredObject>): Promise<string[]> {
  const keys: string[] = []
  for await (const object of objects) keys.push(object.key)
  return keys
}

const data = new Uint8Array([1, 2, 3])

describe('a retrying store', () => {
  it('tries again what may help, in every call', async () => {
    const state = failing(['UNAVAILABLE', 'TIMEOUT', 'ABORTED'])
    await state.store.put('a', data)
    expect(state.calls).toBe(4)
    for (const call of ['get', 'stat', 'delete'] as const) {
      const again = failing(['UNAVAILABLE', 'UNAVAILABLE'])
      if (call === 'get') await expect(again.store.get('a')).rejects.toMatchObject({ code: 'NOT_FOUND' })
      else if (call === 'stat') expect(await again.store.stat('a')).toBeUndefined()
      else await again.store.delete(['a'])
      expect(again.calls).toBe(3)
    }
  })

  it('does not try again what only the user can mend', async () => {
    for (const code of [
      'NOT_FOUND',
      'PERMISSION_DENIED',
      'NO_SPACE',
      'CORRUPT',
      'FAILED_PRECONDITION',
      'INTERNAL',
    ] as const) {
      const state = failing([code])
      await expect(state.store.put('a', data)).rejects.toMatchObject({ code })
      expect(state.calls).toBe(1)
    }
  })

  it('gives up after its attempts, and says how many they were', async () => {
    const told: number[] = []
    const codes = new Array<ErrorCode>(9).fill('UNAVAILABLE')
    const state = failing(codes, { attempts: 3, onRetry: (_, attempt) => told.push(attempt) })
    const error = await state.store.get('a').catch((it: unknown) => it)
    expect(error).toMatchObject({ code: 'UNAVAILABLE', details: { attempts: 3 } })
    expect((error as Error).message).toBe('planted UNAVAILABLE (tried 3 times)')
    expect(state.calls).toBe(3)
    expect(told).toEqual([1, 2])
  })

  it('begins no try after its deadline', async () => {
    const codes = new Array<ErrorCode>(1000).fill('UNAVAILABLE')
    const state = failing(codes, { attempts: 1000, deadlineMs: 50, firstWaitMs: 20, longestWaitMs: 20 })
    const start = performance.now()
    await expect(state.store.get('a')).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    expect(performance.now() - start).toBeLessThan(1000)
    expect(state.calls).toBeLessThan(200)
  })

  it('wakes from its waiting when the signal aborts', async () => {
    const state = failing(['UNAVAILABLE'], { firstWaitMs: 600_000, longestWaitMs: 600_000 })
    const controller = new AbortController()
    setTimeout(() => controller.abort(new AppError('CANCELLED', 'enough')), 10)
    await expect(state.store.get('a', undefined, { signal: controller.signal })).rejects.toMatchObject({
      code: 'CANCELLED',
    })
  })

  it('takes a conditional put that got through and lost its answer for done', async () => {
    const inner = openMemoryStore()
    const losing = { ...inner, put: losesAnswerOnce(inner) }
    await retrying(losing, quick).put('lease', data, { ifAbsent: true })
    expect(await inner.get('lease')).toEqual(data)
  })

  it('does not take another writer’s object for its own', async () => {
    const inner = openMemoryStore()
    await inner.put('lease', new Uint8Array([9]))
    const state = failing(['UNAVAILABLE'], {}, inner)
    await expect(state.store.put('lease', data, { ifAbsent: true })).rejects.toMatchObject({ code: 'ALREADY_EXISTS' })
    expect(await inner.get('lease')).toEqual(new Uint8Array([9]))
  })

  it('goes on with a listing where it broke', async () => {
    const inner = openMemoryStore()
    const keys = ['a', 'b', 'c', 'd', 'e']
    for (const key of keys) await inner.put(key, data)
    const asked: (string | undefined)[] = []
    const breaking: ObjectStore = {
      ...inner,
      async *list(prefix, options) {
        asked.push(options?.after)
        let given = 0
        for await (const object of inner.list(prefix, options)) {
          if (given++ === 2) throw new AppError('UNAVAILABLE', 'planted')
          yield object
        }
      },
    }
    expect(await keysOf(retrying(breaking, { ...quick, attempts: 2 }).list(''))).toEqual(keys)
    expect(asked).toEqual([undefined, 'b', 'd'])
  })

  it('gives up a listing that makes no progress, and leaves its reader’s errors alone', async () => {
    const inner = openMemoryStore()
    await inner.put('a', data)
    let asked = 0
    const broken: ObjectStore = {
      ...inner,
      async *list() {
        asked++
        yield* [] as StoredObject[]
        throw new AppError('UNAVAILABLE', 'planted')
      },
    }
    await expect(keysOf(retrying(broken, { ...quick, attempts: 4 }).list(''))).rejects.toMatchObject({
      details: { attempts: 4 },
    })
    expect(asked).toBe(4)
    const read = async () => {
      for await (const _ of retrying(inner, quick).list('')) throw new AppError('UNAVAILABLE', 'of the reader')
    }
    await expect(read()).rejects.toThrow(/^of the reader$/)
  })
})

function losesAnswerOnce(inner: ObjectStore): ObjectStore['put'] {
  let lost = false
  return async (key, value, options) => {
    await inner.put(key, value, options)
    if (lost) return
    lost = true
    throw new AppError('UNAVAILABLE', 'the answer was lost')
  }
}
