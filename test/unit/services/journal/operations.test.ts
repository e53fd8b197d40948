/** The journal: what is written down when, and what becomes of work that fails, is cancelled or cannot be undone. */

import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test, vi } from 'vitest'
import { beginOperation, finishOperation, putSetting } from '../../../../src/catalog/changes.ts'
import { AppError } from '../../../../src/errors.ts'
import type { Work } from '../../../../src/services/journal/operations.ts'
import { openCore } from '../../../support/core.ts'
import { anOperation } from '../../../support/nouns.ts'

const work: Work = { kind: 'volume.create', subject: 'db', payload: { x: 1 }, id: 'operation-1' }

/** A promise that a test settles. */
function pending() {
  return Promise.withResolvers<void>()
}

test('phases come in order; each change is committed with the closing entry', async () => {
  await using t = await openCore()
  const { operations, catalog } = t.core
  const result = await operations.run(work, async () => {
    expect(t.phases).toEqual(['volume.create journalled'])
    expect(catalog.operation('operation-1')).toMatchObject({ state: 'running', payload: { x: 1 } })
    return { result: 7, changes: [putSetting('made', 'yes')] }
  })
  expect(result).toBe(7)
  expect(t.phases).toEqual(['volume.create journalled', 'volume.create driven', 'volume.create committed'])
  expect(catalog.setting('made')).toBe('yes')
  expect(operations.inspect('operation-1')).toMatchObject({ state: 'done', error: null })
})

test('an id may be cut short, and what a result says is wrong is in the journal', async () => {
  await using t = await openCore()
  const { operations } = t.core
  const ids = ['0123abcd-0000-4000-8000-000000000001', '0123abcd-0000-4000-8000-000000000002']
  const verdict = new AppError('CORRUPT', 'damaged')
  const [first, second] = ids.map((id) =>
    operations.run({ ...work, id }, async () => ({ result: 'all of it', changes: [], verdict })),
  )
  expect([await first, await second]).toEqual(['all of it', 'all of it'])
  expect(operations.inspect(ids[1] as string)).toMatchObject({ state: 'failed', error: { code: 'CORRUPT' } })
  expect(() => operations.inspect('0123ABCD')).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
  expect(() => operations.inspect('0123abc')).toThrow(expect.objectContaining({ code: 'NOT_FOUND' }))
  const running = operations.run({ ...work, id: 'fedcba98-1' }, ({ signal }) => until(signal))
  expect(operations.cancel('fedcba98').id).toBe('fedcba98-1')
  await expect(running).rejects.toMatchObject({ code: 'CANCELLED' })
})

/** Ends when it is cancelled. */
function until(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason)
    signal.addEventListener('abort', () => reject(signal.reason))
  })
}

test('failed work is undone, and remembered with its error', async () => {
  await using t = await openCore()
  const undo = vi.fn(async () => undefined)
  const failing = t.core.operations.run(work, () => Promise.reject(new AppError('NO_SPACE', 'full')), undo)
  await expect(failing).rejects.toMatchObject({ code: 'NO_SPACE' })
  expect(undo).toHaveBeenCalledOnce()
  expect(t.core.operations.inspect('operation-1')).toMatchObject({
    state: 'failed',
    error: { code: 'NO_SPACE', message: 'full' },
  })
})

test('a commit that fails is undone as well', async () => {
  await using t = await openCore()
  const undo = vi.fn(async () => undefined)
  const bad = { sql: 'NONSENSE', params: [] }
  await expect(t.core.operations.run(work, async () => ({ result: 1, changes: [bad] }), undo)).rejects.toThrow()
  expect(undo).toHaveBeenCalledOnce()
  expect(t.core.operations.inspect('operation-1').state).toBe('failed')
})

test('what cannot be undone stays open, for the next start', async () => {
  await using t = await openCore()
  const undo = () => Promise.reject(new Error('the disk is on fire'))
  const failing = t.core.operations.run(work, () => Promise.reject(new AppError('NO_SPACE', 'full')), undo)
  await expect(failing).rejects.toMatchObject({ code: 'NO_SPACE' })
  expect(t.core.catalog.runningOperations()).toHaveLength(1)
  expect(t.logged.join()).toContain('the disk is on fire')
})

test('an undone entry that cannot be closed is closed with the next change, so that no later start redoes it', async () => {
  await using t = await openCore()
  const { catalog, operations } = t.core
  const write = vi.spyOn(catalog, 'write')
  const full = new AppError('NO_SPACE', 'the catalog could not be written')
  const failing = operations.run(
    work,
    async () => {
      write.mockRejectedValueOnce(full).mockRejectedValueOnce(full)
      return { result: 1, changes: [] }
    },
    async () => undefined,
  )
  await expect(failing).rejects.toBe(full)
  expect(catalog.runningOperations()).toHaveLength(1)
  await catalog.write(putSetting('room', 'again'))
  expect(operations.inspect('operation-1')).toMatchObject({ state: 'failed', error: { code: 'NO_SPACE' } })
})

test('when the journal cannot be written, nothing is begun', async () => {
  await using t = await openCore()
  vi.spyOn(t.core.catalog, 'write').mockRejectedValueOnce(new AppError('NO_SPACE', 'full'))
  const body = vi.fn()
  await expect(t.core.operations.run(work, body)).rejects.toMatchObject({ code: 'NO_SPACE' })
  expect(body).not.toHaveBeenCalled()
  expect(t.core.operations.list()).toEqual([])
})

describe('cancelling', () => {
  test('aborts the signal; the work is undone, and the caller is told', async () => {
    await using t = await openCore()
    const { operations } = t.core
    const undo = vi.fn(async () => undefined)
    const begun = pending()
    const running = operations.run(
      work,
      async ({ signal, progress }) => {
        progress(5, 10, 'files')
        begun.resolve()
        await sleep(60_000, undefined, { signal })
        return { result: 1, changes: [] }
      },
      undo,
    )
    await begun.promise
    expect(operations.list()).toEqual([
      expect.objectContaining({
        id: 'operation-1',
        progress: expect.objectContaining({ done: 5, total: 10, unit: 'files' }),
      }),
    ])
    expect(operations.cancel('operation-1').state).toBe('running')
    await expect(running).rejects.toMatchObject({ code: 'CANCELLED' })
    expect(undo).toHaveBeenCalledOnce()
    expect(operations.inspect('operation-1')).toMatchObject({ state: 'cancelled', progress: null })
  })

  test('what has ended, is being recovered, or is unknown, cannot be cancelled', async () => {
    await using t = await openCore()
    const { operations, catalog } = t.core
    await operations.run(work, async () => ({ result: 1, changes: [] }))
    expect(() => operations.cancel('operation-1')).toThrow(
      expect.objectContaining({ code: 'FAILED_PRECONDITION', message: expect.stringContaining('done') }),
    )
    await catalog.write(beginOperation(anOperation({ id: 'earlier-1' })))
    expect(() => operations.cancel('earlier-1')).toThrow(/crash.*cannot be cancelled/)
    expect(() => operations.cancel('nobody')).toThrow(expect.objectContaining({ code: 'NOT_FOUND' }))
  })

  test('a stop cancels everything and waits until it has been undone', async () => {
    await using t = await openCore()
    let undone = false
    const running = t.core.operations.run(
      work,
      async ({ signal }) => {
        await sleep(60_000, undefined, { signal })
        return { result: 1, changes: [] }
      },
      async () => {
        await sleep(50)
        undone = true
      },
    )
    running.catch(() => undefined)
    await t.core.operations.stop(5_000)
    expect(undone).toBe(true)
    await expect(running).rejects.toMatchObject({ code: 'CANCELLED', message: 'the daemon is stopping' })
    await expect(t.core.operations.run({ ...work, id: 'operation-2' }, vi.fn())).rejects.toMatchObject({
      code: 'UNAVAILABLE',
    })
  })
})

describe('the id of the caller', () => {
  test('is refused when it is in use', async () => {
    await using t = await openCore()
    const begun = pending()
    const first = t.core.operations.run(work, async () => {
      await begun.promise
      return { result: 1, changes: [] }
    })
    while (t.core.operations.list().length === 0) await sleep(1)
    await expect(t.core.operations.run(work, vi.fn())).rejects.toMatchObject({ code: 'ALREADY_EXISTS' })
    begun.resolve()
    expect(await first).toBe(1)
  })

  test.each(['', 'short', 'a/b/c/d/e', 'x'.repeat(65), 'id with blank'])('%j is refused', async (id) => {
    await using t = await openCore()
    await expect(t.core.operations.run({ ...work, id }, vi.fn())).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  })
})

test('running ones are listed; with all, the finished ones that are remembered too', async () => {
  await using t = await openCore()
  const { operations, catalog } = t.core
  await operations.run(work, async () => ({ result: 1, changes: [] }))
  await catalog.write(beginOperation(anOperation({ id: 'earlier-1' })))
  expect(operations.list().map(({ id }) => id)).toEqual(['earlier-1'])
  expect(operations.list(true).map(({ id }) => id)).toEqual(['operation-1', 'earlier-1'])
})

test('old finished operations are forgotten as new ones end', async () => {
  await using t = await openCore()
  const { operations, catalog } = t.core
  const old = Array.from({ length: 1_100 }, (_, number) => anOperation({ id: `old-${number}` }))
  await catalog.write(...old.flatMap((it) => [beginOperation(it), finishOperation(it.id, 'done', it.startedAt, null)]))
  for (let number = 0; number < 250; number++) {
    await operations.run({ ...work, id: `operation-${number}` }, async () => ({ result: 1, changes: [] }))
  }
  await catalog.write(putSetting('a', 'b'))
  expect(operations.list(true)).toHaveLength(1_000)
  expect(operations.inspect('operation-249').state).toBe('done')
})
