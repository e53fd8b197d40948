/**
 * Rows of the catalog as nouns. A row with a field that cannot be read harms only itself: the field is empty, and `damage`
 * says so, which keeps the volume visible to Docker and every change to it refused.
 */

import type {
  DriverState,
  Hooks,
  Json,
  LastBackup,
  MountHold,
  Operation,
  Schedule,
  ScheduleState,
  Snapshot,
  StoreAccess,
  Target,
  TrashedVolume,
  Volume,
} from '../model.ts'

export type Row = Record<string, unknown>

/** A JSON object of the row; damaged when it is anything else, and `null` is none where the fallback is one. */
function parse<T>(row: Row, column: string, fallback: T, damaged: string[]): T {
  const text = String(row[column])
  if (text === '{}') return {} as T // Most are, and there may be 10,000 of them to list.
  try {
    const value = JSON.parse(text) as T
    if (isObject(value) || (value === null && fallback === null)) return value
  } catch {
    // reported as damage by the caller
  }
  damaged.push(column)
  return fallback
}

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Docker takes a volume whose time it cannot read for one that is gone. */
function parseTime(row: Row, column: string, damaged: string[]): string {
  const text = String(row[column])
  if (!Number.isNaN(Date.parse(text))) return text
  damaged.push(column)
  return new Date(0).toISOString()
}

function damage(columns: readonly string[]): { damage?: string } {
  return columns.length === 0 ? {} : { damage: `its record is damaged (${columns.join(', ')})` }
}

export function volume(row: Row): Volume {
  const damaged: string[] = []
  return {
    id: String(row['id']),
    name: String(row['name']),
    driver: String(row['driver']),
    size: row['size'] as number | null,
    options: parse<Record<string, string>>(row, 'options', {}, damaged),
    labels: parse<Record<string, string>>(row, 'labels', {}, damaged),
    hooks: parse<Hooks>(row, 'hooks', {}, damaged),
    onRemove: row['on_remove'] as Volume['onRemove'],
    origin: row['origin'] as string | null,
    state: parse<DriverState | null>(row, 'state', null, damaged),
    createdAt: parseTime(row, 'created_at', damaged),
    ...damage(damaged),
  }
}

export function trashed(row: Row): TrashedVolume {
  return { ...volume(row), deletedAt: String(row['deleted_at']), purgeAt: row['purge_at'] as string | null }
}

export function anyVolume(row: Row): Volume | TrashedVolume {
  return row['deleted_at'] === null ? volume(row) : trashed(row)
}

export function snapshot(row: Row): Snapshot {
  const damaged: string[] = []
  return {
    id: String(row['id']),
    volumeId: String(row['volume_id']),
    name: String(row['name']),
    labels: parse<Record<string, string>>(row, 'labels', {}, damaged),
    atomic: row['atomic'] === 1,
    size: row['size'] as number | null,
    used: row['used'] as number | null,
    state: parse<DriverState | null>(row, 'state', null, damaged),
    createdAt: parseTime(row, 'created_at', damaged),
    ...damage(damaged),
  }
}

export function hold(row: Row): MountHold {
  return {
    volumeId: String(row['volume_id']),
    snapshotId: row['snapshot_id'] === '' ? null : String(row['snapshot_id']),
    mountId: String(row['mount_id']),
    count: Number(row['count']),
    stale: row['stale'] === 1,
    since: String(row['since']),
  }
}

export function operation(row: Row): Operation {
  return {
    id: String(row['id']),
    kind: String(row['kind']),
    subject: String(row['subject']),
    state: row['state'] as Operation['state'],
    payload: parse<Json>(row, 'payload', null, []),
    startedAt: String(row['started_at']),
    finishedAt: row['finished_at'] as string | null,
    error:
      row['error_code'] === null ? null : { code: String(row['error_code']), message: String(row['error_message']) },
  }
}

export function target(row: Row): Target {
  return {
    name: String(row['name']),
    url: String(row['url']),
    access: parse<StoreAccess>(row, 'access', {}, []),
    repositoryId: String(row['repository_id']),
    encrypted: row['encrypted'] === 1,
    createdAt: String(row['created_at']),
  }
}

export function lastBackup(row: Row): LastBackup {
  return {
    volumeId: String(row['volume_id']),
    repositoryId: String(row['repository_id']),
    backupId: String(row['backup_id']),
    url: String(row['url']),
    snapshotId: row['snapshot_id'] as string | null,
    createdAt: String(row['created_at']),
  }
}

const neverRun: ScheduleState = { nextRunAt: null, lastRunAt: null, lastSuccessAt: null, failures: 0, lastError: null }

export function schedule(row: Row): Schedule {
  return {
    name: String(row['name']),
    volumeId: String(row['volume_id']),
    cron: String(row['cron']),
    timeZone: String(row['time_zone']),
    snapshot: row['snapshot'] === 1,
    target: row['target'] as string | null,
    trim: row['trim'] === 1,
    keep: row['keep'] as string | null,
    keepSnapshots: row['keep_snapshots'] as string | null,
    jitterMs: Number(row['jitter_ms']),
    paused: row['paused'] === 1,
    createdAt: String(row['created_at']),
    state: { ...neverRun, ...parse<ScheduleState>(row, 'state', neverRun, []) },
  }
}
