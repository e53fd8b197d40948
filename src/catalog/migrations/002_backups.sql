-- Hooks of volumes; targets, the newest backup of each volume in each repository, and schedules.

ALTER TABLE volumes ADD COLUMN hooks TEXT NOT NULL DEFAULT '{}';

CREATE TABLE targets (
  name          TEXT PRIMARY KEY,
  url           TEXT NOT NULL,
  access        TEXT NOT NULL,
  repository_id TEXT NOT NULL,
  encrypted     INTEGER NOT NULL CHECK (encrypted IN (0, 1)),
  created_at    TEXT NOT NULL
) STRICT;

CREATE TABLE last_backups (
  volume_id     TEXT NOT NULL REFERENCES volumes (id) ON DELETE CASCADE,
  repository_id TEXT NOT NULL,
  backup_id     TEXT NOT NULL,
  url           TEXT NOT NULL,
  snapshot_id   TEXT,
  created_at    TEXT NOT NULL,
  PRIMARY KEY (volume_id, repository_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE schedules (
  name           TEXT PRIMARY KEY,
  volume_id      TEXT NOT NULL REFERENCES volumes (id) ON DELETE CASCADE,
  cron           TEXT NOT NULL,
  time_zone      TEXT NOT NULL,
  snapshot       INTEGER NOT NULL CHECK (snapshot IN (0, 1)),
  target         TEXT REFERENCES targets (name),
  keep           TEXT,
  keep_snapshots TEXT,
  jitter_ms      INTEGER NOT NULL,
  paused         INTEGER NOT NULL CHECK (paused IN (0, 1)),
  created_at     TEXT NOT NULL,
  state          TEXT NOT NULL
) STRICT;
