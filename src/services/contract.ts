/**
 * What the doors (the admin API in server/, Docker's protocol in plugin/) may ask of Holdfast. Services know no HTTP; every
 * method throws only `AppError`. Times are RFC 3339 UTC, sizes bytes; lists are ordered by creation time, oldest first.
 */

import type { Bytes, Finding, OnRemove, OperationState, Timestamp } from '../model.ts'

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
  } | null
  readonly startedAt: Timestamp
  readonly finishedAt: Timestamp | null
  readonly error: { readonly code: string; readonly message: string } | null
}

/** What every door gives as it was typed: values are checked and parsed by the service. */
export interface CreateVolumeRequest {
  readonly name: string
  readonly driver?: string | undefined
  readonly size?: string | undefined
  readonly onRemove?: string | undefined
  readonly fromSnapshot?: string | undefined
  readonly labels?: Readonly<Record<string, string>> | undefined
  /** The driver's own options. */
  readonly options?: Readonly<Record<string, string>> | undefined
}

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
  }
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
  readonly operations: OperationService
  readonly node: NodeService
}
