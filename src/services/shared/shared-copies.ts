/**
 * Keeps the catalog a copy of what stands on shared storage, by what the drivers tell of it: volumes and snapshots that other nodes have
 * made, changed or removed. Works beside everything else, a volume at a time and with its lock, so that it never meets a change of
 * this node's half-made. What would take something away is asked for again first: what was told may be older than a change of our own.
 * A storage that answers, and has nothing of all that it had, is not believed: its disk may not be mounted.
 */

import { setImmediate } from 'node:timers/promises'
import type { Catalog } from '../../catalog/catalog.ts'
import { dropVolume } from '../../catalog/changes.ts'
import type { Driver, DriverContext, Log, SharedCapability, SharedNews, SharedVolume } from '../../driver.ts'
import { AppError, toAppError } from '../../errors.ts'
import { type Locks, trashKey, volumeKey } from '../../locks.ts'
import { isTrashed, type TrashedVolume, type Volume } from '../../model.ts'
import { parseVolumeName } from '../../units.ts'
import type { Operations } from '../journal/operations.ts'
import type { Drivers } from '../node/drivers.ts'
import { isSame, knownOf, recordChanges, takesAway } from './record-changes.ts'
import { StorageViews } from './storage-views.ts'

/** A driver whose storage several nodes use. */
export type SharedDriver = Driver & { readonly shared: SharedCapability }

export function isShared(driver: Driver | undefined): driver is SharedDriver {
  return driver?.shared !== undefined
}

export interface CopyRooms {
  readonly catalog: Catalog
  readonly drivers: Drivers
  readonly locks: Locks
  readonly operations: Operations
  readonly log: Log
}

/** What was told of one volume, and has still to be written down. */
interface Told {
  readonly driver: SharedDriver
  readonly storage: string
  /** Null: it is gone. */
  readonly shared: SharedVolume | null
  /** It may be forgotten when the storage, asked again, does not have it. */
  readonly mayGo: boolean
}

/** As long as it takes: others may be at work on the volume for hours. */
const longWaitMs = 2 ** 31 - 1
/** So many are compared before others have their turn. */
const batch = 200
/** Docker waits for it. */
const discoverMs = 2_000

export class SharedCopies {
  readonly views = new StorageViews()
  readonly #rooms: CopyRooms
  readonly #stopped = new AbortController()
  /** By volume id; what is told meanwhile replaces what waits. */
  readonly #waiting = new Map<string, Told>()
  readonly #working = new Set<string>()

  constructor(rooms: CopyRooms) {
    this.#rooms = rooms
  }

  /** Begins to listen. Waits for nothing. @param onReturn called when a storage that was away answers again */
  start(onReturn: () => void): void {
    for (const driver of this.#sharedDrivers()) {
      void driver.shared.watch(this.#stopped.signal, (news) => {
        const isBack = news.kind === 'reach' && news.reason === null && this.views.isAway(driver.name, news.storage)
        this.#hear(driver, news)
        if (isBack) onReturn()
      })
    }
  }

  stop(): void {
    this.#stopped.abort()
  }

  /**
   * Makes the catalog say what a storage was just found to say of a key, whose turn the caller has.
   * @returns whether the storage has it
   * @throws CORRUPT for a record that cannot be read, ALREADY_EXISTS when a volume of another driver has its name here
   */
  async take(driver: SharedDriver, key: string, now: SharedVolume | null): Promise<boolean> {
    const { catalog } = this.#rooms
    if (now?.volume.damage !== undefined) throw damagedRecord(now.volume)
    const known = catalog.volume(key) ?? catalog.volumeById(key)
    const own = known?.driver === driver.name ? known : undefined
    const found = now ?? (own ? await this.#ask(driver, own) : null)
    if (found && found.volume.damage === undefined) await this.#write(driver, found)
    return now !== null
  }

  /** Looks on shared storage for a volume that another node has made a moment ago; when it is there, the catalog has it then. Within 2 s. */
  async discover(name: string): Promise<void> {
    if (!isName(name)) return
    for (const driver of this.#sharedDrivers()) {
      if (this.views.isAllAway(driver.name)) continue
      try {
        const found = await driver.shared.find(this.#context(discoverMs), { key: name, options: {} })
        if (found && found.volume.damage === undefined) await this.#write(driver, found)
      } catch (error) {
        this.#rooms.log.debug({ subject: name, error: toAppError(error).message }, 'could not look on shared storage')
      }
    }
  }

  #sharedDrivers(): SharedDriver[] {
    return this.#rooms.drivers.all().flatMap(({ driver }) => (isShared(driver) ? [driver] : []))
  }

  #context(withinMs?: number): DriverContext {
    const deadline = withinMs === undefined ? [] : [AbortSignal.timeout(withinMs)]
    return this.#rooms.operations.plainContext(AbortSignal.any([this.#stopped.signal, ...deadline]))
  }

  #hear(driver: SharedDriver, news: SharedNews): void {
    this.views.hear(driver.name, news)
    const { storage } = news
    if (news.kind === 'changed') this.#note({ driver, storage, shared: news.volume, mayGo: true })
    else if (news.kind === 'gone') this.#noteGone(driver, storage, news.volumeId, true)
    else if (news.kind === 'lost')
      this.#complain(news.volumeId, news.detail, 'this node has lost its right to a volume')
    else if (news.kind === 'listing') {
      this.#compare(driver, storage, news.volumes).catch((error: Error) =>
        this.#complain(storage, error.message, 'could not compare the catalog with shared storage'),
      )
    }
  }

  async #compare(driver: SharedDriver, storage: string, told: readonly SharedVolume[]): Promise<void> {
    const { catalog } = this.#rooms
    const snapshots = Map.groupBy(catalog.snapshotsOfAll(), ({ volumeId }) => volumeId)
    const known = new Map(catalog.volumesOfDriver(driver.name).map((volume) => [volume.id, volume]))
    for (const [index, shared] of told.entries()) {
      if (index % batch === batch - 1) await setImmediate()
      const { id } = shared.volume
      const isKnown = isSame({ volume: known.get(id), snapshots: snapshots.get(id) ?? [] }, shared)
      if (isKnown) this.#isThere(shared, storage)
      else this.#note({ driver, storage, shared, mayGo: true })
      known.delete(id)
    }
    const damaged = new Set(told.flatMap(({ volume: { name, damage } }) => (damage === undefined ? [] : [name])))
    for (const [id, { name }] of known) {
      const place = this.views.place(id)
      if ((place === undefined || place === storage) && !damaged.has(name))
        this.#noteGone(driver, storage, id, told.length > 0)
    }
  }

  #isThere({ volume }: SharedVolume, storage: string): void {
    this.views.found(volume.id, storage)
    if (!isTrashed(volume)) this.views.damaged(volume.name, undefined)
  }

  #noteGone(driver: SharedDriver, storage: string, id: string, mayGo: boolean): void {
    if (this.#rooms.catalog.volumeById(id)) this.#noteOf(id, { driver, storage, shared: null, mayGo })
  }

  #note(told: Told & { readonly shared: SharedVolume }): void {
    const { volume } = told.shared
    if (volume.damage === undefined) {
      this.#isThere(told.shared, told.storage)
      this.#noteOf(volume.id, told)
    } else if (!isTrashed(volume)) this.views.damaged(volume.name, volume.damage)
  }

  #noteOf(id: string, told: Told): void {
    this.#waiting.set(id, told)
    if (this.#working.has(id)) return
    this.#working.add(id)
    void this.#workOff(id).finally(() => this.#working.delete(id))
  }

  async #workOff(id: string): Promise<void> {
    const { locks } = this.#rooms
    while (this.#waiting.has(id) && !this.#stopped.signal.aborted) {
      try {
        const doing = 'what another node has changed is being written down'
        await locks.with(this.#keys(id), doing, () => this.#apply(id), longWaitMs)
      } catch (error) {
        if (!this.#stopped.signal.aborted)
          this.#complain(id, toAppError(error).message, 'could not write down what shared storage says')
      }
    }
  }

  /** Of what the volume was here, and of what it is to be. */
  #keys(id: string): string[] {
    const told = this.#waiting.get(id)?.shared?.volume
    const both = [told, this.#rooms.catalog.volumeById(id)].flatMap((volume) => volume ?? [])
    return both.map((volume) => (isTrashed(volume) ? trashKey(id) : volumeKey(volume.name)))
  }

  async #apply(id: string): Promise<void> {
    const told = this.#waiting.get(id)
    this.#waiting.delete(id)
    if (!told) return
    const { driver, storage } = told
    const known = knownOf(this.#rooms.catalog, id)
    const isCertain = told.shared !== null && !takesAway(known, told.shared)
    const found = isCertain || !known.volume ? told.shared : await this.#ask(driver, known.volume)
    if (found && found.volume.damage === undefined) {
      await this.#write(driver, found, storage)
    } else if (!found && known.volume) await this.#forget(told, known.volume)
  }

  async #forget({ storage, mayGo }: Told, volume: Volume | TrashedVolume): Promise<void> {
    if (!mayGo) {
      return this.views.missed(
        volume.id,
        `${storage} answers, but has none of the volumes that were on it; see that its disk is mounted on the server`,
      )
    }
    await this.#rooms.catalog.write(dropVolume(volume.id))
    this.views.forget(volume.id)
    this.#rooms.log.info({ subject: volume.name, storage }, 'a shared volume is gone: another node has removed it')
  }

  /** The volume as it is now: live, or in the trash; damaged, it is whatever stands at its place. @throws UNAVAILABLE */
  async #ask({ shared }: SharedDriver, { id, name, options }: Volume): Promise<SharedVolume | null> {
    for (const key of [name, id]) {
      const found = await shared.find(this.#context(), { key, options })
      if (found && (found.volume.id === id || found.volume.damage !== undefined)) return found
    }
    return null
  }

  async #write(driver: SharedDriver, found: SharedVolume, storage?: string): Promise<void> {
    const { catalog } = this.#rooms
    const { volume } = found
    const rival = isTrashed(volume) ? undefined : catalog.volume(volume.name)
    const isBlocked = rival !== undefined && rival.id !== volume.id
    const before = isBlocked ? await this.#makeWay(driver, rival, storage) : []
    await catalog.write(...before, ...recordChanges(catalog, found))
    this.views.unblocked(volume.name)
  }

  /** What the volume has become that had the name before. @throws ALREADY_EXISTS when it still has it */
  async #makeWay(driver: SharedDriver, rival: Volume, storage = `the storage of driver ${driver.name}`) {
    const { catalog } = this.#rooms
    if (rival.driver === driver.name) {
      const found = await this.#ask(driver, rival)
      if (!found) return [dropVolume(rival.id)]
      if (isTrashed(found.volume) || found.volume.name !== rival.name) return recordChanges(catalog, found)
    }
    this.views.blocked({ name: rival.name, driver: rival.driver, storage })
    throw new AppError(
      'ALREADY_EXISTS',
      `this node has a volume ${rival.name} of its own (driver ${rival.driver}), and so has ${storage}: save what this one holds, ` +
        `then run: holdfast volume rm ${rival.name}`,
    )
  }

  #complain(subject: string, error: string, message: string): void {
    this.#rooms.log.warn({ subject: this.#rooms.catalog.volumeById(subject)?.name ?? subject, error }, message)
  }
}

function isName(text: string): boolean {
  try {
    return parseVolumeName(text) === text
  } catch {
    return false
  }
}

function damagedRecord({ name, damage }: Volume): AppError {
  return new AppError(
    'CORRUPT',
    `volume ${name} cannot be changed: ${damage}; its data is untouched, restore the record from a copy`,
  )
}
