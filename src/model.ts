/**
 * The nouns of Holdfast, as the catalog keeps them and as drivers and services pass them on.
 * What the CLI and the API show is a view on these (server/schemas.ts), not these.
 */

/** A size or an offset in bytes; an integer from 0 to 2^53 - 1. */
export type Bytes = number

/** A moment: RFC 3339, UTC, milliseconds, as `new Date().toISOString()` gives it. */
export type Timestamp = string

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json }

/** A driver's own JSON about a volume or a snapshot. The service stores it and never looks inside. */
export type DriverState = { readonly [key: string]: Json }

/** What `docker volume rm` and `holdfast volume rm` do with the data. */
export type OnRemove = 'trash' | 'delete' | 'retain'

/** What a user asked for: the same for the CLI, the API and Docker's `-o`. */
export interface VolumeSpec {
  /** Never changes, not even by a rename in the trash; tells an old volume from a new one of the same name. */
  readonly id: string
  readonly name: string
  /** The limit that must be enforced; null for none. */
  readonly size: Bytes | null
  /** The driver's own options, checked against `Driver.volumeOptions`; values are the strings the user gave. */
  readonly options: Readonly<Record<string, string>>
}

export interface Volume extends VolumeSpec {
  readonly driver: string
  readonly createdAt: Timestamp
  readonly labels: Readonly<Record<string, string>>
  readonly onRemove: OnRemove
  /** `VOLUME@SNAPSHOT` that it was cloned from, or the URL of the backup that it was restored from, or null. */
  readonly origin: string | null
  readonly hooks: Hooks
  /** Null only in an undo: creation was interrupted before the driver could tell. */
  readonly state: DriverState | null
  /** What is wrong with its record, when something is: it stays visible, and nothing may change it. */
  readonly damage?: string
}

/**
 * Commands that make a volume's content consistent for a snapshot, as the user gave them: a shell command line, or a JSON array
 * of program and arguments, for a container that uses the volume; with `host:` before it, a program of this node's.
 */
export type Hooks = {
  readonly pre?: string
  /** Runs whenever `pre` was begun, whatever became of it and of the snapshot. */
  readonly post?: string
  /** Name or id of the container; default: the only one that uses the volume. */
  readonly container?: string
  /** For each of them, ms; default 30 s. */
  readonly timeoutMs?: number
}

/** A volume in the trash. Several may have the same name. */
export interface TrashedVolume extends Volume {
  readonly deletedAt: Timestamp
  /** When it is purged; null: never by itself. */
  readonly purgeAt: Timestamp | null
}

export function isTrashed(volume: Volume | TrashedVolume): volume is TrashedVolume {
  return 'deletedAt' in volume
}

export interface Snapshot {
  readonly id: string
  readonly volumeId: string
  readonly name: string
  readonly createdAt: Timestamp
  readonly labels: Readonly<Record<string, string>>
  /** False for a copy that was taken file by file while the volume could be written to. */
  readonly atomic: boolean
  /** Size limit of the volume at that moment, or null. */
  readonly size: Bytes | null
  /** Bytes that the snapshot itself holds when that is cheap to know, or null. */
  readonly used: Bytes | null
  /** Null only in an undo. */
  readonly state: DriverState | null
  /** As `Volume.damage`. */
  readonly damage?: string
}

/** One mount id (Docker's `ID`, `cli`, or `backup:` and an operation's id) that holds a volume or, with `snapshotId`, a snapshot. */
export interface MountHold {
  readonly volumeId: string
  readonly snapshotId: string | null
  readonly mountId: string
  /** How many Mounts less Unmounts came with this id. At least 1. */
  readonly count: number
  /** True after dockerd or the daemon has restarted and until this id is mounted again: it may never be unmounted. */
  readonly stale: boolean
  readonly since: Timestamp
}

export type OperationState = 'running' | 'done' | 'failed' | 'cancelled' | 'interrupted'

/** Journalled work. `running` in the catalog at start means: a crash interrupted it. */
export interface Operation {
  readonly id: string
  /** `volume.create`, `snapshot.revert`, … : the key of its recovery. */
  readonly kind: string
  /** What it works on, as a user would name it: `db`, `db@s1`. */
  readonly subject: string
  readonly state: OperationState
  /** What recovery needs to undo or to finish it. Never shown. */
  readonly payload: Json
  readonly startedAt: Timestamp
  readonly finishedAt: Timestamp | null
  readonly error: { readonly code: string; readonly message: string } | null
}

/** Something wrong or at risk on this node, with its remedy. */
export interface Finding {
  readonly severity: 'error' | 'warning'
  /** Stable kebab-case key, such as `data-without-record`. */
  readonly check: string
  readonly subject: string
  readonly message: string
  readonly remedy: string
}

/** How a repository's store is reached. Secrets are in files, never here; paths are absolute, on the node that reads them. */
export interface StoreAccess {
  /** Of an S3 server that is not Amazon's: `http[s]://HOST[:PORT]`. */
  readonly endpoint?: string | undefined
  readonly region?: string | undefined
  readonly accessKeyFile?: string | undefined
  readonly secretKeyFile?: string | undefined
  /** Its first line is the passphrase. None: the repository is not encrypted. */
  readonly passphraseFile?: string | undefined
  readonly pathStyle?: boolean | undefined
  readonly storageClass?: string | undefined
  /** Encryption by the S3 server. */
  readonly encryption?: 'sse-s3' | 'kms' | undefined
  readonly kmsKeyId?: string | undefined
  /** Bytes a second. */
  readonly uploadLimit?: Bytes | undefined
  readonly downloadLimit?: Bytes | undefined
}

/** On each backup: the id of the volume that was backed up. Names do not suffice: volumes are made anew, and clones of a machine share theirs. */
export const volumeLabel = 'holdfast.volume'

/** A named repository. */
export interface Target {
  readonly name: string
  /** Normalized, without a secret. */
  readonly url: string
  readonly access: StoreAccess
  readonly repositoryId: string
  readonly encrypted: boolean
  readonly createdAt: Timestamp
}

/** The newest backup of a volume in one repository: what the next one is compared with. */
export interface LastBackup {
  readonly volumeId: string
  readonly repositoryId: string
  readonly backupId: string
  /** `URL?backup=ID` */
  readonly url: string
  /** The snapshot that was read, when it was kept. */
  readonly snapshotId: string | null
  readonly createdAt: Timestamp
}

/** What is to be done to a volume, and when. */
export interface Schedule {
  readonly name: string
  readonly volumeId: string
  readonly cron: string
  readonly timeZone: string
  /** Make a snapshot that stays. */
  readonly snapshot: boolean
  /** Name of the target to back up to, or null. */
  readonly target: string | null
  /** Give back to the storage what the file system has freed. */
  readonly trim: boolean
  /** Retention of its backups, and of its snapshots, as typed; null: keep all. */
  readonly keep: string | null
  readonly keepSnapshots: string | null
  /** A run begins up to this much later, ms. */
  readonly jitterMs: number
  readonly paused: boolean
  readonly createdAt: Timestamp
  readonly state: ScheduleState
}

/** How a schedule went, and when it runs again. */
export interface ScheduleState {
  /** Null when paused. */
  readonly nextRunAt: Timestamp | null
  readonly lastRunAt: Timestamp | null
  readonly lastSuccessAt: Timestamp | null
  /** Failed runs since the last success. */
  readonly failures: number
  readonly lastError: { readonly code: string; readonly message: string } | null
}
