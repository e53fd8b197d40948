/**
 * What this node shows of a share: volumes bind-mounted for containers, each told to the other nodes, and the right to those that one node
 * at a time may mount. A file on this node's own disk remembers it for the next life of this process.
 */

import { stat } from 'node:fs/promises'
import { AppError } from '../../src/errors.ts'
import type { Volume } from '../../src/model.ts'
import { locate, mountAt, usesOf } from '../../src/system/mount.ts'
import { type Claim, isClaim, type Taken } from './claims.ts'
import { isObject, isStale, readJson, writeJson } from './json-file.ts'
import { makeReadOnly, unbind } from './mounting.ts'
import type { Share } from './share.ts'
import { isSingle } from './states.ts'

/** One volume or snapshot that is mounted here. */
interface Shown {
  readonly place: string
  readonly name: string
  /** Epoch and token of the right to it, when one node at a time has it. */
  readonly claim: Claim | null
}

/** A right that this node has lost while it had the volume mounted. */
export interface Loss {
  readonly id: string
  readonly name: string
  readonly detail: string
  /** Nothing here can write to it any more. */
  readonly isFenced: boolean
}

export class Mounted {
  readonly #share: Share
  readonly #shown = new Map<string, Shown>()
  readonly #losses = new Map<string, Loss>()

  constructor(share: Share) {
    this.#share = share
  }

  get losses(): readonly Loss[] {
    return [...this.#losses.values()]
  }

  /** Takes over what an earlier life has left mounted. */
  async takeOver(): Promise<void> {
    const content = await readJson(this.#file)
    for (const [id, entry] of Object.entries(isObject(content) ? content : {})) {
      const shown = shownOf(entry)
      if (shown && mountAt(shown.place)) this.#shown.set(id, shown)
    }
    await this.#share.own.takeOver((id) => this.#shown.has(id))
  }

  /** Where it is mounted here, or undefined. */
  placeOf(id: string): string | undefined {
    const place = this.#shown.get(id)?.place
    return place !== undefined && mountAt(place) ? place : undefined
  }

  /** @throws IN_USE when it is mounted here */
  requireUnmounted(subject: string, id: string): void {
    const place = this.placeOf(id)
    if (place !== undefined) throw new AppError('IN_USE', `${subject} is still mounted at ${place}; stop what uses it`)
  }

  /**
   * Tells the others that it is mounted here, then has it mounted. Another node that removes it looks for that word after the removal,
   * and `show` looks for the volume after the word: one of them sees the other.
   * @param claim the right to it, when that is needed
   */
  async show(id: string, shown: Shown, show: () => Promise<void>): Promise<void> {
    this.#shown.set(id, shown)
    try {
      await Promise.all([this.#share.own.addMount(id), this.#save()])
      await show()
    } catch (error) {
      if (!mountAt(shown.place)) await this.#drop(id)
      throw error
    }
  }

  /** Unmounts, then tells the others; the right to it is given back. Not mounted is success. @throws IN_USE */
  async hide(id: string, place: string): Promise<void> {
    await unbind(place)
    if (this.#shown.has(id)) await this.#drop(id)
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
   * Sees whether this node still has its rights, and makes read-only what it has lost.
   * @param silent it could not give a sign of life for so long that others may take them
   * @returns what was lost by now
   */
  async guard(silent: boolean): Promise<Loss[]> {
    const lost: Loss[] = []
    for (const [id, { claim, name, place }] of this.#shown) {
      const before = this.#losses.get(id)
      if (!claim || before?.isFenced) continue
      const why = silent ? 'this node could not reach the server for too long' : await this.#whyLost(claim, before)
      if (why === null) continue
      const { refused, detail } = await fence(place)
      const loss = { id, name, detail: `${why}; ${detail}`, isFenced: refused === 0 }
      this.#losses.set(id, loss)
      if (!before || loss.isFenced) lost.push(loss)
    }
    return lost
  }

  async #whyLost(claim: Claim, before: Loss | undefined): Promise<string | null> {
    // What was begun is finished, also when nobody has taken it meanwhile: containers have seen errors by then.
    if ((await this.#share.claims.isOurs(claim)) && !before) return null
    const now = await this.#share.claims.holder(claim.key)
    return now ? `node ${now.holder.name} has taken it over` : 'its claim on the share is gone'
  }

  #take({ id }: Volume, mayPass: (node: string) => boolean): Promise<Claim | Taken> {
    const { claims, own } = this.#share
    return claims.take(ownerKey(id), ({ node }) => node === own.me.node || mayPass(node))
  }

  async #drop(id: string): Promise<void> {
    const claim = this.#shown.get(id)?.claim
    this.#shown.delete(id)
    this.#losses.delete(id)
    await this.#save()
    await this.#share.own.dropMount(id)
    if (claim && (await this.#share.claims.isOurs(claim))) await this.#share.claims.release(claim)
  }

  get #file(): string {
    return `${this.#share.local}/mounts.json`
  }

  #save(): Promise<void> {
    return writeJson(this.#file, Object.fromEntries(this.#shown))
  }
}

export function ownerKey(id: string): string {
  return `owner.${id}`
}

function shownOf(entry: unknown): Shown | null {
  if (!isObject(entry) || typeof entry.place !== 'string' || typeof entry.name !== 'string') return null
  const { place, name, claim } = entry
  return { place, name, claim: isObject(claim) ? (claim as unknown as Claim) : null }
}

/**
 * Makes what is mounted at a place, and everything on this host that shows it, read-only. What is open for writing keeps its mount
 * writable: then it is tried again.
 * @returns how many are left, and what came of it in words
 */
async function fence(place: string): Promise<{ refused: number; detail: string }> {
  if (!mountAt(place)) return { refused: 0, detail: 'nothing shows it here any more' }
  const uses = [{ pid: process.pid, mountpoint: place }, ...(await usesOf(place, []))]
  const refused: string[] = []
  for (const { pid, mountpoint } of uses) {
    const why = await makeReadOnly(mountpoint, pid)
    if (why !== null) refused.push(`${mountpoint} of process ${pid} (${why})`)
  }
  const detail =
    refused.length === 0
      ? 'it has been made read-only here'
      : `it could not be made read-only at ${refused.join(', ')}: stop the containers that use it`
  return { refused: refused.length, detail }
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
