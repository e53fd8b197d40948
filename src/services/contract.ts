/**
 * What the doors (the admin API in server/, Docker's protocol in plugin/) may ask of Holdfast. Services know no HTTP; every
 * method throws only `AppError`. Times are RFC 3339 UTC, sizes bytes; lists are ordered by creation time, oldest first.
 */

import type { Bytes, Finding, Hooks, OnRemove, OperationState, StoreAccess, Timestamp } from '../model.ts'

/** A volume as users see it. */
export interface VolumeView {
  readonly name: string
  readonly driver: string
  readonly size: Bytes | null
  readonly used: Bytes | null
  readonly createdAt: Timestamp
  readonly labels: Readonly<Record<string, string>>
  readonly options: Readonly<Record<string, string>>
  /** Null when not mounted. */
  readonly mountpoint: string | null
  readonly mounts: readonly { readonly id: string; readonly since: Timestamp; readonly stale: boolean }[]
  readonly onRemove: OnRemove
  readonly origin: string | null
  readonly hooks: Hooks
  readonly scope: 'local' | 'global'
  readonly status: 'ok' | 'degraded' | 'missing'
  readonly statusDetail?: string
  readonly snapshots: readonly { readonly name: string; readonly createdAt: Timestamp }[]
  readonly lastBackup: { readonly url: string; readonly createdAt: Timestamp } | null
}

export interface SnapshotView {
  readonly volume: string
  readonly name: string
  readonly createdAt: Timestamp
  readonly size: Bytes | null
  readonly used: Bytes | null
  readonly labels: Readonly<Record<string, string>>
  readonly atomic: boolean
  /** Where it is mounted read-only, or null. */
  readonly mountpoint: string | null
}

export interface TrashView {
  readonly name: string
  /** Tells volumes of the same name apart; accepted wherever a trashed NAME is. */
  readonly id: string
  readonly driver: string
  readonly size: Bytes | null
  readonly createdAt: Timestamp
  readonly deletedAt: Timestamp
  /** Null: kept until `trash empty NAME`. */
  readonly purgeAt: Timestamp | null
  readonly snapshots: number
}

export interface OperationView {
  readonly id: string
  readonly kind: string
  readonly subject: string
  readonly state: OperationState
  readonly progress: {
    readonly done: number
    readonly total: number | null
    readonly unit: string
    /** Units a second since the start. */
    readonly rate: number
    /** Seconds left at that rate; null when the total is unknown. */
    readonly secondsLeft: number | null
  } | null
  readonly startedAt: Timestamp
  readonly finishedAt: Timestamp | null
  readonly error: { readonly code: string; readonly message: string } | null
}

/** What a new volume is to be. What every door gives as it was typed: values are checked and parsed by the service. */
export interface NewVolume {
  readonly driver?: string | undefined
  readonly size?: string | undefined
  readonly onRemove?: string | undefined
  /** As `Hooks`; `timeout` is a duration. */
  readonly preSnapshot?: string | undefined
  readonly postSnapshot?: string | undefined
  readonly hookContainer?: string | undefined
  readonly hookTimeout?: string | undefined
  readonly labels?: Readonly<Record<string, string>> | undefined
  /** The driver's own options. */
  readonly options?: Readonly<Record<string, string>> | undefined
}

export interface CreateVolumeRequest extends NewVolume {
  readonly name: string
  readonly fromSnapshot?: string | undefined
  /** A BACKUP as `BackupRef` has it, or with `target` only what stands behind its slash. */
  readonly fromBackup?: string | undefined
  /** Name of the target whose credentials open `fromBackup`. */
  readonly target?: string | undefined
}

/** Hooks to change, as for a creation; an empty text removes one, and what is left out stays. */
export type UpdateVolumeRequest = Pick<
  CreateVolumeRequest,
  'preSnapshot' | 'postSnapshot' | 'hookContainer' | 'hookTimeout'
>

export interface VolumeFilter {
  readonly driver?: string | undefined
  /** `*` and `?` stand for any characters and any one character. */
  readonly name?: string | undefined
  /** `KEY` or `KEY=VALUE`; all must hold. */
  readonly labels?: readonly string[] | undefined
  /** True: only volumes that nothing mounts; false: only mounted ones. */
  readonly dangling?: boolean | undefined
}

/** How a door follows the work that its call starts. */
export interface CallOptions {
  /** Id for the operation, chosen by the caller (a UUID), so that it can watch and cancel it while it waits. */
  readonly operationId?: string | undefined
  /** Told once the operation is in the journal: from then it survives this process. */
  readonly onStarted?: ((id: string) => void) | undefined
}

export interface VolumeService {
  /**
   * Makes a volume, empty or from `fromSnapshot`. A call for a name that is being created with the same request joins it.
   * @returns the volume and whether it was there before (same name, nothing asked for that differs)
   * @throws INVALID_ARGUMENT, ALREADY_EXISTS (with the differences listed), NOT_FOUND, NOT_SUPPORTED, NO_SPACE, ABORTED
   */
  create(request: CreateVolumeRequest, call?: CallOptions): Promise<{ volume: VolumeView; existed: boolean }>
  /** O(volumes); `used` is null where it is not cheap. */
  list(filter?: VolumeFilter): VolumeView[]
  /** From the catalog and one O(1) look at the storage. @throws NOT_FOUND */
  inspect(name: string): Promise<VolumeView>
  /**
   * Removes a volume by its `onRemove`; `purge`: at once and for good.
   * @throws NOT_FOUND, IN_USE when a container or a process on this host really uses it, ABORTED when an operation runs on it
   */
  remove(name: string, options?: { readonly purge?: boolean } & CallOptions): Promise<void>
  resize(name: string, size: string, call?: CallOptions): Promise<VolumeView>
  /** Changes its hooks; what runs keeps those that it began with. @throws INVALID_ARGUMENT, PERMISSION_DENIED, FAILED_PRECONDITION */
  update(name: string, request: UpdateVolumeRequest): Promise<VolumeView>
  /** @returns bytes given back per volume @param names all that can be trimmed when empty */
  trim(names: readonly string[]): Promise<{ name: string; trimmed: Bytes }[]>
  /** Exact use; walks the data where there is no quota. @param names all when empty */
  usage(names: readonly string[]): Promise<{ name: string; used: Bytes | null; size: Bytes | null }[]>
}

/** What Docker's Get and List say of a volume: from local state alone, in O(1), whatever the storage does. */
export interface DockerVolume {
  readonly name: string
  readonly mountpoint: string
  readonly createdAt: Timestamp
  /** Shown by `docker volume inspect`. */
  readonly status: Readonly<Record<string, unknown>>
}

export interface MountService {
  /** Local state only; undefined when there is no such volume. O(1). */
  get(name: string): DockerVolume | undefined
  /** Name and mountpoint of every volume. */
  list(): readonly { readonly name: string; readonly mountpoint: string }[]
  /** Rises with every change that `list` or `get` would show; lets a door keep a rendered answer. */
  readonly generation: number
  /** Counts one Mount of `mountId` and sees to it that the volume is mounted. @returns an absolute, existing directory */
  mount(name: string, mountId: string): Promise<string>
  /**
   * Takes one Mount of `mountId` back. The volume is unmounted when no id holds it and no mount namespace of the host shows
   * it. An id that is not known is success.
   */
  unmount(name: string, mountId: string): Promise<void>
  /** Shows a mounted volume at the directory `at` as well, until it is unmounted. @throws FAILED_PRECONDITION, INVALID_ARGUMENT */
  bind(name: string, at: string): Promise<void>
  /** dockerd has restarted: every count becomes 1 and stale. */
  resetCounts(): Promise<void>
}

export interface SnapshotService {
  /**
   * @param request.name default: `auto-` and the time in UTC, `auto-20261123-100000`
   * @param request.pause pause the containers that use the volume (through Docker) while a slow copy is made
   */
  create(
    volume: string,
    request: {
      name?: string | undefined
      labels?: Readonly<Record<string, string>> | undefined
      pause?: boolean | undefined
      /** Instead of the volume's own; a duration. */
      hookTimeout?: string | undefined
    },
    call?: CallOptions,
  ): Promise<SnapshotView>
  list(volume?: string): SnapshotView[]
  inspect(volume: string, snapshot: string): SnapshotView
  remove(volume: string, snapshot: string, call?: CallOptions): Promise<void>
  /** @throws IN_USE while the volume is used */
  revert(volume: string, snapshot: string, call?: CallOptions): Promise<void>
  /** Mounts it read-only; a second call changes nothing. @returns the mountpoint @param at also bind-mount it there */
  mount(volume: string, snapshot: string, at?: string): Promise<string>
  unmount(volume: string, snapshot: string): Promise<void>
  /** Compares two snapshots, `VOLUME@S` each; `changes` are what happened from `from` to `to`. */
  diff(
    from: string,
    to: string,
    call?: CallOptions,
  ): Promise<{ path: string; change: 'added' | 'removed' | 'modified' }[]>
}

export interface TrashService {
  list(): TrashView[]
  /** @param ref name or id; of several with one name, the one deleted last. @returns the volume under its name or `as` */
  restore(ref: string, as?: string): Promise<VolumeView>
  /**
   * Purges for good. @param refs names or ids; none: everything that has a purge time.
   * @returns the names of the volumes that are gone
   */
  empty(refs: readonly string[]): Promise<string[]>
}

/** A repository as a user names it: a target's name or a URL; `access` is for a URL that is no target's. */
export interface RepositoryRef {
  readonly at: string
  readonly access?: StoreAccess | undefined
}

/**
 * A backup as a user names it: `TARGET/ID` or `URL?backup=ID`; an id may be cut to 8 digits that are nobody else's. Instead of the id:
 * `VOLUME@latest`, or `latest` where only one volume can be meant.
 */
export interface BackupRef {
  readonly backup: string
  readonly access?: StoreAccess | undefined
}

export interface TargetView {
  readonly name: string
  readonly url: string
  readonly access: StoreAccess
  readonly encrypted: boolean
  readonly repositoryId: string
  readonly createdAt: Timestamp
}

/** What a look at a store and its repository has shown. */
export interface TargetCheck {
  readonly name: string
  readonly url: string
  readonly store: {
    readonly kind: string
    readonly ifAbsent: 'kept' | 'ignored'
    readonly listing: 'at once' | 'late'
    readonly details: Readonly<Record<string, string>>
  }
  readonly backups: number
}

export interface PassphraseView {
  readonly id: string
  readonly label: string
  readonly createdAt: Timestamp
  /** Whether it is the one in the target's own file. */
  readonly inUse: boolean
}

export interface TargetService {
  /**
   * Remembers a repository, and makes it when there is none. The same again is success while that repository is there.
   * @throws ALREADY_EXISTS for another one of that name; INVALID_ARGUMENT for a directory among Holdfast's own data or within a
   * volume; FAILED_PRECONDITION, PERMISSION_DENIED when it cannot be opened
   */
  add(name: string, url: string, access?: StoreAccess): Promise<TargetView>
  list(): TargetView[]
  inspect(name: string): TargetView & { readonly passphrases?: readonly PassphraseView[] }
  /** Forgets it; the repository stays. @throws IN_USE while a schedule names it */
  remove(name: string): Promise<void>
  /** Writes, reads and deletes small objects, and opens the repository. */
  check(name: string): Promise<TargetCheck>
  passphrases(name: string): Promise<PassphraseView[]>
  /** @param file of this node; its first line is one more passphrase */
  addPassphrase(name: string, file: string, label?: string): Promise<PassphraseView>
  /** @throws FAILED_PRECONDITION for the last one and for the target's own */
  removePassphrase(name: string, id: string): Promise<void>
}

export interface BackupView {
  readonly id: string
  readonly url: string
  readonly volume: string
  readonly snapshot: string | null
  readonly createdAt: Timestamp
  /** Logical bytes. */
  readonly size: Bytes
  /** Bytes that it stored. */
  readonly added: Bytes
  readonly kind: 'tree' | 'block'
  readonly host: string
  readonly labels: Readonly<Record<string, string>>
  readonly parent: string | null
  /** Entries of a tree; 0 for a block backup. */
  readonly files: number
  /** Files that changed while they were read; 0 for a backup of an atomic snapshot. */
  readonly changed: number
}

export interface BackupFileView {
  readonly path: string
  readonly type: 'file' | 'directory' | 'symlink' | 'fifo' | 'character' | 'block' | 'socket'
  /** Permission bits. */
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly size: Bytes
  readonly modifiedAt: Timestamp
  /** Of a symlink. */
  readonly target: string | null
}

export interface CreateBackupRequest {
  readonly volume: string
  /** An existing snapshot to read; without one, a snapshot is made for it where that is cheap, and removed after. */
  readonly snapshot?: string | undefined
  readonly to: RepositoryRef
  readonly labels?: Readonly<Record<string, string>> | undefined
  /** As for a snapshot, when the volume itself is read. */
  readonly pause?: boolean | undefined
}

/** What a new volume is to be cannot be said with `inPlace`. */
export interface RestoreRequest extends NewVolume {
  readonly from: BackupRef
  /** The volume to make, or with `inPlace` the one whose content is replaced. */
  readonly to: string
  /** Only this path and what is below it. */
  readonly path?: string | undefined
  readonly inPlace?: boolean | undefined
}

/** The volume, and what is in it now. */
export interface RestoredView extends VolumeView {
  readonly restoredFrom: BackupView
}

export interface ForgetDecision {
  readonly backup: BackupView
  readonly keep: boolean
  readonly reasons: readonly string[]
}

export interface PruneView {
  readonly deleted: { readonly packs: number; readonly bytes: Bytes }
  /** What a prune after the grace period will delete. */
  readonly condemned: { readonly packs: number; readonly bytes: Bytes }
  readonly copied: Bytes
  readonly remaining: Bytes
}

export interface VerifyView {
  readonly backups: number
  readonly packs: number
  readonly chunks: number
  readonly bytesRead: Bytes
  /** Empty when all is well. */
  readonly problems: readonly { readonly object: string; readonly fact: string }[]
  readonly damaged: readonly { readonly url: string; readonly volume: string; readonly paths: readonly string[] }[]
}

export interface ForgetRules {
  readonly volume: string
  /** Retention such as `last=3,daily=7`. */
  readonly keep: string
  /** Only backups with all of these labels; the others are neither counted nor removed. */
  readonly labels?: Readonly<Record<string, string>> | undefined
  /** Only those of this node; default: of each, by itself. */
  readonly host?: string | undefined
  readonly timeZone?: string | undefined
  readonly dryRun?: boolean | undefined
  readonly prune?: boolean | undefined
}

export interface BackupService {
  /** @throws NOT_FOUND, IN_USE, UNAVAILABLE, NO_SPACE, CANCELLED; a crash of the daemon in the middle: it goes on after the restart */
  create(request: CreateBackupRequest, call?: CallOptions): Promise<BackupView>
  /** Oldest first. */
  list(where: RepositoryRef, volume?: string): Promise<BackupView[]>
  inspect(ref: BackupRef): Promise<BackupView>
  /** In the order of the tree, a page at a time; waits for `take`. @param path '' for all @throws NOT_SUPPORTED for a block backup */
  listFiles(
    ref: BackupRef,
    path: string,
    take: (files: readonly BackupFileView[]) => Promise<void>,
    signal?: AbortSignal,
  ): Promise<void>
  /**
   * Makes a volume from a backup, or replaces one's content, after a snapshot `before-restore-TIME` of it. The volume shows when
   * it is complete. @throws ALREADY_EXISTS for a volume of that name without `inPlace`, IN_USE, FAILED_PRECONDITION when `latest`
   * does not say which
   */
  restore(request: RestoreRequest, call?: CallOptions): Promise<RestoredView>
  /** @returns their URLs @throws INVALID_ARGUMENT for `latest` */
  remove(refs: readonly BackupRef[]): Promise<string[]>
  /** Damage is the result, not an error; the operation's entry shows it as one. @param where a repository, or one backup of it */
  verify(
    where: RepositoryRef | BackupRef,
    options: { readonly readData: boolean },
    call?: CallOptions,
  ): Promise<VerifyView>
  /** Writes the indexes anew from the packs; with `readData` saves what is sound in damaged packs. */
  repair(
    where: RepositoryRef,
    options: { readonly readData: boolean },
    call?: CallOptions,
  ): Promise<{ packs: number; leftOut: readonly { object: string; fact: string }[]; lostChunks: number }>
  /** @returns what was decided about each, newest first */
  forget(
    where: RepositoryRef,
    rules: ForgetRules,
    call?: CallOptions,
  ): Promise<{ decisions: ForgetDecision[]; prune: PruneView | null }>
  prune(where: RepositoryRef, options: { readonly dryRun: boolean }, call?: CallOptions): Promise<PruneView>
}

export interface ScheduleView {
  readonly name: string
  readonly volume: string
  readonly cron: string
  readonly timeZone: string
  readonly snapshot: boolean
  readonly target: string | null
  readonly keep: string | null
  readonly keepSnapshots: string | null
  readonly jitterMs: number
  readonly createdAt: Timestamp
  /** `asleep`: its volume is in the trash; it goes on when that, or another one of its name, is alive. */
  readonly status: 'ok' | 'running' | 'failing' | 'paused' | 'asleep'
  readonly nextRunAt: Timestamp | null
  readonly lastRunAt: Timestamp | null
  readonly lastSuccessAt: Timestamp | null
  readonly failures: number
  readonly lastError: { readonly code: string; readonly message: string } | null
}

export interface CreateScheduleRequest {
  readonly volume: string
  readonly cron: string
  /** Default: VOLUME, with `-2`, `-3` … behind it when that is taken. */
  readonly name?: string | undefined
  /** Default: the daemon's own. */
  readonly timeZone?: string | undefined
  readonly snapshot?: boolean | undefined
  readonly target?: string | undefined
  readonly keep?: string | undefined
  readonly keepSnapshots?: string | undefined
  /** A duration; default 0. */
  readonly jitter?: string | undefined
}

export interface ScheduleService {
  /**
   * The same again, under any name when none is given, is success and makes nothing.
   * @throws INVALID_ARGUMENT for a cron expression, time zone or retention; ALREADY_EXISTS, with the differences listed, for another one of that
   * name; NOT_FOUND for volume or target
   */
  create(request: CreateScheduleRequest): Promise<ScheduleView>
  list(volume?: string): ScheduleView[]
  inspect(name: string): ScheduleView
  remove(name: string): Promise<void>
  /** Runs it now and waits for it; a run under way is joined. @throws what the run throws; FAILED_PRECONDITION while it is asleep */
  run(name: string, call?: CallOptions): Promise<ScheduleView>
  pause(name: string): Promise<ScheduleView>
  /** @throws FAILED_PRECONDITION while it is asleep */
  resume(name: string): Promise<ScheduleView>
}

/** Wherever an id is asked for, its first 8 digits or more do, when they are nobody else's. */
export interface OperationService {
  /** Running ones; with `all` the finished ones that are still remembered too. */
  list(all?: boolean): OperationView[]
  /** @throws NOT_FOUND */
  inspect(id: string): OperationView
  /** Asks a running one to stop; it has ended when its state says so. @throws NOT_FOUND, FAILED_PRECONDITION when it has ended */
  cancel(id: string): OperationView
}

export interface DriverView {
  readonly name: string
  readonly scope: 'local' | 'global'
  readonly state: 'starting' | 'ready' | 'failed'
  /** Why it is not ready. */
  readonly error?: string
  readonly volumes: number
  readonly capabilities: readonly string[]
  readonly facts: Readonly<Record<string, string>>
  readonly storage: { readonly size: Bytes; readonly free: Bytes } | null
}

export interface InfoView {
  readonly version: string
  readonly node: string
  readonly pid: number
  readonly startedAt: Timestamp
  readonly root: string
  readonly socket: string
  readonly pluginSocket: string
  readonly defaultDriver: string
  readonly drivers: readonly DriverView[]
  readonly counts: {
    readonly volumes: number
    readonly mounted: number
    readonly snapshots: number
    readonly trash: number
    readonly schedules: number
  }
  readonly targets: readonly TargetView[]
  readonly trashKeepMs: number
}

export interface NodeService {
  info(): Promise<InfoView>
  /** Findings, errors first; empty when all is well. Each check has a deadline: one that hangs is itself a finding. */
  doctor(): Promise<Finding[]>
}

/** Everything behind the doors. */
export interface Services {
  readonly version: string
  readonly volumes: VolumeService
  readonly mounts: MountService
  readonly snapshots: SnapshotService
  readonly trash: TrashService
  readonly targets: TargetService
  readonly backups: BackupService
  readonly schedules: ScheduleService
  readonly operations: OperationService
  readonly node: NodeService
}
