/**
 * The contract between Holdfast and its storage drivers.
 *
 * Terms. A *volume* is one directory tree that containers mount; a *snapshot* is a read-only copy of a volume kept by the
 * driver on the same storage; a *clone* is a new volume that begins as a snapshot; the *target* is the directory below the
 * daemon's root that the service offers as mountpoint.
 *
 * Laws, checked by test/conformance/driver.ts:
 *  1. Every method is idempotent: done twice, or again after a crash in its middle, it ends in the same state. Deleting
 *     what is gone succeeds.
 *  2. Nothing half-made is visible: a method that fails or is aborted leaves what was before; what a crash leaves is gone
 *     after `start` or after the same call (or the matching delete, with `state: null`) is made again.
 *  3. The service journals before it calls, holds the volume's lock while it calls, and stores the returned state after:
 *     two calls about one volume never overlap, except `mount`, `unmount` and `usage`, which may come at any time.
 *     Calls about different volumes overlap freely.
 *  4. A driver keeps no second database: what it must remember is in the state it returns or on the storage itself.
 *  5. Everything that waits honours `ctx.signal` and leaves by throwing its reason.
 *  6. Names have been validated (`parseVolumeName`); a driver must still never follow a symlink out of its storage.
 */

import type { Bytes, DriverState, Finding, Snapshot, Volume, VolumeSpec } from './model.ts'

/** The part of pino's logger that drivers use. */
export interface Log {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

/** Handed to every call. */
export interface DriverContext {
  readonly signal: AbortSignal
  readonly log: Log
  /** Reports how far a long call is; `total` is null when unknown. Cheap, call it as often as you like. */
  progress(done: number, total: number | null, unit: 'bytes' | 'files'): void
}

/** What one option means; the key's documentation and its check. */
export interface OptionHelp {
  readonly description: string
  readonly example?: string
}

/** What a driver's storage is and how it does things, for `holdfast info`. */
export interface DriverDescription {
  /** Free text facts in the order to show them, such as `{ filesystem: 'btrfs', snapshots: 'subvolume (atomic)' }`. */
  readonly facts: Readonly<Record<string, string>>
  /** Room of the storage as a whole, or null when it has none of its own. */
  readonly storage: { readonly size: Bytes; readonly free: Bytes } | null
  /** Numbers worth watching, for metrics: a name in snake_case with its unit, such as `metadata_used_ratio`. */
  readonly gauges?: Readonly<Record<string, number>>
}

export interface Usage {
  /** Bytes held by the volume, or null when that is not cheap to know and `exact` was not asked for. */
  readonly used: Bytes | null
  /** The enforced limit, or null. */
  readonly size: Bytes | null
}

/** A driver whose module is not loaded: what `drivers/index.ts` lists. */
export interface DriverModule {
  readonly name: string
  readonly summary: string
  /** Keys of `--driver-opt NAME.KEY=VALUE`. */
  readonly settings: Readonly<Record<string, OptionHelp>>
  /** Makes the driver; does no I/O. @throws INVALID_ARGUMENT for a setting that cannot be. */
  create(settings: Readonly<Record<string, string>>, environment: DriverEnvironment): Driver
}

export interface DriverEnvironment {
  /** The daemon's root directory, absolute; a driver's default storage is `ROOT/NAME`. */
  readonly root: string
  /** The archive in a directory of the driver's own, for storage that has no cheap copies. Does no I/O. */
  archive(directory: string): TreeArchive
}

/**
 * Keeps copies of trees in a backup repository in a local directory, which is made when it is first used: each costs the room
 * of what differs from those before. One daemon at a time works on it; calls about different copies may overlap.
 */
export interface TreeArchive {
  /**
   * Keeps what is below `root`; `id` (a snapshot's) that is there already is success. A crash in the middle leaves nothing to see.
   * @param group copies of one group resemble each other: the newest of them is compared with, by inode, ctime, mtime and size
   * @returns bytes that this copy added @throws NO_SPACE
   */
  save(
    ctx: DriverContext,
    root: string,
    copy: { readonly id: string; readonly group: string },
  ): Promise<{ added: Bytes }>
  /** Bytes that the copy of this id added, or null when it is not there. */
  find(ctx: DriverContext, id: string): Promise<{ added: Bytes } | null>
  /** Fills an empty directory; interrupted, the same call goes on. @throws NOT_FOUND */
  restore(ctx: DriverContext, id: string, directory: string): Promise<void>
  /** Forgets copies; those that are gone are success. */
  delete(ctx: DriverContext, ids: readonly string[]): Promise<void>
  /** Gives back the room of what no copy needs. Slow; for the background. */
  prune(ctx: DriverContext): Promise<void>
}

export interface Driver {
  readonly name: string
  /** `global`: a volume made on one node is there on every node. */
  readonly scope: 'local' | 'global'
  /** Keys of `-o KEY=VALUE` that are this driver's own, besides those that every driver has. */
  readonly volumeOptions: Readonly<Record<string, OptionHelp>>
  /** Size of a volume for which none is asked; undefined: it has no limit. */
  readonly defaultSize?: Bytes

  /**
   * Brings storage to what the catalog expects after a crash or reboot, and removes what an earlier life left half-made.
   * The sockets may listen already; no other method is called before it has resolved.
   * @param known volumes of this driver, in the trash and in the making (`state: null`) included
   * @param snapshots theirs
   * @throws UNAVAILABLE when the storage cannot be reached; the service tries again
   */
  start(ctx: DriverContext, known: readonly Volume[], snapshots: readonly Snapshot[]): Promise<void>
  stop(): Promise<void>

  describe(ctx: DriverContext): Promise<DriverDescription>

  /**
   * What is wrong with the storage: records without data, data without records, too little room.
   * @param known as for `start`
   */
  check(ctx: DriverContext, known: readonly Volume[]): Promise<readonly Finding[]>

  /**
   * Makes an empty volume; an existing one of the same id is success.
   * @throws ALREADY_EXISTS when data of another volume stands at its place
   * @throws INVALID_ARGUMENT for an option's value, NOT_SUPPORTED for a size that cannot be enforced, NO_SPACE
   */
  createVolume(ctx: DriverContext, spec: VolumeSpec): Promise<DriverState>

  /**
   * The state of the volume of this id when it stands complete at its place, else null. Recovery asks it, with `state: null`:
   * a creation may have been finished without having been written down.
   */
  findVolume(ctx: DriverContext, volume: Volume): Promise<DriverState | null>

  /**
   * Removes a volume and its snapshots for good. With `state: null` removes whatever an interrupted `createVolume` or
   * `clone` of that id has left, and nothing that is another's. Adopted data stays.
   */
  deleteVolume(ctx: DriverContext, volume: Volume): Promise<void>

  /**
   * Where the volume is for containers once `mount` has resolved: `target`, or a directory of the driver's own when its
   * volumes need no mount. Absolute. No I/O.
   */
  mountpoint(volume: Volume, target: string): string

  /** Makes `mountpoint()` an existing directory with the volume's content. Never stacks a second mount. */
  mount(ctx: DriverContext, volume: Volume, target: string): Promise<void>

  /** Undoes `mount`; not mounted is success. @throws IN_USE when something on this host holds it */
  unmount(ctx: DriverContext, volume: Volume, target: string): Promise<void>

  /** @param exact walk the data if need be; otherwise O(1). @throws NOT_FOUND when the data is gone */
  usage(ctx: DriverContext, volume: Volume, exact: boolean): Promise<Usage>

  readonly trash?: TrashCapability
  readonly snapshots?: SnapshotCapability
  readonly clone?: CloneCapability
  readonly revert?: RevertCapability
  readonly replace?: ReplaceCapability
  readonly resize?: ResizeCapability
  readonly trim?: TrimCapability
  readonly device?: DeviceCapability
}

/** The volume, its snapshots included, is set aside in O(1) under `volume.id`, so that its name is free again. */
export interface TrashCapability {
  discard(ctx: DriverContext, volume: Volume): Promise<DriverState>
  /** Brings it back, under `name`. @throws ALREADY_EXISTS when data stands there */
  restore(ctx: DriverContext, volume: Volume, name: string): Promise<DriverState>
}

/** A finished snapshot, as the driver knows it. */
export interface SnapshotTaken {
  readonly state: DriverState
  readonly atomic: boolean
  readonly used: Bytes | null
}

export interface SnapshotCapability {
  /**
   * Copies the volume as it is now; mounted and written to, or not. `frozen`: the service keeps writers still (pause).
   * @returns `atomic: false` when writers could change the volume while it was copied
   */
  create(ctx: DriverContext, volume: Volume, snapshot: SnapshotSpec): Promise<SnapshotTaken>
  /** As `findVolume`, for a snapshot; `atomic` is false when that cannot be told any more. */
  find(ctx: DriverContext, volume: Volume, snapshot: Snapshot): Promise<SnapshotTaken | null>
  /** With `state: null` removes what an interrupted `create` has left. */
  delete(ctx: DriverContext, volume: Volume, snapshot: Snapshot): Promise<void>
  /** As `Driver.mountpoint`, for a snapshot. */
  mountpoint(volume: Volume, snapshot: Snapshot, target: string): string
  /** Makes the snapshot's content readable, and only readable, at `mountpoint()`. */
  mount(ctx: DriverContext, volume: Volume, snapshot: Snapshot, target: string): Promise<void>
  unmount(ctx: DriverContext, volume: Volume, snapshot: Snapshot, target: string): Promise<void>
  /**
   * Whether a snapshot of this volume costs next to nothing: then a backup of the volume makes one and reads that, else it
   * reads the volume itself.
   */
  isCheap(ctx: DriverContext, volume: Volume): Promise<boolean>
  /**
   * Makes a snapshot readable for a backup, at `target` when it needs a mount; `unmount` closes it.
   * @param base an earlier snapshot of the volume that was backed up, for what has changed since; null: none
   */
  open(
    ctx: DriverContext,
    volume: Volume,
    snapshot: Snapshot,
    target: string,
    base: Snapshot | null,
  ): Promise<BackupSource>
}

/** Half-open range of bytes. */
export interface Extent {
  readonly start: Bytes
  readonly end: Bytes
}

/** What a backup reads. */
export type BackupSource = TreeSource | BlockSource

export interface TreeSource {
  readonly kind: 'tree'
  readonly root: string
  /**
   * What tells that a file has not changed since the last backup: `inode`: its inode, ctime, mtime and size; `content`: nothing else,
   * each file is read.
   */
  readonly compare: 'inode' | 'content'
}

export interface BlockSource {
  readonly kind: 'block'
  readonly device: string
  readonly size: Bytes
  /** Ascending; null when it is not known. */
  readonly allocated: readonly Extent[] | null
  /** What may differ from `base`, ascending, freed extents included; null when it is not known. */
  readonly changed: readonly Extent[] | null
}

export interface SnapshotSpec {
  readonly id: string
  readonly name: string
  /** The service has paused every container that uses the volume: a slow copy is consistent too. */
  readonly frozen: boolean
}

export interface CloneCapability {
  /** Makes `spec` a volume that begins as `snapshot` and is independent of it from then on. Undone by `deleteVolume`. */
  create(ctx: DriverContext, spec: VolumeSpec, source: Volume, snapshot: Snapshot): Promise<DriverState>
}

export interface RevertCapability {
  /**
   * Makes the volume's content that of the snapshot; the service has made sure that nothing uses it. Interrupted, it is
   * called again until it has succeeded.
   */
  revert(ctx: DriverContext, volume: Volume, snapshot: Snapshot): Promise<DriverState>
}

export interface ReplaceCapability {
  /**
   * Makes the content of `from`, a volume of this driver that nobody else knows, that of `volume`, which nothing uses; its
   * snapshots stay. `from` is gone after. Interrupted, it is called again until it has succeeded.
   * @throws NOT_SUPPORTED when this volume's content is not the driver's to replace
   */
  replace(ctx: DriverContext, volume: Volume, from: Volume): Promise<DriverState>
}

export interface ResizeCapability {
  /** Sets the enforced limit, online. @throws NOT_SUPPORTED when this volume cannot shrink, NO_SPACE */
  resize(ctx: DriverContext, volume: Volume, size: Bytes): Promise<DriverState>
}

export interface TrimCapability {
  /** Gives freed blocks back to the storage. @returns bytes trimmed */
  trim(ctx: DriverContext, volume: Volume): Promise<Bytes>
}

/** For volumes that are block devices: a new one can be filled with the image of another's device. */
export interface DeviceCapability {
  /**
   * Makes `spec` a volume of `size` bytes without a file system, whose device reads as zeros and holds no blocks. An existing one
   * of the same id is success, its content kept. Found and undone, open or not, as what `createVolume` makes.
   * @throws as `createVolume`
   */
  create(ctx: DriverContext, spec: VolumeSpec, size: Bytes): Promise<DriverState>
  /** The device to write to until `close`; opened twice it is the same. Absolute path. */
  open(ctx: DriverContext, volume: Volume): Promise<string>
  /**
   * Ends the writing: all of it is durable, and the volume is what its device holds; not open is success. The file system gets an
   * identity of its own where it may be mounted beside the one that it is the image of.
   * @throws FAILED_PRECONDITION when there is no file system on it that the driver mounts
   */
  close(ctx: DriverContext, volume: Volume): Promise<DriverState>
}
