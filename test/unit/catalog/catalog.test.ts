/** The catalog: what is written is there, also for the next life; what fails or is damaged harms only itself. */

import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Catalog } from '../../../src/catalog/catalog.ts'
import {
  beginOperation,
  type Change,
  dropAllHolds,
  dropHold,
  dropSnapshot,
  dropVolume,
  finishOperation,
  insertSchedule,
  pruneOperations,
  putHold,
  putSetting,
  putSnapshot,
  putVolume,
  resetHolds,
} from '../../../src/catalog/changes.ts'
import type { MountHold, Schedule } from '../../../src/model.ts'
import { anOperation, aSnapshot, aVolume } from '../../support/nouns.ts'

let folder: string
let file: string
let catalog: Catalog
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-catalog-'))
  file = join(folder, 'catalog.db')
  catalog = new Catalog(file)
})
afterEach(async () => {
  await catalog.close()
  rmSync(folder, { recursive: true })
})

/** Closes the catalog, lets `work` change the file, and opens it again. */
async function whileDown(work: (db: Database.Database) => void): Promise<void> {
  await catalog.close()
  const db = new Database(file)
  try {
    work(db)
  } finally {
    db.close()
    catalog = new Catalog(file)
  }
}

function aHold(volumeId: string, changes: Partial<MountHold> = {}): MountHold {
  const since = '2026-11-23T12:00:00.000Z'
  return { volumeId, snapshotId: null, mountId: 'id1', count: 1, stale: false, since, ...changes }
}

function aSchedule(volumeId: string): Schedule {
  const state = { nextRunAt: null, lastRunAt: null, lastSuccessAt: null, failures: 0, lastError: null }
  const what = { snapshot: true, target: null, trim: true, keep: null, keepSnapshots: null, jitterMs: 0, paused: false }
  return { name: 'n', volumeId, cron: '@daily', timeZone: 'UTC', ...what, createdAt: '2026-11-23T12:00:00.000Z', state }
}

describe('nouns come back as they went in', () => {
  test('volumes, live and in the trash', async () => {
    const volume = aVolume({
      size: 2 ** 52,
      options: { ä: 'ü"\'' },
      labels: { a: '' },
      onRemove: 'retain',
      origin: 'x@y',
      state: { deep: [1, { x: null }] },
    })
    await catalog.write(putVolume(volume))
    expect(catalog.volume('db')).toEqual(volume)
    expect(catalog.volumeById(volume.id)).toEqual(volume)
    expect(catalog.volumes()).toEqual([volume])
    const trashed = { ...volume, deletedAt: '2026-11-24T00:00:00.000Z', purgeAt: null }
    await catalog.write(putVolume(trashed))
    expect(catalog.volume('db')).toBeUndefined()
    expect(catalog.volumeById(volume.id)).toEqual(trashed)
    expect(catalog.trash()).toEqual([trashed])
    expect(catalog.volumesOfDriver('fake')).toEqual([trashed])
    expect(catalog.counts()).toEqual({ volumes: 0, mounted: 0, snapshots: 0, trash: 1, schedules: 0 })
  })

  test('snapshots, holds, operations and settings', async () => {
    const volume = aVolume()
    const snapshot = aSnapshot(volume, { labels: { k: 'v' }, atomic: false, size: 5, used: 6 })
    const [plain, shown] = [
      aHold(volume.id),
      aHold(volume.id, { snapshotId: snapshot.id, mountId: 'cli', count: 3, stale: true }),
    ]
    const operation = anOperation({ payload: { volume: { id: 'x' } } })
    await catalog.write(putVolume(volume), putSnapshot(snapshot), putHold(plain), putHold(shown))
    await catalog.write(beginOperation(operation), putSetting('boot-id', 'b'))
    expect(catalog.snapshot(volume.id, 's1')).toEqual(snapshot)
    expect(catalog.holds(volume.id)).toEqual([plain, shown])
    expect(catalog.runningOperations()).toEqual([operation])
    expect(catalog.setting('boot-id')).toBe('b')
    expect(catalog.counts()).toMatchObject({ mounted: 1, snapshots: 1 })
    const error = { code: 'NO_SPACE', message: 'full' }
    await catalog.write(finishOperation(operation.id, 'failed', '2026-11-23T10:00:01.000Z', error))
    expect(catalog.runningOperations()).toEqual([])
    expect(catalog.operation(operation.id)).toMatchObject({
      state: 'failed',
      finishedAt: '2026-11-23T10:00:01.000Z',
      error,
    })
    await catalog.write(...dropSnapshot(snapshot.id))
    expect(catalog.holds(volume.id)).toEqual([plain])
    await catalog.write(dropHold(plain))
    expect(catalog.allHolds()).toEqual([])
  })

  test('lists are in the order of creation, and ties in that of writing', async () => {
    const at = (name: string, createdAt: string) => putVolume(aVolume({ name, createdAt }))
    await catalog.write(
      at('c', '2026-11-23T10:00:02.000Z'),
      at('a', '2026-11-23T10:00:01.000Z'),
      at('b', '2026-11-23T10:00:01.000Z'),
    )
    expect(catalog.volumes().map(({ name }) => name)).toEqual(['a', 'b', 'c'])
  })

  test('a volume takes its snapshots and holds with it', async () => {
    const volume = aVolume()
    await catalog.write(putVolume(volume), putSnapshot(aSnapshot(volume)), putHold(aHold(volume.id)))
    await catalog.write(dropVolume(volume.id))
    expect([catalog.snapshots(volume.id), catalog.allHolds()]).toEqual([[], []])
  })

  test('a reset makes Docker’s ids stale with count 1, and leaves the CLI’s alone', async () => {
    const volume = aVolume()
    const holds = [
      aHold(volume.id, { count: 3 }),
      aHold(volume.id, { mountId: 'cli' }),
      aHold(volume.id, { mountId: 'at:/x' }),
    ]
    await catalog.write(putVolume(volume), ...holds.map(putHold))
    await catalog.write(resetHolds('cli', ['at:']))
    const found = catalog.holds(volume.id).map(({ mountId, count, stale }) => `${mountId} ${count} ${stale}`)
    expect(found.sort()).toEqual(['at:/x 1 false', 'cli 1 false', 'id1 1 true'])
    await catalog.write(dropAllHolds())
    expect(catalog.allHolds()).toEqual([])
  })

  test('of the finished operations the last ones are kept, and all that are open', async () => {
    const open = anOperation({ id: 'open' })
    await catalog.write(beginOperation(open))
    for (let number = 0; number < 6; number++) {
      const id = `done-${number}`
      await catalog.write(
        beginOperation(anOperation({ id })),
        finishOperation(id, 'done', '2026-11-23T10:00:01.000Z', null),
      )
    }
    await catalog.write(pruneOperations(2))
    expect(catalog.operations().map(({ id }) => id)).toEqual(['open', 'done-4', 'done-5'])
  })
})

describe('writes', () => {
  test('are seen by reads as soon as they are answered, and raise the generation', async () => {
    const before = catalog.generation
    await Promise.all(
      Array.from({ length: 50 }, async (_, number) => {
        const volume = aVolume({ name: `v${number}` })
        await catalog.write(putVolume(volume))
        expect(catalog.volume(`v${number}`)?.id).toBe(volume.id)
      }),
    )
    expect(catalog.generation).toBe(before + 50)
  })

  test('a transaction of several changes is whole or nothing', async () => {
    const twin = aVolume()
    await catalog.write(putVolume(twin))
    const writing = catalog.write(putVolume(aVolume({ name: 'other' })), putVolume(aVolume()))
    await expect(writing).rejects.toMatchObject({ code: 'ALREADY_EXISTS' })
    expect(catalog.volumes()).toEqual([twin])
  })

  test('one that fails in a group harms only itself', async () => {
    const bad: Change = { sql: 'INSERT INTO volumes (id) VALUES (?)', params: ['x'] }
    const results = await Promise.allSettled([
      catalog.write(putVolume(aVolume({ name: 'a' }))),
      catalog.write(putVolume(aVolume({ name: 'half' })), bad),
      catalog.write(putVolume(aVolume({ name: 'a' }))),
      catalog.write({ sql: 'NONSENSE', params: [] }),
      catalog.write(putVolume(aVolume({ name: 'b' }))),
    ])
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'rejected', 'rejected', 'fulfilled'])
    expect(catalog.volumes().map(({ name }) => name)).toEqual(['a', 'b'])
  })

  test('a name or an id that is taken is ALREADY_EXISTS', async () => {
    const volume = aVolume()
    const operation = anOperation()
    await catalog.write(putVolume(volume), putSnapshot(aSnapshot(volume)), beginOperation(operation))
    for (const change of [putVolume(aVolume()), putSnapshot(aSnapshot(volume)), beginOperation(operation)]) {
      await expect(catalog.write(change)).rejects.toMatchObject({ code: 'ALREADY_EXISTS' })
    }
  })

  test('closing waits for everything that was asked for', async () => {
    const writes = Array.from({ length: 200 }, (_, number) => catalog.write(putVolume(aVolume({ name: `v${number}` }))))
    await catalog.close()
    await Promise.all(writes)
    catalog = new Catalog(file)
    expect(catalog.volumes()).toHaveLength(200)
  })

  test('what is owed is committed before anything else, once, and at the latest on closing', async () => {
    const operation = anOperation()
    await catalog.write(beginOperation(operation))
    catalog.owe(finishOperation(operation.id, 'failed', '2026-11-23T10:00:01.000Z', null))
    await expect(catalog.write({ sql: 'NONSENSE', params: [] })).rejects.toThrow()
    expect(catalog.operation(operation.id)?.state).toBe('running')
    await catalog.write(putSetting('a', 'b'))
    expect(catalog.operation(operation.id)?.state).toBe('failed')
    await catalog.write(finishOperation(operation.id, 'done', '2026-11-23T10:00:02.000Z', null), putSetting('a', 'c'))
    expect(catalog.operation(operation.id)?.state).toBe('done')
    catalog.owe(putSetting('a', 'd'))
    await whileDown(() => undefined)
    expect(catalog.setting('a')).toBe('d')
  })

  test('after the writer is gone every write is refused and nothing hangs', async () => {
    await catalog.close()
    await expect(catalog.write(putSetting('a', 'b'))).rejects.toMatchObject({ code: 'INTERNAL' })
    catalog = new Catalog(file)
  })
})

describe('a damaged row harms only itself', () => {
  const damages = [
    ['state', '{"kind":'],
    ['state', '"text"'],
    ['state', '[]'],
    ['options', 'null'],
    ['options', '[1]'],
    ['options', '\u0000\u0001'],
    ['labels', '7'],
    ['created_at', 'yesterday'],
  ] as const

  test.each(damages)('volume: %s = %j', async (column, text) => {
    const [damaged, whole] = [aVolume({ name: 'damaged' }), aVolume({ name: 'whole' })]
    await catalog.write(putVolume(damaged), putVolume(whole))
    await whileDown((db) => db.prepare(`UPDATE volumes SET ${column} = ? WHERE id = ?`).run(text, damaged.id))
    expect(catalog.volume('whole')).toEqual(whole)
    expect(
      catalog
        .volumes()
        .map(({ name }) => name)
        .sort(),
    ).toEqual(['damaged', 'whole'])
    const found = catalog.volume('damaged')
    expect(found?.damage).toContain(column)
    expect(Object.keys(found?.options ?? { none: 1 })).toEqual([])
    expect(Number.isNaN(Date.parse(found?.createdAt ?? ''))).toBe(false)
  })

  test('snapshot', async () => {
    const volume = aVolume()
    const [damaged, whole] = [aSnapshot(volume, { name: 'a' }), aSnapshot(volume, { name: 'b' })]
    await catalog.write(putVolume(volume), putSnapshot(damaged), putSnapshot(whole))
    await whileDown((db) => db.prepare(`UPDATE snapshots SET state = 'x', labels = '' WHERE id = ?`).run(damaged.id))
    expect(catalog.snapshots(volume.id)).toEqual([
      expect.objectContaining({ name: 'a', damage: expect.stringContaining('labels, state') }),
      whole,
    ])
  })

  test('operation', async () => {
    const operation = anOperation()
    await catalog.write(beginOperation(operation))
    await whileDown((db) => db.exec(`UPDATE operations SET payload = '{'`))
    expect(catalog.runningOperations()).toEqual([{ ...operation, payload: null }])
  })
})

describe('opening', () => {
  const newest = readdirSync(new URL('../../../src/catalog/migrations/', import.meta.url)).length

  test('a schedule of a volume in the trash goes over to the live one of its name when an older catalog is opened', async () => {
    const [old, live] = [{ ...aVolume(), deletedAt: '2026-11-23T12:00:00.000Z', purgeAt: null }, aVolume()]
    await catalog.write(putVolume(old), putVolume(live), insertSchedule(aSchedule(old.id)))
    expect(catalog.schedule('n')).toEqual(aSchedule(old.id))
    await whileDown((db) => {
      db.exec(
        'DROP TRIGGER schedules_follow_new; DROP TRIGGER schedules_follow_restored; ALTER TABLE schedules DROP COLUMN trim',
      )
      db.pragma('user_version = 2')
    })
    expect(catalog.schedule('n')).toEqual({ ...aSchedule(live.id), trim: false })
  })

  test('a new file gets the newest schema; opening again changes nothing', async () => {
    await catalog.write(putSetting('a', 'b'))
    await whileDown((db) => {
      expect(db.pragma('user_version', { simple: true })).toBe(newest)
      expect(db.pragma('journal_mode', { simple: true })).toBe('wal')
    })
    expect(catalog.setting('a')).toBe('b')
    expect(catalog.integrityProblems()).toEqual([])
  })

  test('a catalog of a newer program is refused and left alone', async () => {
    await catalog.close()
    const db = new Database(file)
    db.pragma(`user_version = ${newest + 1}`)
    db.close()
    const open = () => new Catalog(file)
    expect(open).toThrow(
      expect.objectContaining({ code: 'FAILED_PRECONDITION', message: expect.stringContaining('newer') }),
    )
    const again = new Database(file)
    expect(again.pragma('user_version', { simple: true })).toBe(newest + 1)
    again.pragma(`user_version = ${newest}`)
    again.close()
    catalog = new Catalog(file)
  })

  test('a file that is no database is CORRUPT, and is not touched', () => {
    const other = join(folder, 'other.db')
    const bytes = Buffer.alloc(8192, 'not a database ')
    writeFileSync(other, bytes)
    expect(() => new Catalog(other)).toThrow(
      expect.objectContaining({ code: 'CORRUPT', message: expect.stringContaining(other) }),
    )
    expect(readFileSync(other).equals(bytes)).toBe(true)
  })

  test('a database that has lost its end is CORRUPT at the first look, never silently empty', async () => {
    await catalog.write(...Array.from({ length: 500 }, (_, number) => putVolume(aVolume({ name: `v${number}` }))))
    await catalog.close()
    const cut = join(folder, 'cut.db')
    writeFileSync(cut, readFileSync(file))
    truncateSync(cut, 16_384)
    const look = (): number => {
      const opened = new Catalog(cut)
      try {
        return opened.volumes().length
      } finally {
        void opened.close()
      }
    }
    expect(look).toThrow(expect.objectContaining({ code: 'CORRUPT' }))
    catalog = new Catalog(file)
  })
})
