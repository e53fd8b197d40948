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
  /** `VOLUME@SNAPSHOT` that it was cloned from, or null. */
  readonly origin: string | null
  /** Null only in an undo: creation was interrupted before the driver could tell. */
  readonly state: DriverState | null
  /** What is wrong with its record, when something is: it stays visible, and nothing may change it. */
  readonly damage?: string
}

/** A volume in the trash. Several may have the same name. */
export interface TrashedVolume extends Volume {
  readonly deletedAt: Timestamp
  /** When it is purged; null: never by itself. */
  readonly purgeAt: Timestamp | null
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

/** One mount id (Docker's `ID`, or `cli`) that holds a volume or, with `snapshotId`, a snapshot. */
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
