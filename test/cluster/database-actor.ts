/**
 * A SQLite database that is written to all the time: `node database-actor.ts write FILE LOG` inserts, changes and deletes rows, each
 * transaction durable, and notes in LOG how many were reported done; `check FILE` prints what integrity_check says and how many
 * the file has.
 */

import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import Database from 'better-sqlite3'

const [, , act, file = '', log = ''] = process.argv

async function write(): Promise<void> {
  const db = new Database(file)
  db.pragma('journal_mode = WAL')
  db.pragma('synchronous = FULL')
  db.exec(
    'CREATE TABLE IF NOT EXISTS done (n INTEGER PRIMARY KEY); CREATE TABLE IF NOT EXISTS rows (k INTEGER PRIMARY KEY, v BLOB)',
  )
  db.exec('CREATE INDEX IF NOT EXISTS by_value ON rows (v)')
  const put = db.prepare('INSERT OR REPLACE INTO rows VALUES (?, ?)')
  const drop = db.prepare('DELETE FROM rows WHERE k = ?')
  const note = db.prepare('INSERT INTO done VALUES (?)')
  const transact = db.transaction((n: number) => {
    for (let row = 0; row < 20; row++) put.run((n * 7 + row * 131) % 4000, randomBytes(200 + ((n * row) % 1500)))
    drop.run((n * 13) % 4000)
    note.run(n)
  })
  for (let n = 1; ; n++) {
    transact(n)
    writeFileSync(log, String(n))
    await delay(1)
  }
}

function check(): void {
  const db = new Database(file)
  const integrity = db.pragma('integrity_check', { simple: true })
  const { done } = db.prepare('SELECT max(n) AS done FROM done').get() as { done: number }
  console.log(JSON.stringify({ integrity, done }))
  db.close()
}

if (act === 'write') await write()
else check()
