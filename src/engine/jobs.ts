/**
 * The table of jobs: what the daemon may ask a job's process for, by name. Each opens its place, does one thing to the
 * repository and returns what is to be said of it. Loaded in that process only; the daemon knows its types.
 */

import { isAppError } from '../errors.ts'
import type { StoreFacts } from '../objectstore/objectstore.ts'
import { type ProbeResult, probeStore } from '../objectstore/probe.ts'
import type { BlockBackupArgs } from '../repository/block-backup.ts'
import type { BlockRestoreArgs } from '../repository/block-restore.ts'
import type { VerifyArgs } from '../repository/check.ts'
import type { RepositoryConfig } from '../repository/config.ts'
import type { PassphraseInfo } from '../repository/keys.ts'
import type { ListedFile, ListFilesArgs } from '../repository/list-files.ts'
import type { Backup } from '../repository/manifest.ts'
import type { Repository } from '../repository/repository.ts'
import type { TreeBackupArgs } from '../repository/tree-backup.ts'
import type { TreeRestoreArgs } from '../repository/tree-restore.ts'
import { type ForgetArgs, forget, lineOf } from './forget.ts'
import { readPassphrase } from './passphrase.ts'
import { removeEmpty } from './repository-directory.ts'
import type { Site } from './site.ts'

/** How a job is watched. */
export interface JobWatch {
  readonly signal: AbortSignal
  progress(done: number, total: number | null, unit: 'bytes' | 'files'): void
  /** Hands out items; the job goes on when they have been taken. */
  take(items: readonly unknown[]): Promise<void>
}

/** What identifies an opened repository. */
export interface RepositoryFacts {
  readonly repositoryId: string
  readonly encryption: RepositoryConfig['encryption']
}

/** A backup, and whether a verify found that it lacks something. */
export interface ListedBackup extends Backup {
  readonly damaged: boolean
}

/** `auto`: the newest sound backup of the same line (forget.ts), if any. */
export type TreeBackupJob = Omit<TreeBackupArgs, 'graceMs' | 'parent'> & { readonly parent: string | null | 'auto' }

function factsOf({ config }: Repository): RepositoryFacts {
  return { repositoryId: config.id, encryption: config.encryption }
}

export const jobs = {
  /** Makes the repository, or opens the one that is there. */
  init: async (site: Site, { label }: { readonly label: string }): Promise<RepositoryFacts & { made: boolean }> => {
    try {
      return { ...factsOf(await site.init(label)), made: true }
    } catch (error) {
      if (!isAppError(error, 'ALREADY_EXISTS')) throw error
      return { ...factsOf(await site.open()), made: false }
    }
  },

  /** Tries whether the store does what it must; writes and deletes two small objects. */
  probe: async (site: Site, _: Record<never, never>): Promise<ProbeResult & { facts: StoreFacts }> => {
    const store = await site.store()
    try {
      const result = await probeStore(store, 'probe', { signal: site.signal })
      return { ...result, facts: store.facts }
    } finally {
      await removeEmpty(store, ['probe', '.tmp'])
    }
  },

  open: async (site: Site, _: Record<never, never>): Promise<RepositoryFacts> => factsOf(await site.open()),

  /** Oldest first. */
  listBackups: async (site: Site, { volume }: { readonly volume?: string }): Promise<ListedBackup[]> => {
    const repository = await site.open()
    const damaged = await repository.damagedBackups(site.signal)
    const backups = await repository.listBackups(new Map(), site.signal)
    return backups
      .filter((backup) => volume === undefined || backup.volume === volume)
      .map((backup) => ({ ...backup, damaged: damaged.has(backup.id) }))
  },

  getBackup: async (site: Site, { id }: { readonly id: string }): Promise<ListedBackup> => {
    const repository = await site.open()
    const backup = await repository.getBackup(id, site.signal)
    return { ...backup, damaged: (await repository.damagedBackups(site.signal)).has(id) }
  },

  backupTree: async (site: Site, args: TreeBackupJob, watch: JobWatch): Promise<Backup> => {
    const repository = await site.open()
    const parent = args.parent === 'auto' ? await newestTree(repository, args, site.signal) : args.parent
    return repository.backupTree({ ...args, parent }, watch)
  },

  /** Reads all when the parent has gone. */
  backupBlock: async (site: Site, args: Omit<BlockBackupArgs, 'graceMs'>, watch: JobWatch): Promise<Backup> => {
    const repository = await site.open()
    const hasParent = args.parent !== null && (await exists(repository, args.parent, site.signal))
    return repository.backupBlock(hasParent ? args : { ...args, parent: null, changed: null }, watch)
  },

  restoreTree: async (site: Site, args: TreeRestoreArgs, watch: JobWatch) =>
    (await site.open()).restoreTree(args, watch),

  /** @returns bytes written */
  restoreBlock: async (site: Site, args: BlockRestoreArgs, watch: JobWatch) =>
    (await site.open()).restoreBlock(args, watch),

  /** Hands out pages of `ListedFile`. */
  listFiles: async (site: Site, args: ListFilesArgs, watch: JobWatch): Promise<null> => {
    const take = (files: readonly ListedFile[]) => watch.take(files)
    await (await site.open()).listFiles(args, take, watch)
    return null
  },

  verify: async (site: Site, args: VerifyArgs, watch: JobWatch) => (await site.open()).verify(args, watch),

  repair: async (site: Site, args: { readonly readData: boolean }, watch: JobWatch) =>
    (await site.open()).repair(args, watch),

  deleteBackups: async (site: Site, { ids }: { readonly ids: readonly string[] }): Promise<null> => {
    await (await site.open()).deleteBackups(ids, site.signal)
    return null
  },

  forget: async (site: Site, args: ForgetArgs) => forget(await site.open(), args, site.signal),

  prune: async (site: Site, args: { readonly dryRun: boolean }, watch: JobWatch) =>
    (await site.open()).prune(args, watch),

  addPassphrase: async (
    site: Site,
    args: { readonly file: string; readonly label: string },
  ): Promise<PassphraseInfo> => {
    const passphrase = await readPassphrase(args.file)
    return (await site.open()).addPassphrase(passphrase, args.label)
  },

  listPassphrases: async (site: Site, _: Record<never, never>): Promise<PassphraseInfo[]> =>
    (await site.open()).listPassphrases(),

  removePassphrase: async (site: Site, { id }: { readonly id: string }): Promise<null> => {
    await (await site.open()).removePassphrase(id)
    return null
  },
}

type Jobs = typeof jobs

export type JobName = keyof Jobs
export type JobArgs<M extends JobName> = Parameters<Jobs[M]>[1]
export type JobResult<M extends JobName> = Awaited<ReturnType<Jobs[M]>>

async function newestTree(
  repository: Repository,
  { about }: TreeBackupJob,
  signal: AbortSignal,
): Promise<string | null> {
  const damaged = await repository.damagedBackups(signal)
  const isParent = (backup: Backup) =>
    backup.kind === 'tree' &&
    backup.volume === about.volume &&
    lineOf(backup) === lineOf(about) &&
    !damaged.has(backup.id)
  return (await repository.lastStored(isParent, signal))?.id ?? null
}

async function exists(repository: Repository, id: string, signal: AbortSignal): Promise<boolean> {
  try {
    await repository.getBackup(id, signal)
    return true
  } catch (error) {
    if (isAppError(error, 'NOT_FOUND')) return false
    throw error
  }
}
