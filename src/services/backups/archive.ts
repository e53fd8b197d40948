/**
 * The archive of a driver: copies of trees in a repository of its own, in a local directory, without encryption (the data lies
 * beside it in the clear). The engine does the work; here is who may do what at the same time. A prune keeps no grace period, so
 * that room comes back at once: it runs only while nothing is saved or restored, and gives way to both.
 */

import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { DriverContext, TreeArchive } from '../../driver.ts'
import type { Engine, EngineOptions } from '../../engine/engine.ts'
import { AppError } from '../../errors.ts'
import type { Bytes } from '../../model.ts'
import { ensureDirectory, lstatOrNothing, readdirOrNothing, removeEntry } from '../../system/files.ts'
import { orAborted, Turns } from '../../system/turns.ts'
import { version } from '../../version.ts'
import { settleTimes } from './settle-times.ts'

/** Where a repository's leases are (src/repository/FORMAT.md 2). */
const leasesFolder = 'leases'

/** Saves and restores at work at once: each takes a process of its own. */
const mostAtOnce = 2

/** Of every copy: they are compared with those of their group, whatever the node is called by then. */
const host = 'archive'

/** One copy, by the backup that it is. */
interface Copy {
  readonly backup: string
  readonly added: Bytes
}

type Copies = Map<string, Copy>

interface Pruning {
  readonly giveWay: AbortController
  /** Resolves whatever becomes of it. */
  readonly ended: Promise<void>
}

export class Archive implements TreeArchive {
  readonly #engine: Engine
  readonly #directory: string
  readonly #turns = new Turns(mostAtOnce)
  /** What the repository was seen to hold, kept up with every change; undefined when that is not sure. */
  #copies: Copies | undefined
  #listing: Promise<Copies> | undefined
  #users = 0
  #idle: PromiseWithResolvers<void> | undefined
  #pruning: Pruning | undefined

  constructor(engine: Engine, directory: string) {
    this.#engine = engine
    this.#directory = directory
  }

  save(ctx: DriverContext, root: string, { id, group }: { readonly id: string; readonly group: string }) {
    return this.#use(ctx.signal, async () => {
      await ensureDirectory(this.#directory, 0o700)
      const there = (this.#copies ?? (await this.#list(ctx))).get(id)
      if (there) return { added: there.added }
      const about = { createdAt: new Date().toISOString(), host, volume: group, snapshot: id, labels: {} }
      const labelled = { ...about, program: `holdfast ${version}` }
      await settleTimes(root, ctx.signal)
      const args = { root, about: labelled, parent: 'auto' } as const
      const { id: backup, added } = await this.#run(ctx, () =>
        this.#engine.run(this.#place, 'backupTree', args, watched(ctx)),
      )
      this.#copies?.set(id, { backup, added })
      return { added }
    })
  }

  async find(ctx: DriverContext, id: string): Promise<{ added: Bytes } | null> {
    this.#copies = undefined // Somebody may have been at the directory.
    const found = await this.#lookUp(ctx, id)
    return found ? { added: found.added } : null
  }

  restore(ctx: DriverContext, id: string, directory: string): Promise<void> {
    return this.#use(ctx.signal, async () => {
      const found = await this.#lookUp(ctx, id)
      if (!found) throw new AppError('NOT_FOUND', `the archive ${this.#directory} holds no copy ${id} any more`)
      const args = { backup: found.backup, target: directory, path: '' }
      await this.#run(ctx, () => this.#engine.run(this.#place, 'restoreTree', args, watched(ctx)))
    })
  }

  async delete(ctx: DriverContext, ids: readonly string[]): Promise<void> {
    const { signal } = ctx
    const found = await Promise.all(ids.map((id) => this.#lookUp(ctx, id)))
    const backups = found.flatMap((copy) => copy?.backup ?? [])
    if (backups.length === 0) return
    await this.#run(ctx, () => this.#engine.run(this.#place, 'deleteBackups', { ids: backups }, { signal }))
    for (const id of ids) this.#copies?.delete(id)
  }

  async prune(ctx: DriverContext): Promise<void> {
    if (!(await this.#exists())) return
    do await orAborted(this.#untilIdle(), ctx.signal)
    while (!(await this.#pruneUnlessUsed(ctx)))
  }

  get #place() {
    return { url: pathToFileURL(this.#directory).href, graceMs: 0 }
  }

  async #exists(): Promise<boolean> {
    return (await lstatOrNothing(this.#directory)) !== undefined
  }

  /** The copy of this id; one that is not known is looked for. */
  async #lookUp(ctx: DriverContext, id: string): Promise<Copy | undefined> {
    if (!(await this.#exists())) return undefined
    // A look that was under way already may have passed by what came meanwhile: then one more.
    const looks = [async () => this.#copies, () => this.#list(ctx), () => this.#list(ctx)]
    for (const look of looks) {
      const found = (await look())?.get(id)
      if (found) return found
    }
    return undefined
  }

  /** One look serves all who ask meanwhile, so it is nobody's to cancel. */
  #list({ signal }: DriverContext): Promise<Copies> {
    this.#listing ??= this.#listAll().finally(() => {
      this.#listing = undefined
    })
    return orAborted(this.#listing, signal)
  }

  async #listAll(): Promise<Copies> {
    await this.#engine.run(this.#place, 'init', { label: '' })
    const backups = await this.#engine.run(this.#place, 'listBackups', {})
    this.#copies = new Map(
      backups.flatMap(({ id, snapshot, added }) => (snapshot === null ? [] : [[snapshot, { backup: id, added }]])),
    )
    return this.#copies
  }

  /** After a failure it is not known any more what is there: it may have come when all was done. */
  async #run<T>({ signal }: DriverContext, job: () => Promise<T>): Promise<T> {
    try {
      return await job()
    } catch (error) {
      this.#copies = undefined
      throw signal.aborted ? signal.reason : error
    }
  }

  /** Runs `work` when it is its turn, while no prune does. */
  async #use<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    this.#users++
    this.#pruning?.giveWay.abort(new AppError('ABORTED', 'a save or a restore comes first'))
    try {
      await orAborted(this.#pruning?.ended ?? Promise.resolve(), signal)
      return await this.#turns.with(signal, work)
    } finally {
      this.#users--
      if (this.#users === 0) this.#wake()
    }
  }

  get #isIdle(): boolean {
    return this.#users === 0 && this.#pruning === undefined
  }

  #wake(): void {
    this.#idle?.resolve()
    this.#idle = undefined
  }

  async #untilIdle(): Promise<void> {
    while (!this.#isIdle) {
      this.#idle ??= Promise.withResolvers()
      await this.#idle.promise
    }
  }

  /** @returns false when it has given way, or somebody else was faster */
  async #pruneUnlessUsed(ctx: DriverContext): Promise<boolean> {
    if (!this.#isIdle) return false
    const giveWay = new AbortController()
    const work = this.#pruneTwice(AbortSignal.any([ctx.signal, giveWay.signal]))
    const settled = () => {
      this.#pruning = undefined
      this.#wake()
    }
    this.#pruning = { giveWay, ended: work.then(settled, settled) }
    try {
      await work
      return true
    } catch (error) {
      ctx.signal.throwIfAborted()
      if (giveWay.signal.aborted) return false
      throw error
    }
  }

  /** The first run condemns what no copy needs; without a grace period the second one may delete it. */
  async #pruneTwice(signal: AbortSignal): Promise<void> {
    const run = () => this.#engine.run(this.#place, 'prune', { dryRun: false }, { signal })
    await this.#breakLeases()
    if ((await run()).condemned.packs > 0) await run()
  }

  /** Nobody else prunes here: a lease that stands is of a prune that was ended in its middle, and would hold up the next one. */
  async #breakLeases(): Promise<void> {
    const leases = join(this.#directory, leasesFolder)
    for (const name of await readdirOrNothing(leases)) await removeEntry(join(leases, name))
  }
}

function watched(ctx: DriverContext): EngineOptions {
  return { signal: ctx.signal, progress: (done, total, unit) => ctx.progress(done, total, unit) }
}
