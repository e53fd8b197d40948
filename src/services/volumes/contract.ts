/** What the doors may ask of volumes, their mounts, and the trash. Rules for all of it are in ../contract.ts. */

import type { Bytes, Hooks, OnRemove, Timestamp } from '../../model.ts'
import type { CallOptions } from '../journal/contract.ts'

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
  /** Other nodes that have it mounted; `alive` when they were heard of in time. */
  readonly nodes: readonly { readonly name: string; readonly alive: boolean }[]
  readonly status: 'ok' | 'degraded' | 'missing'
  readonly statusDetail?: string
  readonly snapshots: readonly { readonly name: string; readonly createdAt: Timestamp }[]
  readonly lastBackup: { readonly url: string; readonly createdAt: Timestamp } | null
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

/** Who had the right to a volume that one node at a time may mount. */
export interface TakeoverView {
  readonly name: string
  /** The node that had it; null: nobody, or this one. */
  readonly from: string | null
  /** What may be lost or damaged by it; null: nothing. */
  readonly risk: string | null
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
  /**
   * Makes this node the one that may mount a volume with `access=single`, without mounting it. `force`: from a node that is alive, too.
   * @throws NOT_FOUND, NOT_SUPPORTED, IN_USE while the other node is alive, UNAVAILABLE
   */
  takeover(name: string, options: { readonly force: boolean }): Promise<TakeoverView>
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
  /** As `get`; one that this node does not know is looked for on storage that it shares with others, within 2 s. */
  find(name: string): Promise<DockerVolume | undefined>
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
