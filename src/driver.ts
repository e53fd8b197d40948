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

import type { Bytes, DriverState, Finding, Snapshot, TrashedVolume, Volume, VolumeSpec } from './model.ts'

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
  readonly shared?: SharedCapability
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

/**
 * For storage that several nodes use at the same time. What they share describes itself: the records of volumes and snapshots lie beside
 * the data, and a node's catalog is a copy of them, which answers while the storage is away.
 *
 * A service that changes a volume takes `exclusive` of its name where it takes its own lock, and believes what that hands it rather
 * than its catalog; in there, after each call that changes something and before its own row, it calls `publish`. All driver calls keep nodes
 * apart by themselves, too: they throw ABORTED while another node changes the volume, and those that need it unused throw
 * IN_USE, naming the node that mounts it.
 */
export interface SharedCapability {
  /**
   * Calls `work` while no other node, and no other call of this one, changes volumes of this name. Waits up to 8 s for its turn. Another key
   * may be taken inside; one that is held by the same `work` may not.
   * @param what the name of a volume; the id of one in the trash
   * @param work gets what stands on the storage now (null: nothing that is published), and a context whose signal aborts when this
   * node has lost its turn, because the storage was away for too long: what it has not published by then, it must not claim to have done
   * @throws ABORTED with the node that has its turn, UNAVAILABLE with the server that does not answer
   */
  exclusive<T>(
    ctx: DriverContext,
    what: SharedKey,
    work: (ctx: DriverContext, now: SharedVolume | null) => Promise<T>,
  ): Promise<T>

  /**
   * Makes the record on the storage say what `volume` and `snapshots` say. From then on they exist for every node; what was
   * created and never published is nobody's, and another node's `createVolume` of that name may set it aside. Atomic for each record; a
   * crash leaves the old or the new one. Snapshots that are not named keep their records: those go with their data.
   * @param snapshots those whose records are new or changed
   * @throws NOT_FOUND when the volume's data is not there, UNAVAILABLE
   */
  publish(ctx: DriverContext, volume: Volume | TrashedVolume, snapshots: readonly Snapshot[]): Promise<void>

  /** The published volume of this name, whichever node made it. @throws UNAVAILABLE */
  find(ctx: DriverContext, what: SharedKey): Promise<SharedVolume | null>

  /**
   * Tells what is on the storage, and within a second each change by any node, until `signal` aborts; then it resolves. Never throws: a storage that
   * is away is told as such, and so is its return, with a complete listing. May be called before `start`.
   */
  watch(signal: AbortSignal, tell: (news: SharedNews) => void): Promise<void>

  /**
   * Makes this node the one that may mount a volume with `access=single`, also while it is not mounted here. The node that was loses its
   * right: what it has mounted becomes read-only as soon as it notices (`SharedNode`, doctor), which may be late.
   * @param force even though that node is alive or has been heard of a moment ago: what it still writes, mixes with what is written here
   * @returns the node that had it, by its name, or null
   * @throws IN_USE without `force` while that node is alive, NOT_SUPPORTED for a volume that any node may mount
   */
  takeover(ctx: DriverContext, volume: Volume, force: boolean): Promise<{ readonly from: string | null }>

  /**
   * The right to do something that one node at a time does, such as the schedules of a volume; null while another node has it. It is
   * renewed by itself while this process lives.
   * @param what a key of the caller's choosing, 1 to 127 letters, digits, `_`, `.`, `-`
   */
  lease(ctx: DriverContext, what: SharedKey): Promise<SharedLease | null>
}

/** Names something on one of the driver's storages, which a volume's options may choose. */
export interface SharedKey {
  readonly key: string
  /** Those of the volume that it is about, or that are asked for. */
  readonly options: Readonly<Record<string, string>>
}

/** A volume as its record on the storage says it. With `volume.damage`: as far as it can be told, its id may be unknown (empty). */
export interface SharedVolume {
  readonly volume: Volume | TrashedVolume
  readonly snapshots: readonly Snapshot[]
}

/** A node that uses the storage. */
export interface SharedNode {
  readonly id: string
  /** For people: its host name. */
  readonly name: string
  /** It has been heard of in time. */
  readonly alive: boolean
  readonly self: boolean
  /** Ids of the volumes that it has mounted. */
  readonly mounts: readonly string[]
}

/**
 * What `watch` tells of one storage (`server:/export`); a driver may have several. `listing` replaces all that was known of that storage:
 * a volume that is not in it is gone. `reach` with a reason: everything else stays as it was known.
 */
export type SharedNews =
  | { readonly kind: 'listing'; readonly storage: string; readonly volumes: readonly SharedVolume[] }
  | { readonly kind: 'changed'; readonly storage: string; readonly volume: SharedVolume }
  | { readonly kind: 'gone'; readonly storage: string; readonly volumeId: string }
  | { readonly kind: 'nodes'; readonly storage: string; readonly nodes: readonly SharedNode[] }
  /** `reason` null: it answers. */
  | { readonly kind: 'reach'; readonly storage: string; readonly reason: string | null }
  /** This node's right to a volume is over: what shows it here has been made read-only, as far as `detail` says. */
  | { readonly kind: 'lost'; readonly storage: string; readonly volumeId: string; readonly detail: string }

export interface SharedLease {
  /** Aborts when the lease is lost. */
  readonly signal: AbortSignal
  release(): Promise<void>
}
