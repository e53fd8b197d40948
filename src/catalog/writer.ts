/**
 * The catalog's writing half: a worker thread, so that a slow disk's fsync never holds up an answer to Docker. All
 * transactions that wait are committed together (one fsync), each in a savepoint of its own, so that one that fails harms
 * only itself. `synchronous=FULL`: what is answered is on the disk; a group of `volatile` changes alone is not synced.
 * It keeps room in the catalog's files for the day when the disk is full: also then a volume is to be mounted, and removed.
 */

import { parentPort, workerData } from 'node:worker_threads'
import Database from 'better-sqlite3'
import type { Change } from './changes.ts'

/** What the main thread sends: one transaction. */
export interface WriteRequest {
  readonly id: number
  readonly changes: readonly Change[]
}

/** What it gets back, once the transaction is durable or has failed. */
export interface WriteReply {
  readonly id: number
  readonly error?: { readonly code: string; readonly message: string }
}

const port = parentPort
if (!port) throw new Error('this module is a worker thread of catalog.ts')

const db = new Database((workerData as { file: string }).file)
db.pragma('journal_mode = WAL')
db.pragma('synchronous = FULL')
db.pragma('foreign_keys = ON')
db.pragma('busy_timeout = 5000')

/** How much room is kept, in the database and in its log. */
const reserveBytes = 256 * 1024

const statements = new Map<string, Database.Statement>()
let waiting: WriteRequest[] = []
let durable = true

function statement(sql: string): Database.Statement {
  let prepared = statements.get(sql)
  if (!prepared) {
    prepared = db.prepare(sql)
    statements.set(sql, prepared)
  }
  return prepared
}

function setDurable(wanted: boolean): void {
  if (wanted === durable) return
  db.pragma(`synchronous = ${wanted ? 'FULL' : 'NORMAL'}`)
  durable = wanted
}

function errorOf(error: unknown): { code: string; message: string } {
  const { code = 'INTERNAL', message } = error as { code?: string; message: string }
  return { code, message }
}

/** Nested in the group's transaction, better-sqlite3 makes this a savepoint. */
const apply = db.transaction((changes: readonly Change[]) => {
  for (const change of changes) statement(change.sql).run(...change.params)
})

const applyGroup = db.transaction((group: readonly WriteRequest[]): WriteReply[] =>
  group.map(({ id, changes }) => {
    try {
      apply(changes)
      return { id }
    } catch (error) {
      if (!db.inTransaction) throw error // the whole transaction is gone (a full disk): nobody's change was kept
      return { id, error: errorOf(error) }
    }
  }),
)

function commit(group: readonly WriteRequest[]): WriteReply[] {
  try {
    setDurable(group.some(({ changes }) => changes.some((change) => !change.volatile)))
    return retryingWhenFull(() => applyGroup.immediate(group))
  } catch (error) {
    return group.map(({ id }) => ({ id, error: errorOf(error) }))
  }
}

/** The log grows until it is written back; written back, it is used again from its beginning and takes no more room. */
function retryingWhenFull<T>(write: () => T): T {
  try {
    return write()
  } catch (error) {
    if (errorOf(error).code !== 'SQLITE_FULL') throw error
    db.pragma('wal_checkpoint(RESTART)')
    return write()
  }
}

/** Takes the room and gives it up: both files keep their size, and what was taken is free inside of them. */
function keepReserve(): void {
  try {
    statement(`INSERT OR REPLACE INTO settings (key, value) VALUES ('reserve', printf('%.*c', ?, '-'))`).run(
      reserveBytes,
    )
    statement(`DELETE FROM settings WHERE key = 'reserve'`).run()
    db.pragma('wal_checkpoint(RESTART)')
  } catch {
    // The disk is full already.
  }
}

keepReserve()

function drain(): void {
  const group = waiting
  waiting = []
  for (const reply of commit(group)) port?.postMessage(reply)
}

port.on('message', (request: WriteRequest | 'close') => {
  if (request === 'close') {
    if (waiting.length > 0) drain()
    db.close()
    port.postMessage('closed')
    port.close()
    return
  }
  if (waiting.length === 0) setImmediate(drain)
  waiting.push(request)
})
