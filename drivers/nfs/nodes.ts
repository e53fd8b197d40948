/**
 * The nodes that use a share. Each has one file, which it alone writes: that it lives (a counter), what it has mounted,
 * and what it has changed last. The others read it: whether a node lives is told by its counter having moved within
 * `ttlMs` of the reader's own monotonic clock, so that clocks that are set differently mean nothing.
 */

import { lstat } from 'node:fs/promises'
import type { SharedNode } from '../../src/driver.ts'
import { AppError } from '../../src/errors.ts'
import { ignoring, readdirOrNothing } from '../../src/system/files.ts'
import type { Holder } from './claims.ts'
import { field, isObject, readJson, writeJson } from './json-file.ts'

/** How long things take, in ms. */
export interface LeaseTimes {
  /** Between two signs of life. */
  readonly beatMs: number
  /** Who has not been heard of for so long is dead to the others. */
  readonly ttlMs: number
  /** Who could not give a sign for so long gives up what it has, before the others may take it. */
  readonly fenceMs: number
}

export const usualTimes: LeaseTimes = { beatMs: 2_000, ttlMs: 20_000, fenceMs: 12_000 }

/** How many changes a node's file tells of: who has missed more reads everything anew. */
const keptChanges = 100

/** A node's file. */
interface NodeRecord {
  readonly node: string
  readonly name: string
  readonly session: string
  readonly beat: number
  /** Number of the last change. */
  readonly changed: number
  /** The last changes' keys, the newest last. */
  readonly changes: readonly string[]
  readonly mounts: readonly string[]
  /** It has ended in order, with nothing mounted. */
  readonly left: boolean
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value.length <= 1024
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.filter(isText) : []
}

/** @returns null when it is none */
function nodeRecord(content: unknown): NodeRecord | null {
  const [node, name, session] = ['node', 'name', 'session'].map((key) => field(content, key))
  if (!isObject(content) || node === undefined || name === undefined || session === undefined) return null
  const { beat, changed, left } = content
  if (!isCount(beat) || !isCount(changed)) return null
  return {
    node,
    name,
    session,
    beat,
    changed,
    changes: texts(content.changes),
    mounts: texts(content.mounts),
    left: left === true,
  }
}

/** This node's own file: every change of it is a sign of life. */
export class OwnNode {
  readonly me: Holder
  readonly #path: string
  readonly #clock: () => number
  #record: NodeRecord
  #renewedAt: number
  #writing: Promise<void> | undefined
  #waiting: PromiseWithResolvers<void> | undefined

  constructor(folder: string, me: Holder, clock: () => number = () => performance.now()) {
    this.me = me
    this.#path = `${folder}/${me.node}.json`
    this.#clock = clock
    this.#renewedAt = Number.NEGATIVE_INFINITY
    this.#record = { ...me, beat: 0, changed: 0, changes: [], mounts: [], left: false }
  }

  get mounts(): readonly string[] {
    return this.#record.mounts
  }

  /** How long ago the last sign of life that has arrived was sent, in ms. */
  get silentMs(): number {
    return this.#clock() - this.#renewedAt
  }

  /** Goes on where an earlier process of this node has ended: who reads the file must see its numbers grow. */
  async takeOver(isMounted: (id: string) => boolean): Promise<void> {
    const last = nodeRecord(await readJson(this.#path))
    if (last?.node === this.me.node) {
      const { beat, changed, changes, mounts } = last
      this.#record = { ...this.#record, beat, changed, changes, mounts: mounts.filter(isMounted) }
    }
    await this.write()
  }

  /** Whether this node's file is where it was written. */
  async isThere(): Promise<boolean> {
    return (await ignoring(lstat(this.#path), 'ENOENT')) !== undefined
  }

  /** The process that has written this node's file last; undefined when that cannot be told. */
  async speaker(): Promise<string | undefined> {
    return nodeRecord(await readJson(this.#path))?.session
  }

  /** Tells everyone of changes. @param keys of what has changed (records.ts) */
  async tell(...keys: string[]): Promise<void> {
    const { changed, changes } = this.#record
    this.#record = {
      ...this.#record,
      changed: changed + keys.length,
      changes: [...changes, ...keys].slice(-keptChanges),
    }
    await this.write()
  }

  async addMount(id: string): Promise<void> {
    if (this.#record.mounts.includes(id)) return
    this.#record = { ...this.#record, mounts: [...this.#record.mounts, id] }
    await this.write()
  }

  async dropMount(id: string): Promise<void> {
    if (!this.#record.mounts.includes(id)) return
    this.#record = { ...this.#record, mounts: this.#record.mounts.filter((mount) => mount !== id) }
    await this.write()
  }

  /** The last sign of life; while something is mounted there is none: then only its silence tells. */
  async leave(): Promise<void> {
    if (this.#record.mounts.length > 0) return
    this.#record = { ...this.#record, left: true }
    await this.write()
  }

  /** Writes the file as it is to be now. Who asks while it is being written shares the next time. */
  write(): Promise<void> {
    if (!this.#writing) return this.#begin()
    if (!this.#waiting) {
      const waiting = Promise.withResolvers<void>()
      this.#waiting = waiting
      const next = () => {
        this.#waiting = undefined
        this.#begin().then(waiting.resolve, waiting.reject)
      }
      this.#writing.then(next, next)
    }
    return this.#waiting.promise
  }

  #begin(): Promise<void> {
    this.#record = { ...this.#record, beat: this.#record.beat + 1 }
    const begunAt = this.#clock()
    const writing = writeJson(this.#path, this.#record).then(() => {
      this.#renewedAt = begunAt
    })
    this.#writing = writing.finally(() => {
      this.#writing = undefined
    })
    this.#writing.catch(() => undefined)
    return writing
  }
}

/** What was last seen of a node. */
interface Seen {
  readonly record: NodeRecord
  /** Changes when the file does. */
  readonly mark: string
  /** By this reader's clock. */
  readonly movedAt: number
}

/** What a look at the nodes has found. */
export interface Look {
  /** Keys that nodes have told of since the last look; null: more than they remember, so anything may have changed. */
  readonly changes: readonly string[] | null
  /** Who there is, who lives, or what is mounted has changed. */
  readonly isNew: boolean
}

/** All nodes, as this one sees them. */
export class Nodes {
  readonly #folder: string
  readonly #me: Holder
  readonly #times: LeaseTimes
  readonly #clock: () => number
  readonly #seen = new Map<string, Seen>()
  /** When a node without a file was first asked about. */
  readonly #missed = new Map<string, number>()
  #told = ''

  constructor(folder: string, me: Holder, times: LeaseTimes, clock: () => number = () => performance.now()) {
    this.#folder = folder
    this.#me = me
    this.#times = times
    this.#clock = clock
  }

  /** Reads what has changed. */
  async look(): Promise<Look> {
    const names = (await readdirOrNothing(this.#folder)).filter((name) => /^[a-zA-Z0-9-]{1,64}\.json$/.test(name))
    const changes = await Promise.all(names.map((name) => this.#lookAt(name)))
    for (const node of this.#seen.keys()) if (!names.includes(`${node}.json`)) this.#seen.delete(node)
    const told = JSON.stringify(this.list())
    const isNew = told !== this.#told
    this.#told = told
    return { changes: changes.includes(null) ? null : changes.flatMap((keys) => keys ?? []), isNew }
  }

  list(): SharedNode[] {
    const all = [...this.#seen.values()].map(({ record: { node, name, mounts } }) => {
      return { id: node, name, alive: this.isAlive(node), self: node === this.#me.node, mounts }
    })
    return all.sort((a, b) => (a.id < b.id ? -1 : 1))
  }

  /** Whether a node has been heard of in time; of one that was never seen, that is not known before `ttlMs`. */
  isAlive(node: string): boolean {
    if (node === this.#me.node) return true
    const seen = this.#seen.get(node)
    if (!seen) {
      const since = this.#missed.get(node) ?? this.#clock()
      this.#missed.set(node, since)
      return this.#clock() - since < this.#times.ttlMs
    }
    return !seen.record.left && this.#clock() - seen.movedAt < this.#times.ttlMs
  }

  /** Whether what a process holds for itself, such as a lock, is held no more. */
  isOver({ node, session }: Holder): boolean {
    if (node === this.#me.node) return session !== this.#me.session
    return !this.isAlive(node) || (this.#seen.get(node)?.record.session ?? session) !== session
  }

  /** Names of other living nodes that have something mounted. Reads their files anew. */
  async othersWith(id: string): Promise<string[]> {
    await this.look()
    return this.list().flatMap(({ name, alive, self, mounts }) => (alive && !self && mounts.includes(id) ? [name] : []))
  }

  /** @throws IN_USE naming the nodes that have it mounted */
  async requireUnused(subject: string, id: string): Promise<void> {
    const others = await this.othersWith(id)
    if (others.length === 0) return
    const on = others.length === 1 ? `node ${others[0]}` : `nodes ${others.join(', ')}`
    throw new AppError('IN_USE', `${subject} is mounted on ${on}; stop the containers that use it there`, {
      details: { nodes: others },
    })
  }

  /** @returns keys that have changed; null: more than are remembered */
  async #lookAt(file: string): Promise<readonly string[] | null> {
    const [path, node] = [`${this.#folder}/${file}`, file.slice(0, -'.json'.length)]
    const stats = await ignoring(lstat(path, { bigint: true }), 'ENOENT')
    const before = this.#seen.get(node)
    const mark = stats ? `${stats.ino} ${stats.mtimeNs} ${stats.size}` : ''
    if (!stats || before?.mark === mark) return []
    const record = nodeRecord(await readJson(path))
    if (record?.node !== node) return []
    const moved = !before || before.record.beat !== record.beat || before.record.session !== record.session
    this.#seen.set(node, { record, mark, movedAt: moved ? this.#clock() : before.movedAt })
    this.#missed.delete(node)
    return changesSince(before?.record, record)
  }
}

function changesSince(before: NodeRecord | undefined, { changed, changes }: NodeRecord): readonly string[] | null {
  const count = changed - (before?.changed ?? 0)
  if (count < 0 || count > changes.length) return null
  return count === 0 ? [] : changes.slice(-count)
}
