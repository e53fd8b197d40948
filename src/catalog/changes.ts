/**
 * The catalog's vocabulary of changes: each function gives one statement, `Catalog.write` commits several as one transaction.
 * Data only, so that they can be sent to the writer's thread.
 */

import type {
  Json,
  LastBackup,
  MountHold,
  Operation,
  OperationState,
  Schedule,
  ScheduleState,
  Snapshot,
  Target,
  Timestamp,
  TrashedVolume,
  Volume,
} from '../model.ts'

type SqlValue = string | number | null

/** One statement with its parameters. */
export interface Change {
  readonly sql: string
  readonly params: readonly SqlValue[]
  /** True when a power cut may take it: what it says is void after a reboot anyway. */
  readonly volatile?: boolean
}

const volumeColumns =
  'id, name, driver, size, options, labels, hooks, on_remove, origin, state, created_at, deleted_at, purge_at'

/** Inserts a volume, or replaces all that is known of the one with its id. @throws ALREADY_EXISTS for a live name */
export function putVolume(volume: Volume | TrashedVolume): Change {
  const { deletedAt = null, purgeAt = null } = volume as Partial<TrashedVolume>
  return {
    sql: `INSERT INTO volumes (${volumeColumns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
      ON CONFLICT (id) DO UPDATE SET name = excluded.name, size = excluded.size, options = excluded.options,
        labels = excluded.labels, hooks = excluded.hooks, on_remove = excluded.on_remove, state = excluded.state,
        deleted_at = excluded.deleted_at, purge_at = excluded.purge_at`,
    params: [
      volume.id,
      volume.name,
      volume.driver,
      volume.size,
      JSON.stringify(volume.options),
      JSON.stringify(volume.labels),
      JSON.stringify(volume.hooks),
      volume.onRemove,
      volume.origin,
      JSON.stringify(volume.state),
      volume.createdAt,
      deletedAt,
      purgeAt,
    ],
  }
}

/** Forgets a volume with its snapshots and holds. */
export function dropVolume(id: string): Change {
  return { sql: 'DELETE FROM volumes WHERE id = ?', params: [id] }
}

/**
 * Inserts a snapshot, or replaces all that is known of the one with its id.
 * @throws ALREADY_EXISTS for a name that another one of the volume has
 */
export function putSnapshot(snapshot: Snapshot): Change {
  return {
    sql: `INSERT INTO snapshots (id, volume_id, name, labels, atomic, size, used, state, created_at)
      VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
      ON CONFLICT (id) DO UPDATE SET labels = excluded.labels, atomic = excluded.atomic, size = excluded.size,
        used = excluded.used, state = excluded.state`,
    params: [
      snapshot.id,
      snapshot.volumeId,
      snapshot.name,
      JSON.stringify(snapshot.labels),
      snapshot.atomic ? 1 : 0,
      snapshot.size,
      snapshot.used,
      JSON.stringify(snapshot.state),
      snapshot.createdAt,
    ],
  }
}

/** Forgets a snapshot and the holds on it. */
export function dropSnapshot(id: string): Change[] {
  return [
    { sql: 'DELETE FROM holds WHERE snapshot_id = ?', params: [id] },
    { sql: 'DELETE FROM snapshots WHERE id = ?', params: [id] },
  ]
}

export function putHold(hold: MountHold): Change {
  return {
    sql: `INSERT OR REPLACE INTO holds (volume_id, snapshot_id, mount_id, count, stale, since) VALUES (?, ?, ?, ?, ?, ?)`,
    params: [hold.volumeId, hold.snapshotId ?? '', hold.mountId, hold.count, hold.stale ? 1 : 0, hold.since],
    volatile: true,
  }
}

export function dropHold(hold: Pick<MountHold, 'volumeId' | 'snapshotId' | 'mountId'>): Change {
  return {
    sql: 'DELETE FROM holds WHERE volume_id = ? AND snapshot_id = ? AND mount_id = ?',
    params: [hold.volumeId, hold.snapshotId ?? '', hold.mountId],
    volatile: true,
  }
}

/** No mount survives a reboot. */
export function dropAllHolds(): Change {
  return { sql: 'DELETE FROM holds', params: [], volatile: true }
}

/**
 * After a restart of dockerd or of the daemon each of Docker's ids counts once, and may never be unmounted.
 * @param own this id and those that begin with one of `prefixes` are not Docker's
 */
export function resetHolds(own: string, prefixes: readonly string[]): Change {
  const others = prefixes.map(() => ' AND substr(mount_id, 1, ?) <> ?').join('')
  return {
    sql: `UPDATE holds SET count = 1, stale = 1 WHERE mount_id <> ?${others}`,
    params: [own, ...prefixes.flatMap((prefix) => [prefix.length, prefix])],
    volatile: true,
  }
}

export function beginOperation(operation: Operation): Change {
  return {
    sql: 'INSERT INTO operations (id, kind, subject, state, payload, started_at) VALUES (?, ?, ?, ?, ?, ?)',
    params: [
      operation.id,
      operation.kind,
      operation.subject,
      operation.state,
      JSON.stringify(operation.payload),
      operation.startedAt,
    ],
  }
}

export function finishOperation(
  id: string,
  state: OperationState,
  finishedAt: Timestamp,
  error: { code: string; message: string } | null,
): Change {
  return {
    sql: 'UPDATE operations SET state = ?, finished_at = ?, error_code = ?, error_message = ? WHERE id = ?',
    params: [state, finishedAt, error?.code ?? null, error?.message ?? null, id],
  }
}

/** What recovery needs has changed in the operation's course. */
export function amendOperation(id: string, payload: Json): Change {
  return { sql: 'UPDATE operations SET payload = ? WHERE id = ?', params: [JSON.stringify(payload), id] }
}

/** Its caller has been told that it failed, and it could not be undone: it stays open, for recovery to undo and never to finish. */
export function noteFailure(id: string, error: { code: string; message: string }): Change {
  return {
    sql: 'UPDATE operations SET error_code = ?, error_message = ? WHERE id = ?',
    params: [error.code, error.message, id],
  }
}

/** Forgets all finished operations but the last `keep`. */
export function pruneOperations(keep: number): Change {
  return {
    sql: `DELETE FROM operations WHERE state <> 'running' AND rowid <=
      (SELECT rowid FROM operations ORDER BY rowid DESC LIMIT 1 OFFSET ?)`,
    params: [keep],
    volatile: true,
  }
}

export function putSetting(key: string, value: string): Change {
  return { sql: 'INSERT OR REPLACE INTO settings (key, value) VALUES (?, ?)', params: [key, value] }
}

/** @throws ALREADY_EXISTS for a name that is taken */
export function insertTarget(target: Target): Change {
  return {
    sql: 'INSERT INTO targets (name, url, access, repository_id, encrypted, created_at) VALUES (?, ?, ?, ?, ?, ?)',
    params: [
      target.name,
      target.url,
      JSON.stringify(target.access),
      target.repositoryId,
      target.encrypted ? 1 : 0,
      target.createdAt,
    ],
  }
}

export function dropTarget(name: string): Change {
  return { sql: 'DELETE FROM targets WHERE name = ?', params: [name] }
}

/** Replaces the one before of that volume and repository; nothing for a volume that is gone meanwhile. */
export function putLastBackup(backup: LastBackup): Change {
  return {
    sql: `INSERT OR REPLACE INTO last_backups (volume_id, repository_id, backup_id, url, snapshot_id, created_at)
      SELECT ?, ?, ?, ?, ?, ? WHERE EXISTS (SELECT 1 FROM volumes WHERE id = ?)`,
    params: [
      backup.volumeId,
      backup.repositoryId,
      backup.backupId,
      backup.url,
      backup.snapshotId,
      backup.createdAt,
      backup.volumeId,
    ],
  }
}

/** The snapshots that the last backups in a repository have read are of no more use to the next ones. */
export function forgetBases(repositoryId: string): Change {
  return { sql: 'UPDATE last_backups SET snapshot_id = NULL WHERE repository_id = ?', params: [repositoryId] }
}

/** For backups that were removed. */
export function dropLastBackup(backupId: string): Change {
  return { sql: 'DELETE FROM last_backups WHERE backup_id = ?', params: [backupId] }
}

/** @throws ALREADY_EXISTS for a name that is taken */
export function insertSchedule(schedule: Schedule): Change {
  return {
    sql: `INSERT INTO schedules (name, volume_id, cron, time_zone, snapshot, target, trim, keep, keep_snapshots, jitter_ms,
      paused, created_at, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    params: [
      schedule.name,
      schedule.volumeId,
      schedule.cron,
      schedule.timeZone,
      schedule.snapshot ? 1 : 0,
      schedule.target,
      schedule.trim ? 1 : 0,
      schedule.keep,
      schedule.keepSnapshots,
      schedule.jitterMs,
      schedule.paused ? 1 : 0,
      schedule.createdAt,
      JSON.stringify(schedule.state),
    ],
  }
}

export function dropSchedule(name: string): Change {
  return { sql: 'DELETE FROM schedules WHERE name = ?', params: [name] }
}

export function setSchedulePaused(name: string, paused: boolean): Change {
  return { sql: 'UPDATE schedules SET paused = ? WHERE name = ?', params: [paused ? 1 : 0, name] }
}

export function setScheduleState(name: string, state: ScheduleState): Change {
  return { sql: 'UPDATE schedules SET state = ? WHERE name = ?', params: [JSON.stringify(state), name] }
}
