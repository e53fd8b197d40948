/**
 * What this node shows of a share: volumes bind-mounted for containers, each told to the other nodes, and the right to
 * those that one node at a time may mount. A file on this node's own disk remembers it for the next life of this
 * process.
 */

import { stat } from 'node:fs/promises'
import { AppError } from '../../src/errors.ts'
import type { Volume } from '../../src/model.ts'
import { locate, mountAt } from '../../src/system/mount.ts'
import { type Claim, isClaim, type Taken } from './claims.ts'
import { fence, unfence } from './fencing.ts'
import { isObject, isStale, readJson, writeJson } from './json-file.ts'
import { unbind } from './mounting.ts'
import type { Share } from './share.ts'
import { isSingle } from './states.ts'

/** One volume or snapshot that is mounted here. */
interface Shown {
  readonly place: string
  readonly name: string
  /** Epoch and token of the right to it, when one node at a time has it. */
  readonly claim: Claim | null
  /** Mounts that were made read-only while this node could not say whether it still has the right (fencing.ts). */
  readonly closed?: readonly number[]
}

/** A right that this node has lost, or cannot be sure of, while it has the volume mounted. */
export interface Loss {
  readonly id: string
  readonly name: string
  readonly detail: string
  /** Another node has it. */
  readonly isLost: boolean
  /** Nothing here can write to it any more. */
  readonly isFenced: boolean
}

/** What of a share this needs. */
type Shared = Pick<Share, 'local' | 'own' | 'nodes' | 'claims'>

export class Mounted {
  readonly #share: Shared
  /** Called when something is mounted. */
  readonly #shows: () => void
  readonly #shown = new Map<string, Shown>()
  readonly #losses = new Map<string, Loss>()

  constructor(share: Shared, shows: () => void) {
    this.#share = share
    this.#shows = shows
  }

  get losses(): readonly Loss[] {
    return [...this.#losses.values()]
  }

  /** Whether anything is mounted here; asks the kernel. */
  get isShowing(): boolean {
    return [...this.#shown.values()].some(({ place }) => mountAt(place))
  }

  /** Takes over what an earlier life has left mounted, as far as this node's own disk says. */
  async restore(): Promise<void> {
    const content = await readJson(this.#file)
    for (const [id, entry] of Object.entries(isObject(content) ? content : {})) {
      const shown = shownOf(entry)
      if (!shown || !mountAt(shown.place)) continue
      this.#shown.set(id, shown)
      const { name, closed } = shown
      if (closed) this.#losses.set(id, { id, name, detail: 'an earlier life was not sure of it', ...unsure })
    }
    if (this.isShowing) this.#shows()
  }

  /** Tells the others that this process speaks for the node now. */
  async takeOver(): Promise<void> {
    await this.#share.own.takeOver((id) => this.#shown.has(id))
  }

  /** Where it is mounted here, or undefined. */
  placeOf(id: string): string | undefined {
    const place = this.#shown.get(id)?.place
    return place !== undefined && mountAt(place) ? place : undefined
  }

  /** The right to a volume that is mounted here; undefined when it is not, or needs none. */
  claimOf(id: string): Claim | undefined {
    return this.placeOf(id) === undefined ? undefined : (this.#shown.get(id)?.claim ?? undefined)
  }

  /** @throws IN_USE when it is mounted here */
  requireUnmounted(subject: string, id: string): void {
    const place = this.placeOf(id)
    if (place !== undefined) throw new AppError('IN_USE', `${subject} is still mounted at ${place}; stop what uses it`)
  }

  /**
   * Has it mounted, tells the others that it is mounted here, and only then sees whether that is right. Another node
   * that removes it looks for that word after the removal, and `confirm` looks for the volume after the word: one of
   * them sees the other.
   * @param shown with the right to it, when that is needed
   */
  async show(id: string, shown: Shown, show: () => Promise<void>, confirm: () => Promise<void>): Promise<void> {
    await this.#forgive(id, shown.place)
    const wasThere = mountAt(shown.place) !== undefined
    this.#shown.set(id, shown)
    this.#shows()
    try {
      const done = await Promise.allSettled([show(), this.#share.own.addMount(id), this.#save()])
      for (const one of done) if (one.status === 'rejected') throw one.reason
      await confirm()
    } catch (error) {
      if (!wasThere) await unbind(shown.place)
      if (!mountAt(shown.place)) await this.#drop(id)
      throw error
    }
  }

  /** Unmounts, then tells the others; the right to it is given back. Not mounted is success. @throws IN_USE */
  async hide(id: string, place: string, after?: () => Promise<void>): Promise<void> {
    await unbind(place)
    if (!this.#shown.has(id)) return
    await after?.()
    await this.#drop(id)
  }

  /** The right to a volume with `access=single`. @throws IN_USE with the node that has it */
  async claim(volume: Volume): Promise<Claim> {
    const known = this.#shown.get(volume.id)?.claim
    if (known && (await this.#share.claims.isOurs(known))) return known
    const result = await this.#take(volume, (node) => !this.#share.nodes.isAlive(node))
    if (isClaim(result)) return result
    throw new AppError(
      'IN_USE',
      `volume ${volume.name} is for one node at a time and is mounted on node ${result.holder.name}; stop the containers that use it there, ` +
        `or if that node is gone for good: holdfast volume takeover ${volume.name}`,
      { details: { node: result.holder.name, epoch: result.epoch } },
    )
  }

  /** As `SharedCapability.takeover`. */
  async takeover(volume: Volume, force: boolean): Promise<{ from: string | null }> {
    if (!isSingle(volume)) {
      const remedy = 'there is nothing to take over; stop the containers that shall not use it'
      throw new AppError('NOT_SUPPORTED', `volume ${volume.name} may be mounted by every node: ${remedy}`)
    }
    const { claims, nodes, own } = this.#share
    const before = await claims.holder(ownerKey(volume.id))
    if (before?.holder.node === own.me.node) return { from: null }
    const result = await this.#take(volume, (node) => force || !nodes.isAlive(node))
    if (isClaim(result)) return { from: before?.holder.name ?? null }
    throw new AppError(
      'IN_USE',
      `node ${result.holder.name} is alive and has volume ${volume.name} mounted; what it writes would mix with what is written here; ` +
        'stop the containers there, or take it over all the same with --force',
      { details: { node: result.holder.name } },
    )
  }

  /**
   * Sees whether this node still has its rights. While it could not give a sign of life for so long that others may
   * take them, nothing here writes; it goes on when nobody has taken them.
   * @param isSilent whether that is so
   * @returns what is new
   */
  async guard(isSilent: () => boolean): Promise<Loss[]> {
    const news: Loss[] = []
    for (const [id, { claim }] of this.#shown) {
      const before = this.#losses.get(id)
      if (!claim || (before?.isLost && before.isFenced)) continue
      const why = isSilent() ? 'this node cannot reach the server' : await this.#whyLost(claim)
      const now = await this.#respond(id, why, before, isSilent)
      if (now && (before?.isLost !== now.isLost || before.isFenced !== now.isFenced)) news.push(now)
    }
    return news
  }

  /** Once it is lost, it stays so. What was not sure before is only sure again while the others hear of this node. */
  async #respond(id: string, why: string | null, before: Loss | undefined, isSilent: () => boolean) {
    if (why !== null) return this.#fence(id, why, before?.isLost === true || !isSilent())
    if (before && !isSilent()) await this.#resume(id)
    return undefined
  }

  async #whyLost(claim: Claim): Promise<string | null> {
    if (await this.#share.claims.isOurs(claim)) return null
    const now = await this.#share.claims.holder(claim.key)
    return now ? `node ${now.holder.name} has taken it over` : 'its claim on the share is gone'
  }

  async #fence(id: string, why: string, isLost: boolean): Promise<Loss | undefined> {
    const shown = this.#shown.get(id)
    if (!shown) return undefined
    const { isDone, detail } = await fence(shown.place, isLost ? 'kill' : 'stop', async (open) => {
      const closed = shown.closed ?? []
      if (shown.closed && open.every((mount) => closed.includes(mount))) return
      this.#shown.set(id, { ...shown, closed: [...new Set([...closed, ...open])] })
      await this.#save()
    })
    const loss = { id, name: shown.name, detail: `${why}; ${detail}`, isLost, isFenced: isDone }
    this.#losses.set(id, loss)
    return loss
  }

  async #resume(id: string): Promise<void> {
    const shown = this.#shown.get(id)
    if (!shown) return
    const { closed, ...rest } = shown
    await unfence(shown.place, closed ?? [])
    this.#losses.delete(id)
    this.#shown.set(id, rest)
    await this.#save()
  }

  /** The right is this node's now: who waits for it goes on, and what shows it as another's goes. */
  async #forgive(id: string, place: string): Promise<void> {
    const before = this.#losses.get(id)
    if (before && !before.isLost) await this.#resume(id)
    if (before?.isLost) await unbind(place)
    this.#losses.delete(id)
  }

  #take({ id }: Volume, mayPass: (node: string) => boolean): Promise<Claim | Taken> {
    const { claims, own } = this.#share
    return claims.take(ownerKey(id), ({ node }) => node === own.me.node || mayPass(node))
  }

  async #drop(id: string): Promise<void> {
    const claim = this.#shown.get(id)?.claim
    this.#shown.delete(id)
    this.#losses.delete(id)
    await Promise.all([this.#save(), this.#share.own.dropMount(id)])
    if (claim && (await this.#share.claims.isOurs(claim))) await this.#share.claims.release(claim)
  }

  get #file(): string {
    return `${this.#share.local}/mounts.json`
  }

  #save(): Promise<void> {
    return writeJson(this.#file, Object.fromEntries(this.#shown))
  }
}

const unsure = { isLost: false, isFenced: false } as const

export function ownerKey(id: string): string {
  return `owner.${id}`
}

function shownOf(entry: unknown): Shown | null {
  if (!isObject(entry) || typeof entry.place !== 'string' || typeof entry.name !== 'string') return null
  const { place, name, claim, closed } = entry
  const shown = { place, name, claim: isObject(claim) ? (claim as unknown as Claim) : null }
  return Array.isArray(closed) ? { ...shown, closed: closed.map(Number) } : shown
}

/**
 * Whether two paths, by two mounts of one export, are the same directory.
 * @param device that `mounted` must be on: a mount that vanished meanwhile would show this node's own disk
 */
export async function isSameDirectory(mounted: string, original: string, device: string): Promise<boolean> {
  try {
    const [one, other] = await Promise.all([stat(mounted, { bigint: true }), stat(original, { bigint: true })])
    return one.ino === other.ino && locate(mounted).device === device
  } catch (error) {
    if (isStale(error)) return false
    throw error
  }
}
