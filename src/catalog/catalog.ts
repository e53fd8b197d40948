/**
 * The node's catalog, SQLite in WAL mode: reads are synchronous on this thread and see what is committed; writes are
 * transactions in the writer's thread. It knows nouns and rows, no rules: those are the services'.
 */

import { once } from 'node:events'
import { statfsSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import Database from 'better-sqlite3'
import { AppError, type ErrorCode } from '../errors.ts'
import type { LastBackup, MountHold, Operation, Schedule, Snapshot, Target, TrashedVolume, Volume } from '../model.ts'
import { formatSize } from '../units.ts'
import type { Change } from './changes.ts'
import { migrate } from './migrate.ts'
import * as rows from './rows.ts'
import type { WriteReply, WriteRequest } from './writer.ts'

interface Waiting {
  resolve(): void
  reject(error: unknown): void
}

/** SQLite's result codes that a user can act on. */
function sqliteError(what: 'read' | 'written', error: { code: string; message: string }): AppError {
  const code: ErrorCode = /^SQLITE_CONSTRAINT_(UNIQUE|PRIMARYKEY)/.test(error.code)
    ? 'ALREADY_EXISTS'
    : error.code === 'SQLITE_FULL'
      ? 'NO_SPACE'
      : /^SQLITE_(CORRUPT|NOTADB)/.test(error.code)
        ? 'CORRUPT'
        : 'INTERNAL'
  return new AppError(code, `the catalog could not be ${what}: ${error.message}`, { details: { sqlite: error.code } })
}

/** Below this nothing new is begun. */
const leastRoom = 2 * 2 ** 20

export class Catalog {
  readonly #db: Database.Database
  readonly #worker: Worker
  readonly #waiting = new Map<number, Waiting>()
  readonly #statements = new Map<string, Database.Statement>()
  #owed: readonly Change[] = []
  #nextId = 1
  #generation = 0
  /** Why nothing can be written any more. */
  #ended: AppError | undefined

  /**
   * Opens the catalog, makes it when it is not there, and migrates it.
   * @throws CORRUPT when the file is not a catalog, FAILED_PRECONDITION when it is a newer program's
   */
  constructor(file: string) {
    this.#db = openDatabase(file)
    this.#worker = new Worker(
      new URL(import.meta.url.endsWith('.ts') ? './writer.ts' : './writer.js', import.meta.url),
      {
        workerData: { file },
        resourceLimits: { maxYoungGenerationSizeMb: 2 },
      },
    )
    this.#worker.on('message', (reply: WriteReply) => this.#settle(reply))
    this.#worker.on('error', (error) => this.#end(error))
    this.#worker.on('exit', () => this.#end(new Error('it has ended')))
    this.#worker.unref()
  }

  /** Rises with every committed write. */
  get generation(): number {
    return this.#generation
  }

  /** Commits all changes as one durable transaction, or none. @throws ALREADY_EXISTS, NO_SPACE, CORRUPT */
  async write(...changes: readonly Change[]): Promise<void> {
    const owed = this.#owed
    await this.#send([...owed, ...changes])
    this.#owed = this.#owed.filter((change) => !owed.includes(change))
  }

  /**
   * For work that makes the catalog grow. @throws NO_SPACE when its disk is so full that the rest is left to what makes room
   */
  requireRoom(): void {
    const { bfree, bsize } = statfsSync(this.#db.name)
    if (bfree * bsize >= leastRoom) return
    throw new AppError(
      'NO_SPACE',
      `the catalog ${this.#db.name} is on a full disk, which has ${formatSize(bfree * bsize)} left; make room there, ` +
        'such as with: holdfast volume rm --purge',
    )
  }

  /** Commits `change`, which is to be harmless when done twice, together with the next write that succeeds, whatever that is. */
  owe(change: Change): void {
    this.#owed = [...this.#owed, change]
  }

  volume(name: string): Volume | undefined {
    return this.#one(`SELECT * FROM volumes WHERE name = ? AND deleted_at IS NULL`, [name], rows.volume)
  }

  /** Live or in the trash. */
  volumeById(id: string): Volume | TrashedVolume | undefined {
    return this.#one('SELECT * FROM volumes WHERE id = ?', [id], rows.anyVolume)
  }

  /** Live ones, oldest first. */
  volumes(): Volume[] {
    return this.#all('SELECT * FROM volumes WHERE deleted_at IS NULL ORDER BY created_at, rowid', [], rows.volume)
  }

  trash(): TrashedVolume[] {
    return this.#all('SELECT * FROM volumes WHERE deleted_at IS NOT NULL ORDER BY deleted_at, rowid', [], rows.trashed)
  }

  /** All volumes of a driver, the trash included. */
  volumesOfDriver(driver: string): Volume[] {
    return this.#all('SELECT * FROM volumes WHERE driver = ?', [driver], rows.anyVolume)
  }

  snapshot(volumeId: string, name: string): Snapshot | undefined {
    return this.#one('SELECT * FROM snapshots WHERE volume_id = ? AND name = ?', [volumeId, name], rows.snapshot)
  }

  snapshots(volumeId: string): Snapshot[] {
    return this.#all(
      'SELECT * FROM snapshots WHERE volume_id = ? ORDER BY created_at, rowid',
      [volumeId],
      rows.snapshot,
    )
  }

  /** Those of all live volumes. */
  allSnapshots(): Snapshot[] {
    return this.#all(
      `SELECT s.* FROM snapshots s JOIN volumes v ON v.id = s.volume_id AND v.deleted_at IS NULL
        ORDER BY s.created_at, s.rowid`,
      [],
      rows.snapshot,
    )
  }

  /** Those of volumes in the trash too. */
  snapshotsOfAll(): Snapshot[] {
    return this.#all('SELECT * FROM snapshots ORDER BY created_at, rowid', [], rows.snapshot)
  }

  /** Holds on a volume and on its snapshots. */
  holds(volumeId: string): MountHold[] {
    return this.#all('SELECT * FROM holds WHERE volume_id = ? ORDER BY since', [volumeId], rows.hold)
  }

  allHolds(): MountHold[] {
    return this.#all('SELECT * FROM holds ORDER BY since', [], rows.hold)
  }

  target(name: string): Target | undefined {
    return this.#one('SELECT * FROM targets WHERE name = ?', [name], rows.target)
  }

  targets(): Target[] {
    return this.#all('SELECT * FROM targets ORDER BY created_at, rowid', [], rows.target)
  }

  /** In all repositories, oldest first. */
  lastBackups(volumeId: string): LastBackup[] {
    return this.#all('SELECT * FROM last_backups WHERE volume_id = ? ORDER BY created_at', [volumeId], rows.lastBackup)
  }

  allLastBackups(): LastBackup[] {
    return this.#all('SELECT * FROM last_backups ORDER BY created_at', [], rows.lastBackup)
  }

  schedule(name: string): Schedule | undefined {
    return this.#one('SELECT * FROM schedules WHERE name = ?', [name], rows.schedule)
  }

  /** Those of volumes in the trash too. */
  schedules(): Schedule[] {
    return this.#all('SELECT * FROM schedules ORDER BY created_at, rowid', [], rows.schedule)
  }

  operation(id: string): Operation | undefined {
    return this.#one('SELECT * FROM operations WHERE id = ?', [id], rows.operation)
  }

  operations(): Operation[] {
    return this.#all('SELECT * FROM operations ORDER BY rowid', [], rows.operation)
  }

  runningOperations(): Operation[] {
    return this.#all(`SELECT * FROM operations WHERE state = 'running' ORDER BY rowid`, [], rows.operation)
  }

  setting(key: string): string | undefined {
    return this.#one('SELECT value FROM settings WHERE key = ?', [key], (row) => String(row['value']))
  }

  counts(): { volumes: number; mounted: number; snapshots: number; trash: number; schedules: number } {
    const counts = this.#one(
      `SELECT (SELECT count(*) FROM volumes WHERE deleted_at IS NULL) AS volumes,
        (SELECT count(DISTINCT volume_id) FROM holds WHERE snapshot_id = '') AS mounted,
        (SELECT count(*) FROM snapshots) AS snapshots,
        (SELECT count(*) FROM volumes WHERE deleted_at IS NOT NULL) AS trash,
        (SELECT count(*) FROM schedules) AS schedules`,
      [],
      (row) => row as { volumes: number; mounted: number; snapshots: number; trash: number; schedules: number },
    )
    return counts ?? { volumes: 0, mounted: 0, snapshots: 0, trash: 0, schedules: 0 }
  }

  /** SQLite's own look at the whole file; slow. @returns what is wrong, empty when nothing is */
  integrityProblems(): string[] {
    const answers = this.#db.pragma('quick_check(10)') as { quick_check: string }[]
    return answers.map((answer) => answer.quick_check).filter((text) => text !== 'ok')
  }

  /** Ends after every write that was asked for has been committed. */
  async close(): Promise<void> {
    if (this.#owed.length > 0) await Promise.allSettled([this.write()])
    if (!this.#ended) {
      this.#worker.ref()
      this.#worker.postMessage('close')
      await once(this.#worker, 'exit')
    }
    this.#db.close()
  }

  #send(changes: readonly Change[]): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#ended) return reject(this.#ended)
      const id = this.#nextId++
      this.#waiting.set(id, { resolve, reject })
      this.#worker.ref()
      this.#worker.postMessage({ id, changes } satisfies WriteRequest)
    })
  }

  #prepared(sql: string): Database.Statement {
    let statement = this.#statements.get(sql)
    if (!statement) {
      statement = this.#db.prepare(sql)
      this.#statements.set(sql, statement)
    }
    return statement
  }

  #one<T>(sql: string, params: readonly string[], read: (row: rows.Row) => T): T | undefined {
    const [first] = this.#rows(sql, params)
    return first && read(first)
  }

  #all<T>(sql: string, params: readonly string[], read: (row: rows.Row) => T): T[] {
    return this.#rows(sql, params).map(read)
  }

  #rows(sql: string, params: readonly string[]): rows.Row[] {
    try {
      return this.#prepared(sql).all(...params) as rows.Row[]
    } catch (error) {
      throw sqliteError('read', error as { code: string; message: string })
    }
  }

  #settle(reply: WriteReply | 'closed'): void {
    if (reply === 'closed') return
    const waiting = this.#waiting.get(reply.id)
    this.#waiting.delete(reply.id)
    if (this.#waiting.size === 0) this.#worker.unref()
    if (reply.error) waiting?.reject(sqliteError('written', reply.error))
    else {
      this.#generation++
      waiting?.resolve()
    }
  }

  /** The writer is gone: who waits for it, and who comes later, is told so. */
  #end(cause: Error): void {
    this.#ended ??= new AppError('INTERNAL', `the catalog's writer failed: ${cause.message}; restart the daemon`, {
      cause,
    })
    for (const { reject } of this.#waiting.values()) reject(this.#ended)
    this.#waiting.clear()
  }
}

function openDatabase(file: string): Database.Database {
  try {
    const db = new Database(file)
    db.pragma('journal_mode = WAL')
    db.pragma('synchronous = FULL')
    db.pragma('foreign_keys = ON')
    migrate(db)
    db.pragma('query_only = ON')
    return db
  } catch (error) {
    throw error instanceof AppError ? error : openError(file, error as Error & { code?: string })
  }
}

/** A catalog that is whole must never be taken for a damaged one: what is wrong is mostly the disk it is on. */
function openError(file: string, error: Error & { code?: string }): AppError {
  const damaged = /^SQLITE_(CORRUPT|NOTADB)/.test(error.code ?? '')
  const remedy = damaged
    ? 'restore it from a copy; without one, move it away: volumes are then unknown, but their data stays'
    : 'it may well be whole: see that its file system has room and can be written to, then start again'
  const code = damaged ? 'CORRUPT' : error.code === 'SQLITE_FULL' ? 'NO_SPACE' : 'UNAVAILABLE'
  return new AppError(code, `the catalog ${file} cannot be opened: ${error.message}; ${remedy}`, { cause: error })
}
