/**
 * Keeps looking at a share: hears the other nodes' signs of life, tells what has changed, and whether the server
 * answers. Each look is one at a time; one that hangs is told as a server that is away.
 */

import type { Log, SharedNews, SharedVolume } from '../../src/driver.ts'
import { toAppError } from '../../src/errors.ts'
import { isTrashed } from '../../src/model.ts'
import { isStale } from './json-file.ts'
import { type FolderKey, readAll, readVolume } from './records.ts'
import type { Share } from './share.ts'

/** Between two looks. */
const lookMs = 400
/** A look takes some round trips: after so long it is asked whether the server is there at all. */
const doubtMs = 3_000
const probeMs = 3_000
/** What is there, and has not answered for so long, is away as well. */
const slowMs = 30_000
/** Everything is read anew, in case something was missed. */
const allMs = 300_000

export interface WatcherOptions {
  readonly share: Share
  readonly log: Log
  tell(news: SharedNews): void
  /** Whether the server can be reached at all. */
  isThere(timeoutMs: number): Promise<boolean>
  /** What is mounted is not what it was: it has to be opened anew. */
  stale(): void
}

export class Watcher {
  readonly #options: WatcherOptions
  #timer: NodeJS.Timeout | undefined
  readonly #known = new Map<FolderKey, SharedVolume>()
  #reason: string | null = null
  #looking: number | undefined
  #probing = false
  #isListed = false
  #readAllAt = Number.NEGATIVE_INFINITY
  /** Whether anybody wants to know what is on the share. */
  #watched = false

  constructor(options: WatcherOptions) {
    this.#options = options
  }

  /** Why the server does not answer; null: it does. */
  get away(): string | null {
    return this.#reason
  }

  start(): void {
    this.#timer = setInterval(() => void this.#look(), lookMs)
    void this.#look()
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  /** From now on everything is told. */
  watch(): void {
    this.#watched = true
    this.#isListed = false
  }

  async #look(): Promise<void> {
    const now = performance.now()
    if (this.#looking !== undefined) {
      if (now - this.#looking > doubtMs) await this.#doubt(this.#looking)
      return
    }
    this.#looking = now
    try {
      await this.#lookOnce()
    } catch (error) {
      if (isStale(error)) this.#options.stale()
      this.#reach(toAppError(error).message)
    } finally {
      this.#looking = undefined
    }
  }

  async #doubt(begun: number): Promise<void> {
    if (this.#probing) return
    this.#probing = true
    const isThere = await this.#options.isThere(probeMs)
    this.#probing = false
    const seconds = Math.round((performance.now() - begun) / 1000)
    if (this.#looking === begun && (!isThere || seconds * 1000 > slowMs)) this.#reach(`no answer for ${seconds} s`)
  }

  async #lookOnce(): Promise<void> {
    const { nodes, own, label } = this.#options.share
    const { changes, isNew } = await nodes.look()
    if (!nodes.list().some(({ self }) => self) && !(await own.isThere())) return this.#vanished()
    this.#reach(null)
    if (!this.#watched) return
    if (isNew || !this.#isListed) this.#options.tell({ kind: 'nodes', storage: label, nodes: nodes.list() })
    const isDue = !this.#isListed || changes === null || performance.now() - this.#readAllAt > allMs
    if (isDue) await this.#tellAll()
    else for (const key of new Set(changes)) await this.#tellOf(key)
  }

  /** This node's own record is not there: what is mounted is not what it was, and says nothing of what is gone. */
  #vanished(): void {
    this.#reach('the records of its nodes are gone; see whether its disk is mounted on the server')
    this.#options.stale()
  }

  async #tellAll(): Promise<void> {
    const { label, work } = this.#options.share
    this.#readAllAt = performance.now()
    const all = await readAll(work.layout)
    this.#known.clear()
    for (const [key, volume] of all) this.#known.set(key, volume)
    this.#isListed = true
    this.#options.tell({ kind: 'listing', storage: label, volumes: [...all.values()] })
  }

  async #tellOf(key: FolderKey): Promise<void> {
    const { label, work } = this.#options.share
    const before = this.#known.get(key)
    const volume = await readVolume(work.layout, key)
    if (volume) {
      this.#known.set(key, volume)
      this.#options.tell({ kind: 'changed', storage: label, volume })
    } else this.#known.delete(key)
    const { id } = before?.volume ?? {}
    if (id === undefined || id === volume?.volume.id) return
    // It may just have moved, which is told of its new place.
    const isElsewhere =
      [...this.#known.values()].some((other) => other.volume.id === id) || (await this.#isTrashed(before))
    if (!isElsewhere) this.#options.tell({ kind: 'gone', storage: label, volumeId: id })
  }

  async #isTrashed(before: SharedVolume | undefined): Promise<boolean> {
    if (!before || isTrashed(before.volume)) return false
    const { id, name } = before.volume
    return (await readVolume(this.#options.share.work.layout, `trash/${name}~${id}`)) !== null
  }

  #reach(reason: string | null): void {
    if (reason === this.#reason) return
    const changed = (reason === null) !== (this.#reason === null)
    this.#reason = reason
    if (!changed) return
    if (reason === null) this.#isListed = false
    const { label } = this.#options.share
    this.#options.log[reason === null ? 'info' : 'warn'](
      { share: label, reason },
      reason === null ? 'the NFS server answers' : 'the NFS server does not answer',
    )
    this.#options.tell({ kind: 'reach', storage: label, reason })
  }
}
