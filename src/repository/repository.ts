/**
 * A backup repository on an object store: what the services see of this folder. Opens it, and runs each job in workers of its own
 * (crew.ts), so that the caller's event loop stays free. Takes no locks and keeps nothing but the key in memory between calls.
 */

import { randomBytes } from 'node:crypto'
import { AppError, isAppError } from '../errors.ts'
import type { Bytes } from '../model.ts'
import type { ObjectStore } from '../objectstore/objectstore.ts'
import type { BlockBackupArgs } from './block-backup.ts'
import type { BlockRestoreArgs } from './block-restore.ts'
import type { VerifyArgs, VerifyResult } from './check.ts'
import { checkConfig, encodeConfig, newConfig, parseConfig, type RepositoryConfig } from './config.ts'
import { Crew, type CrewOptions, type Tools } from './crew.ts'
import { describeKey, type KeyCost, type PassphraseInfo, unwrapMasterKey, wrapMasterKey } from './keys.ts'
import { configName, folders, idOf, newId, objectName } from './layout.ts'
import type { ListedFile, ListFilesArgs } from './list-files.ts'
import { type Backup, parseManifest } from './manifest.ts'
import type { PruneResult } from './prune.ts'
import type { RepairResult } from './repair.ts'
import { Seal, type SealSecrets } from './seal.ts'
import type { TreeBackupArgs } from './tree-backup.ts'
import type { TreeRestoreArgs, TreeRestoreResult } from './tree-restore.ts'

export interface RepositoryOptions {
  readonly store: ObjectStore
  readonly tools: Tools
  /** Undefined for a repository without encryption. */
  readonly passphrase?: string | undefined
  /** The id that the repository must have; undefined: any. */
  readonly expectedId?: string | undefined
  /** What an earlier open found, to spare the work of finding it again; of no effect when it does not fit any more. */
  readonly knownKey?: KnownKey | undefined
  /** How long a prune waits between condemning and deleting (FORMAT.md 8.1); default 24 h. All nodes must agree on it. */
  readonly graceMs?: number | undefined
  /** Threads for the heavy part of a job; default 2. */
  readonly hands?: number | undefined
  readonly signal?: AbortSignal | undefined
}

/** What a passphrase opened. Secret: for memory only, never for a log, a disk or a command line. */
export interface KnownKey {
  readonly repositoryId: string
  /** The passphrase that it came by; once this is removed, the key counts as unknown. */
  readonly passphraseId: string
  readonly masterKey: Uint8Array
}

/** How a job is watched and cancelled. */
export interface JobOptions {
  readonly signal?: AbortSignal | undefined
  progress?(done: number, total: number | null, unit: 'bytes' | 'files'): void
}

const defaultGraceMs = 24 * 3_600_000

/**
 * Makes a new repository. @param cost of guessing the passphrase; only tests lower it
 * @throws ALREADY_EXISTS when there is one
 */
export async function initRepository(
  options: RepositoryOptions & { readonly keyLabel?: string; readonly cost?: KeyCost },
): Promise<Repository> {
  const { store, passphrase, signal } = options
  if (await store.stat(configName, { signal })) {
    throw new AppError('ALREADY_EXISTS', `${store.url} is a repository already; open it, or use another prefix`)
  }
  const masterKey = passphrase === undefined ? null : randomBytes(32)
  const config = newConfig(masterKey !== null)
  const repository = new Repository(options, config, { repositoryId: config.id, masterKey })
  if (passphrase !== undefined) await repository.addPassphrase(passphrase, options.keyLabel ?? '', options.cost)
  // Config last: a repository exists from then, and never without a key.
  await store.put(configName, encodeConfig(config, masterKey), { ifAbsent: true, signal })
  return repository
}

/**
 * Opens a repository. Takes about a third of a second with a passphrase, for each that it has.
 * @throws FAILED_PRECONDITION when there is none or another one than expected, or a passphrase is missing or superfluous; PERMISSION_DENIED for a wrong
 * one
 */
export async function openRepository(options: RepositoryOptions): Promise<Repository> {
  const { store, passphrase } = options
  const config = parseConfig(await readConfig(options), store.url)
  if (options.expectedId !== undefined && options.expectedId !== config.id) {
    throw new AppError(
      'FAILED_PRECONDITION',
      `another repository is at ${store.url} than the one that was added; is the right disk mounted?`,
    )
  }
  if (config.encryption === 'none' && passphrase !== undefined) {
    throw new AppError(
      'FAILED_PRECONDITION',
      `the repository ${store.url} is not encrypted, but a passphrase was given; is it the right one?`,
    )
  }
  if (config.encryption !== 'none' && passphrase === undefined) {
    throw new AppError('FAILED_PRECONDITION', `the repository ${store.url} is encrypted; give its passphrase`)
  }
  const key = passphrase === undefined ? null : await findKey(options, config, passphrase)
  const masterKey = key?.masterKey ?? null
  checkConfig(config, masterKey, store.url)
  return new Repository(options, config, { repositoryId: config.id, masterKey }, key)
}

async function readConfig({ store, expectedId, signal }: RepositoryOptions): Promise<Uint8Array> {
  try {
    return await store.get(configName, undefined, { signal })
  } catch (error) {
    if (!isAppError(error, 'NOT_FOUND')) throw error
    const fact =
      expectedId === undefined
        ? `${store.url} is no repository; make one with 'target add'`
        : `there is no repository at ${store.url} any more; is the disk mounted?`
    throw new AppError('FAILED_PRECONDITION', fact, { cause: error })
  }
}

async function findKey(
  { store, knownKey, signal }: RepositoryOptions,
  config: RepositoryConfig,
  passphrase: string,
): Promise<KnownKey> {
  if (knownKey?.repositoryId === config.id) {
    if (await store.stat(objectName('keys', knownKey.passphraseId), { signal })) return knownKey
  }
  for await (const { key } of store.list(folders.keys, { signal })) {
    const id = idOf('keys', key)
    if (!id) continue
    const masterKey = await unwrapMasterKey(config.id, id, await store.get(key, undefined, { signal }), passphrase)
    if (masterKey) return { repositoryId: config.id, passphraseId: id, masterKey }
  }
  throw new AppError('PERMISSION_DENIED', `the passphrase does not open the repository ${store.url}`)
}

export class Repository {
  readonly config: RepositoryConfig
  readonly graceMs: number
  /** What `openRepository` found by the passphrase; null without encryption and for a repository just made. */
  readonly knownKey: KnownKey | null
  readonly #store: ObjectStore
  readonly #tools: Tools
  readonly #hands: number
  readonly #secrets: SealSecrets
  readonly #seal: Seal

  /** Use `openRepository` or `initRepository`. */
  constructor(options: RepositoryOptions, config: RepositoryConfig, secrets: SealSecrets, key: KnownKey | null = null) {
    this.config = config
    this.knownKey = key
    this.graceMs = options.graceMs ?? defaultGraceMs
    this.#store = options.store
    this.#tools = options.tools
    this.#hands = options.hands ?? 2
    this.#secrets = secrets
    this.#seal = new Seal(secrets)
  }

  /**
   * Lets one more passphrase open the repository. Costs a third of a second for each that it has. @returns the id to remove it by
   * @throws ALREADY_EXISTS when it opens the repository already
   */
  async addPassphrase(passphrase: string, label: string, cost?: KeyCost): Promise<PassphraseInfo> {
    const { masterKey, repositoryId } = this.#secrets
    if (!masterKey) throw this.#notEncrypted()
    for (const { id } of await this.listPassphrases()) {
      const object = await this.#store.get(objectName('keys', id))
      if (!(await unwrapMasterKey(repositoryId, id, object, passphrase))) continue
      throw new AppError('ALREADY_EXISTS', `${this.#store.url} has this passphrase already: ${id}; choose another`)
    }
    const info = { id: newId('keys'), label, createdAt: new Date().toISOString() }
    const bytes = await wrapMasterKey(masterKey, passphrase, { ...info, repositoryId, cost })
    await this.#store.put(objectName('keys', info.id), bytes)
    return { ...info, inUse: false }
  }

  /** Who can open it. */
  async listPassphrases(): Promise<PassphraseInfo[]> {
    const keys: PassphraseInfo[] = []
    for await (const { key } of this.#store.list(folders.keys)) {
      const id = idOf('keys', key)
      if (!id) continue
      keys.push({ ...describeKey(id, await this.#store.get(key)), inUse: id === this.knownKey?.passphraseId })
    }
    return keys
  }

  /** Idempotent. @throws FAILED_PRECONDITION for the last one and for the one that opened the repository for this call; NOT_FOUND */
  async removePassphrase(id: string): Promise<void> {
    const keys = await this.listPassphrases()
    const key = keys.find((one) => one.id === id)
    if (!key) throw new AppError('NOT_FOUND', `the repository ${this.#store.url} has no passphrase ${id}`)
    if (keys.length === 1) {
      throw new AppError(
        'FAILED_PRECONDITION',
        `passphrase ${id} is the last one of ${this.#store.url}; add another before removing it`,
      )
    }
    if (key.inUse) {
      throw new AppError(
        'FAILED_PRECONDITION',
        `passphrase ${id} is the one that ${this.#store.url} is opened with here; write another of its passphrases into the passphrase file first`,
      )
    }
    await this.#store.delete([objectName('keys', id)])
  }

  #notEncrypted(): AppError {
    return new AppError(
      'FAILED_PRECONDITION',
      `the repository ${this.#store.url} is not encrypted and has no passphrases`,
    )
  }

  /** All backups, oldest first. One small object is read for each. @param known those that the caller has: they are not read again */
  async listBackups(known: ReadonlyMap<string, Backup> = new Map(), signal?: AbortSignal): Promise<Backup[]> {
    const backups: Promise<Backup | undefined>[] = []
    for await (const { key } of this.#store.list(folders.manifests, { signal })) {
      const id = idOf('manifests', key)
      if (id) backups.push(known.has(id) ? Promise.resolve(known.get(id)) : this.#readListed(id, signal))
      if (backups.length % 16 === 0) await Promise.allSettled(backups.slice(-16))
    }
    const found = (await Promise.all(backups)).filter((backup) => backup !== undefined)
    return found.sort((a, b) => (a.createdAt < b.createdAt ? -1 : a.createdAt > b.createdAt ? 1 : a.id < b.id ? -1 : 1))
  }

  /**
   * The backup that was stored last of those that `matches` wants. Reads no more than it must: all only when there is none. Passes over
   * those that cannot be read: nobody's backups stop for them.
   */
  async lastStored(matches: (backup: Backup) => boolean, signal?: AbortSignal): Promise<Backup | undefined> {
    const listed: { id: string; modifiedAt: Date }[] = []
    for await (const { key, modifiedAt } of this.#store.list(folders.manifests, { signal })) {
      const id = idOf('manifests', key)
      if (id) listed.push({ id, modifiedAt })
    }
    listed.sort((a, b) => b.modifiedAt.getTime() - a.modifiedAt.getTime())
    for (const { id } of listed) {
      const backup = await this.#readListed(id, signal).catch((error: unknown) => {
        if (isAppError(error, 'CORRUPT')) return undefined
        throw error
      })
      if (backup && matches(backup)) return backup
    }
    return undefined
  }

  async #readListed(id: string, signal?: AbortSignal): Promise<Backup | undefined> {
    try {
      return await this.getBackup(id, signal)
    } catch (error) {
      if (isAppError(error, 'NOT_FOUND')) return undefined // Forgotten since it was listed.
      throw error
    }
  }

  /** @throws NOT_FOUND, CORRUPT */
  async getBackup(id: string, signal?: AbortSignal): Promise<Backup> {
    const name = objectName('manifests', id)
    return parseManifest(id, this.#seal.openObject('M', name, await this.#store.get(name, undefined, { signal })))
  }

  /** Backs up a directory. Nothing exists before it has returned; interrupted, the next one finds what was stored. */
  backupTree(args: Omit<TreeBackupArgs, 'graceMs'>, options: JobOptions = {}): Promise<Backup> {
    const all = { ...args, graceMs: this.graceMs }
    return this.#healing(all, options, (parent) => this.#run('backupTree', { ...all, parent }, options))
  }

  /**
   * Backs up again, without the parent, when the parent's own tree turns out to be damaged: a verify finds what of it must not be relied on, and the new
   * backup stores that anew.
   */
  async #healing(
    { parent }: { readonly parent: string | null },
    { signal }: JobOptions,
    backUp: (parent: string | null) => Promise<Backup>,
  ): Promise<Backup> {
    try {
      return await backUp(parent)
    } catch (error) {
      if (parent === null || !isAppError(error, 'CORRUPT')) throw error
      await this.verify({ readData: false, backup: parent }, { signal })
      return await backUp(null)
    }
  }

  /** Restores a tree backup into an empty directory; interrupted, the same call goes on. */
  restoreTree(args: TreeRestoreArgs, options: JobOptions = {}): Promise<TreeRestoreResult> {
    return this.#run('restoreTree', args, options)
  }

  /** Backs up a device or an image. @throws INVALID_ARGUMENT for a parent of another kind */
  backupBlock(args: Omit<BlockBackupArgs, 'graceMs'>, options: JobOptions = {}): Promise<Backup> {
    const all = { ...args, graceMs: this.graceMs }
    return this.#healing(all, options, (parent) => {
      const changed = parent === null ? null : args.changed
      return this.#run('backupBlock', { ...all, parent, changed }, options)
    })
  }

  /** Restores a block backup onto a device or a file. @returns bytes written */
  restoreBlock(args: BlockRestoreArgs, options: JobOptions = {}): Promise<Bytes> {
    return this.#run('restoreBlock', args, options)
  }

  /** Opens a block backup for random reads. It holds a worker until it is closed. */
  async openBlock(backup: string, options: JobOptions = {}): Promise<BlockReader> {
    const crew = this.#crew(options)
    try {
      const size = await crew.step<Bytes>('openBlock', { backup })
      let last: Promise<unknown> = Promise.resolve()
      const read = (start: Bytes, end: Bytes): Promise<Uint8Array> => {
        const next = last.then(() => crew.step<Uint8Array>('readBlock', { start, end }))
        last = next.catch(() => undefined)
        return next
      }
      return { size, read, [Symbol.asyncDispose]: () => crew.stop() }
    } catch (error) {
      await crew.stop()
      throw error
    }
  }

  /** Gives the files of a tree backup in the order of the tree, a page at a time; waits for `take` before it reads on. */
  async listFiles(
    args: ListFilesArgs,
    take: (files: readonly ListedFile[]) => Promise<void>,
    options: JobOptions = {},
  ): Promise<void> {
    await this.#run('listFiles', args, options, (items) => take(items as readonly ListedFile[]))
  }

  /** Checks the repository; damage is the result, not an error. */
  verify(args: VerifyArgs, options: JobOptions = {}): Promise<VerifyResult> {
    return this.#run('verify', args, options)
  }

  /** Writes the indexes anew from the packs. */
  repair(args: { readonly readData: boolean }, options: JobOptions = {}): Promise<RepairResult> {
    return this.#run('repair', args, options)
  }

  /** Forgets backups: their data stays until a prune. Idempotent. */
  async deleteBackups(ids: readonly string[], signal?: AbortSignal): Promise<void> {
    const marks: string[] = []
    for await (const { key } of this.#store.list(folders.damaged, { signal })) {
      if (ids.some((id) => key.startsWith(`${folders.damaged}${id}/`))) marks.push(key)
    }
    await this.#store.delete([...ids.map((id) => objectName('manifests', id)), ...marks], { signal })
  }

  /** Ids of the backups that a verify found to lack something, and that none has found whole since. */
  async damagedBackups(signal?: AbortSignal): Promise<Set<string>> {
    const ids = new Set<string>()
    for await (const { key } of this.#store.list(folders.damaged, { signal })) {
      const id = idOf('damaged', key)
      if (id) ids.add(id.slice(0, 32))
    }
    return ids
  }

  /** Removes what no backup needs: what was found so one grace period ago, for good; what is found so now, at a later prune. */
  prune(args: { readonly dryRun: boolean }, options: JobOptions = {}): Promise<PruneResult> {
    return this.#run('prune', { ...args, graceMs: this.graceMs }, options)
  }

  #run<T>(job: string, args: unknown, options: JobOptions, take?: CrewOptions['take']): Promise<T> {
    return this.#crew(options, take).run<T>(job, args)
  }

  #crew(options: JobOptions, take?: CrewOptions['take']): Crew {
    return new Crew({
      store: this.#store,
      tools: this.#tools,
      secrets: this.#secrets,
      signal: options.signal ?? new AbortController().signal,
      hands: this.#hands,
      progress: options.progress ?? (() => undefined),
      ...(take && { take }),
    })
  }
}

/** Random reads of a block backup; several may be asked for at once. */
export interface BlockReader extends AsyncDisposable {
  readonly size: Bytes
  /** The bytes from `start` to `end`, at most 64 MiB. */
  read(start: Bytes, end: Bytes): Promise<Uint8Array>
}
