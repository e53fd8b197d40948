/** What the doors may ask of targets, backups and restores. Rules for all of it are in ../contract.ts. */

import type { Bytes, StoreAccess, Timestamp } from '../../model.ts'
import type { CallOptions } from '../journal/contract.ts'
import type { NewVolume, VolumeView } from '../volumes/contract.ts'

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
  /** A verify found that it lacks something. */
  readonly damaged?: true
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
