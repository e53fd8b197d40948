import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { setImmediate } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { AppError } from '../../../src/errors.ts'
import { jsonArrayStream } from '../../../src/server/json-stream.ts'

describe('a JSON array that is sent while it is made', () => {
  it.each([
    [[], '[]\n'],
    [[[]], '[]\n'],
    [[[1]], '[\n1\n]\n'],
    [[[1, 2], [], [{ a: 'line\nline' }]], '[\n1,\n2,\n{"a":"line\\nline"}\n]\n'],
  ])('%j', async (pages: unknown[][], expected) => {
    const stream = await jsonArrayStream<unknown>(async (take) => {
      for (const page of pages) await take(page)
    })
    expect(await text(stream)).toBe(expected)
    expect(JSON.parse(expected)).toEqual(pages.flat())
  })

  it('fails as a whole when there was no item yet', async () => {
    const failing = jsonArrayStream(async () => {
      throw new AppError('NOT_FOUND', 'no such backup')
    })
    await expect(failing).rejects.toMatchObject({ code: 'NOT_FOUND' })
  })

  it('ends with the error when one comes later, and is no JSON then', async () => {
    const stream = await jsonArrayStream<number>(async (take) => {
      await take([1])
      throw new AppError('CORRUPT', 'a chunk is damaged')
    })
    const sent = await text(stream)
    expect(sent).toBe('[\n1\n{"error":{"code":"CORRUPT","message":"a chunk is damaged","details":{}}}\n')
    expect(() => JSON.parse(sent)).toThrow()
  })

  it('waits for a slow reader', async () => {
    let taken = 0
    const stream = await jsonArrayStream<string>(async (take) => {
      for (; taken < 100; taken++) await take(['x'.repeat(10_000)])
    })
    await setImmediate()
    expect(taken).toBeLessThan(20)
    expect(JSON.parse(await text(stream))).toHaveLength(100)
  })

  it('stops when the reader leaves', async () => {
    const ended = Promise.withResolvers<unknown>()
    const stream = await jsonArrayStream<string>(async (take, signal) => {
      signal.addEventListener('abort', () => ended.resolve(signal.reason))
      for (;;) await take(['x'.repeat(10_000)])
    })
    stream.destroy()
    await once(stream, 'close')
    expect(await ended.promise).toMatchObject({ name: 'AbortError' })
  })
})
