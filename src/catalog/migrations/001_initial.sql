-- What this node knows: its volumes (the trash included), their snapshots, who holds them, and the journal of operations.

CREATE TABLE volumes (
  id         TEXT PRIMARY KEY,
  name       TEXT NOT NULL,
  driver     TEXT NOT NULL,
  size       INTEGER,
  options    TEXT NOT NULL,
  labels     TEXT NOT NULL,
  on_remove  TEXT NOT NULL CHECK (on_remove IN ('trash', 'delete', 'retain')),
  origin     TEXT,
  state      TEXT,
  created_at TEXT NOT NULL,
  deleted_at TEXT,
  purge_at   TEXT
) STRICT;

CREATE UNIQUE INDEX volumes_by_name ON volumes (name) WHERE deleted_at IS NULL;
CREATE INDEX volumes_in_trash ON volumes (deleted_at) WHERE deleted_at IS NOT NULL;

CREATE TABLE snapshots (
  id         TEXT PRIMARY KEY,
  volume_id  TEXT NOT NULL REFERENCES volumes (id) ON DELETE CASCADE,
  name       TEXT NOT NULL,
  labels     TEXT NOT NULL,
  atomic     INTEGER NOT NULL CHECK (atomic IN (0, 1)),
  size       INTEGER,
  used       INTEGER,
  state      TEXT,
  created_at TEXT NOT NULL,
  UNIQUE (volume_id, name)
) STRICT;

-- snapshot_id is '' for a hold on the volume itself, so that it can be part of the key.
CREATE TABLE holds (
  volume_id   TEXT NOT NULL REFERENCES volumes (id) ON DELETE CASCADE,
  snapshot_id TEXT NOT NULL,
  mount_id    TEXT NOT NULL,
  count       INTEGER NOT NULL CHECK (count > 0),
  stale       INTEGER NOT NULL CHECK (stale IN (0, 1)),
  since       TEXT NOT NULL,
  PRIMARY KEY (volume_id, snapshot_id, mount_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE operations (
  id            TEXT PRIMARY KEY,
  kind          TEXT NOT NULL,
  subject       TEXT NOT NULL,
  state         TEXT NOT NULL CHECK (state IN ('running', 'done', 'failed', 'cancelled', 'interrupted')),
  payload       TEXT NOT NULL,
  started_at    TEXT NOT NULL,
  finished_at   TEXT,
  error_code    TEXT,
  error_message TEXT
) STRICT;

CREATE INDEX operations_running ON operations (state) WHERE state = 'running';

CREATE TABLE settings (
  key   TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT;
