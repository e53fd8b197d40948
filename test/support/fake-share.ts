/**
 * Storage in memory that several cores use at once, each through a fake driver of its own, as nodes use an NFS server: what it says of
 * a volume is told by where that is, then by its record. Tests take it away, make it forget, and keep its news back.
 */

import { setTimeout as pause } from 'node:timers/promises'
import type { DriverContext, SharedCapability, SharedNews, SharedNode, SharedVolume } from '../../src/driver.ts'
import { AppError } from '../../src/errors.ts'
import type { Snapshot, TrashedVolume, Volume } from '../../src/model.ts'
import type { FakeStorage } from './fake-driver.ts'

type Listener = (news: SharedNews) => void

/** What one node has done with it. */
interface Member {
  readonly mounts: Set<string>
  readonly listeners: Set<Listener>
  alive: boolean
}

const epoch = new Date(0).toISOString()

export class FakeShare {
  readonly label = 'nas:/data'
  readonly storage: FakeStorage = new Map()
  readonly records = new Map<string, { volume: Volume | TrashedVolume; snapshots: Map<string, Snapshot> }>()
  /** Names of volumes whose record nobody can read. */
  readonly damaged = new Set<string>()
  /** `key node` of each turn that was taken, in order. */
  readonly turns: string[] = []
  /** The node that may mount a volume for one node at a time, by its id. */
  readonly owners = new Map<string, string>()
  /** How long a turn is waited for. */
  waitMs = 5_000
  #away: string | null = null
  #isQuiet = false
  readonly #members = new Map<string, Member>()
  readonly #held = new Map<string, { readonly node: string; readonly lost: AbortController }>()
  /** Of each lease, the node that has it. */
  readonly leases = new Map<string, { readonly node: string; readonly lost: AbortController }>()

  get away(): string | null {
    return this.#away
  }

  /** Nobody reaches it any more, or (null) everybody does again. */
  setAway(reason: string | null): void {
    this.#away = reason
    this.#tell({ kind: 'reach', storage: this.label, reason })
    if (reason === null) this.list()
  }

  /** What is changed from now on is told by nobody. */
  keepQuiet(): void {
    this.#isQuiet = true
  }

  /** Tells everybody all that there is. */
  list(): void {
    this.#tell(this.#listing())
  }

  /** @throws UNAVAILABLE */
  requireReach(): void {
    if (this.#away !== null)
      throw new AppError('UNAVAILABLE', `the server of ${this.label} does not answer: ${this.#away}`)
  }

  /** A node has ended without a word. */
  die(node: string): void {
    this.#member(node).alive = false
    for (const all of [this.#held, this.leases]) {
      for (const [key, held] of all) if (held.node === node) all.delete(key)
    }
    this.#tellNodes()
  }

  /** A node's turn, lease or right is over, as when the server was away for too long. */
  lose(key: string): void {
    for (const all of [this.#held, this.leases]) {
      all.get(key)?.lost.abort(new AppError('ABORTED', `the turn for ${key} is over`))
      all.delete(key)
    }
  }

  fence(node: string, volumeId: string, detail: string): void {
    for (const listener of this.#member(node).listeners) {
      listener({ kind: 'lost', storage: this.label, volumeId, detail })
    }
  }

  holdTurn(key: string, node: string): void {
    this.#held.set(key, { node, lost: new AbortController() })
  }

  /** The volume was mounted by a node, or (false) is not any more. */
  mounted(node: string, id: string, isMounted: boolean): void {
    const { mounts } = this.#member(node)
    if (isMounted) mounts.add(id)
    else mounts.delete(id)
    this.#tellNodes()
  }

  /** @throws IN_USE with the other living node that mounts it */
  requireUnused(node: string, { id, name }: Pick<Volume, 'id' | 'name'>): void {
    const other = [...this.#members].find(([key, { alive, mounts }]) => key !== node && alive && mounts.has(id))
    if (other) throw new AppError('IN_USE', `volume ${name} is mounted on node ${other[0]}`)
  }

  /** @throws IN_USE with the living node that has it */
  claim(node: string, { id, name }: Volume, force = false): string | null {
    const owner = this.owners.get(id)
    if (owner !== undefined && owner !== node && this.#member(owner).alive && !force) {
      throw new AppError('IN_USE', `volume ${name} is mounted on node ${owner}`)
    }
    this.owners.set(id, node)
    return owner === undefined || owner === node ? null : owner
  }

  /** Something of a volume is elsewhere, or gone. */
  moved(id: string): void {
    const volume = this.#of(id)
    if (volume) this.#tell({ kind: 'changed', storage: this.label, volume })
    else if (this.records.delete(id)) this.#tell({ kind: 'gone', storage: this.label, volumeId: id })
  }

  /** What the driver of a node offers. What an earlier process of that node held for itself is free. */
  join(node: string): SharedCapability {
    this.die(node)
    this.#member(node).alive = true
    return {
      exclusive: (ctx, { key }, work) => this.#exclusive(node, ctx, key, work),
      publish: async (_ctx, volume, snapshots) => this.#publish(volume, snapshots),
      find: async (_ctx, { key }) => {
        this.requireReach()
        return this.#find(key)
      },
      watch: (signal, tell) => this.#watch(node, signal, tell),
      takeover: async (_ctx, volume, force) => {
        this.requireReach()
        if (volume.options['access'] !== 'single') throw new AppError('NOT_SUPPORTED', 'every node may mount it')
        return { from: this.claim(node, volume, force) }
      },
      lease: async (_ctx, { key }) => {
        this.requireReach()
        const held = this.leases.get(key)
        if (held && held.node !== node) return null
        const lease = { node, lost: new AbortController() }
        this.leases.set(key, lease)
        return { signal: lease.lost.signal, release: async () => void this.leases.delete(key) }
      },
    }
  }

  async #exclusive<T>(
    node: string,
    ctx: DriverContext,
    key: string,
    work: (ctx: DriverContext, now: SharedVolume | null) => Promise<T>,
  ): Promise<T> {
    for (let waited = 0; this.#held.has(key); waited += 10) {
      if (waited > this.waitMs) throw new AppError('ABORTED', `node ${this.#held.get(key)?.node} is changing ${key}`)
      await pause(10)
    }
    this.requireReach()
    const held = { node, lost: new AbortController() }
    this.#held.set(key, held)
    this.turns.push(`${key} ${node}`)
    try {
      return await work({ ...ctx, signal: AbortSignal.any([ctx.signal, held.lost.signal]) }, this.#find(key))
    } finally {
      if (this.#held.get(key) === held) this.#held.delete(key)
    }
  }

  #publish(volume: Volume | TrashedVolume, snapshots: readonly Snapshot[]): void {
    this.requireReach()
    if (!this.storage.has(volume.id)) throw new AppError('NOT_FOUND', `the data of volume ${volume.name} is gone`)
    const all = this.records.get(volume.id)?.snapshots ?? new Map<string, Snapshot>()
    for (const snapshot of snapshots) all.set(snapshot.id, snapshot)
    this.records.set(volume.id, { volume, snapshots: all })
    this.moved(volume.id)
  }

  #find(key: string): SharedVolume | null {
    const all = [...this.records.keys()].flatMap((id) => this.#of(id) ?? [])
    return all.find(({ volume }) => ('deletedAt' in volume ? volume.id : volume.name) === key) ?? null
  }

  #of(id: string): SharedVolume | null {
    const [record, stored] = [this.records.get(id), this.storage.get(id)]
    if (!record || !stored) return null
    const { name, trashed } = stored
    const { deletedAt = epoch, purgeAt = null, ...rest } = record.volume as Partial<TrashedVolume> & Volume
    const volume = trashed ? { ...rest, name, deletedAt, purgeAt } : { ...rest, name }
    if (this.damaged.has(name))
      return { volume: { ...volume, id: '', damage: 'its record cannot be read' }, snapshots: [] }
    return { volume, snapshots: [...record.snapshots.values()].filter((snapshot) => stored.snapshots.has(snapshot.id)) }
  }

  async #watch(node: string, signal: AbortSignal, tell: Listener): Promise<void> {
    const { listeners } = this.#member(node)
    listeners.add(tell)
    tell({ kind: 'reach', storage: this.label, reason: this.#away })
    if (this.#away === null) {
      tell({ kind: 'nodes', storage: this.label, nodes: this.#nodes(node) })
      tell(this.#listing())
    }
    await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
    listeners.delete(tell)
  }

  #listing(): SharedNews {
    const volumes = [...this.records.keys()].flatMap((id) => this.#of(id) ?? [])
    return { kind: 'listing', storage: this.label, volumes }
  }

  #nodes(self: string): SharedNode[] {
    return [...this.#members].map(([name, { alive, mounts }]) => {
      return { id: name, name, alive, self: name === self, mounts: [...mounts] }
    })
  }

  #tellNodes(): void {
    for (const [node, { listeners }] of this.#members) {
      for (const listener of listeners) listener({ kind: 'nodes', storage: this.label, nodes: this.#nodes(node) })
    }
  }

  #tell(news: SharedNews): void {
    if (this.#isQuiet && news.kind !== 'reach' && news.kind !== 'listing') return
    for (const { listeners } of this.#members.values()) for (const listener of listeners) listener(news)
  }

  #member(node: string): Member {
    const known = this.#members.get(node)
    if (known) return known
    const member = { mounts: new Set<string>(), listeners: new Set<Listener>(), alive: true }
    this.#members.set(node, member)
    return member
  }
}
