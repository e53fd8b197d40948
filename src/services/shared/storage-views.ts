/**
 * What this node has heard of shared storage and keeps in memory only: which storage answers, which nodes use it, what was lost.
 * Filled by shared-copies.ts from what the drivers tell; asked in O(1) by Get and List, which never wait.
 */

import type { SharedNews, SharedNode } from '../../driver.ts'
import type { Volume } from '../../model.ts'

/** One storage as it was told of last. */
interface StorageView {
  readonly driver: string
  /** Why it does not answer; null: it does. */
  reason: string | null
  /** It has said all that it has, in this life. */
  isListed: boolean
  nodes: readonly SharedNode[]
}

/** A node that has a volume mounted. */
export interface MountingNode {
  readonly name: string
  readonly alive: boolean
}

/** A volume of this node's alone that stands in the way of a shared one. */
export interface Impostor {
  readonly name: string
  /** That of the volume which containers get here. */
  readonly driver: string
  readonly storage: string
}

/** A volume to ask about; with its driver's name. */
type Asked = Pick<Volume, 'id' | 'name' | 'driver'>

export class StorageViews {
  readonly #storages = new Map<string, StorageView>()
  /** The storage of a volume, by its id. */
  readonly #places = new Map<string, string>()
  readonly #lost = new Map<string, string>()
  readonly #missing = new Map<string, string>()
  /** By name: the id of a damaged one may be unknown. */
  readonly #damaged = new Map<string, string>()
  readonly #impostors = new Map<string, Impostor>()

  hear(driver: string, news: SharedNews): void {
    const view = this.#view(driver, news.storage)
    if (news.kind === 'reach') view.reason = news.reason
    else if (news.kind === 'nodes') this.#hearNodes(view, news.nodes)
    else if (news.kind === 'lost') this.#lost.set(news.volumeId, news.detail)
    else if (news.kind === 'listing') view.isListed = true
  }

  place(id: string): string | undefined {
    return this.#places.get(id)
  }

  /** It stands on this storage. */
  found(id: string, storage: string): void {
    this.#places.set(id, storage)
    this.#missing.delete(id)
  }

  forget(id: string): void {
    for (const known of [this.#places, this.#missing, this.#lost]) known.delete(id)
  }

  /** Its storage answers, and has nothing of it. */
  missed(id: string, detail: string): void {
    this.#missing.set(id, detail)
  }

  /** What is wrong with the record of a live volume; undefined: nothing. */
  damaged(name: string, damage: string | undefined): void {
    if (damage === undefined) this.#damaged.delete(name)
    else this.#damaged.set(name, damage)
  }

  blocked(impostor: Impostor): void {
    this.#impostors.set(impostor.name, impostor)
  }

  unblocked(name: string): void {
    this.#impostors.delete(name)
  }

  impostors(): readonly Impostor[] {
    return [...this.#impostors.values()]
  }

  /** The right to it has come back. */
  regained(id: string): void {
    this.#lost.delete(id)
  }

  losses(): readonly { readonly volumeId: string; readonly detail: string }[] {
    return [...this.#lost].map(([volumeId, detail]) => ({ volumeId, detail }))
  }

  /** Why its storage does not answer, with the storage's name; undefined when it does, or nothing has been heard yet. */
  away({ id, driver }: Asked): string | undefined {
    const place = this.#places.get(id)
    const view = place === undefined ? undefined : this.#storages.get(keyOf(driver, place))
    if (view) return awayText(place as string, view.reason)
    return this.#awayUnplaced(driver)
  }

  /** Whether this storage was told to be away. */
  isAway(driver: string, storage: string): boolean {
    return (this.#storages.get(keyOf(driver, storage))?.reason ?? null) !== null
  }

  /** Whether every storage of a driver that was heard of is away. */
  isAllAway(driver: string): boolean {
    const own = this.#ofDriver(driver)
    return own.length > 0 && own.every(([, { reason }]) => reason !== null)
  }

  /** Why it cannot be used as it should be, as far as was heard; undefined: all is well. */
  trouble(volume: Asked): string | undefined {
    return (
      this.away(volume) ?? this.#missing.get(volume.id) ?? this.#lostText(volume.id) ?? this.#damaged.get(volume.name)
    )
  }

  /** Other nodes that have it mounted, alive or not. */
  nodesWith({ id, driver }: Asked): MountingNode[] {
    const view = this.#storages.get(keyOf(driver, this.#places.get(id) ?? ''))
    const others = (view?.nodes ?? []).filter(({ self, mounts }) => !self && mounts.includes(id))
    return others.map(({ name, alive }) => ({ name, alive }))
  }

  #lostText(id: string): string | undefined {
    const detail = this.#lost.get(id)
    return detail === undefined ? undefined : `this node has lost its right to it: ${detail}`
  }

  /** One that no storage has told of is on one that has not said what it has, or has just been made. */
  #awayUnplaced(driver: string): string | undefined {
    const away = this.#ofDriver(driver).filter(([, { reason }]) => reason !== null)
    const found = this.isAllAway(driver) ? away[0] : away.find(([, { isListed }]) => !isListed)
    return found && awayText(found[0].slice(driver.length + 1), found[1].reason)
  }

  #ofDriver(driver: string): [string, StorageView][] {
    return [...this.#storages].filter(([, view]) => view.driver === driver)
  }

  /** What is not mounted here any more cannot be lost. */
  #hearNodes(view: StorageView, nodes: readonly SharedNode[]): void {
    view.nodes = nodes
    const own = nodes.find(({ self }) => self)
    for (const id of this.#lost.keys()) if (own && !own.mounts.includes(id)) this.#lost.delete(id)
  }

  #view(driver: string, storage: string): StorageView {
    const key = keyOf(driver, storage)
    const known = this.#storages.get(key)
    if (known) return known
    const view = { driver, reason: null, isListed: false, nodes: [] }
    this.#storages.set(key, view)
    return view
  }
}

function keyOf(driver: string, storage: string): string {
  return `${driver} ${storage}`
}

function awayText(storage: string, reason: string | null): string | undefined {
  return reason === null ? undefined : `${storage} does not answer: ${reason}`
}
