/**
 * Brings a catalog to the newest schema: migrations/NNN_*.sql in the order of their numbers, one transaction each, which also
 * raises `user_version`. A crash in the middle leaves the version before.
 */

import { readdirSync, readFileSync } from 'node:fs'
import type { Database } from 'better-sqlite3'
import { AppError } from '../errors.ts'

const folder = new URL('./migrations/', import.meta.url)

/** @throws FAILED_PRECONDITION when the catalog was written by a newer Holdfast */
export function migrate(db: Database): void {
  const files = readdirSync(folder)
    .filter((file) => /^\d{3}_.*\.sql$/.test(file))
    .sort()
  const version = db.pragma('user_version', { simple: true }) as number
  if (version > files.length) {
    throw new AppError(
      'FAILED_PRECONDITION',
      `the catalog ${db.name} has schema ${version}, this program knows ${files.length}; run the newer Holdfast that wrote it`,
    )
  }
  for (const [index, file] of files.entries()) {
    if (index < version) continue
    const sql = readFileSync(new URL(file, folder), 'utf8')
    db.transaction(() => {
      db.exec(sql)
      db.pragma(`user_version = ${index + 1}`)
    })()
  }
}
