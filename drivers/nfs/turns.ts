/**
 * Turns: who may change what on a share, one node and one call at a time. A turn is a claim that lasts as long as the
 * process that took it gives signs of life; who waits for one gives up after a while, and says for whom it waited.
 */

import { setTimeout as pause } from 'node:timers/promises'
import { AppError } from '../../src/errors.ts'
import { type Claim, type Claims, isClaim } from './claims.ts'
import type { Nodes } from './nodes.ts'

const waitMs = 8_000
const betweenMs = 100

export class Turns {
  readonly #claims: Claims
  readonly #nodes: Nodes
  /** What the daemon has taken for a service's whole operation: calls inside of it need no turn of their own. */
  readonly #held = new Map<string, Claim>()

  constructor(claims: Claims, nodes: Nodes) {
    this.#claims = claims
    this.#nodes = nodes
  }

  /** Keys that the daemon has. */
  get held(): readonly string[] {
    return [...this.#held.keys()]
  }

  isHeld(key: string): boolean {
    return this.#held.has(key)
  }

  /** Takes the turn for the daemon, until `giveBack`. @throws ABORTED */
  async hold(key: string, signal: AbortSignal): Promise<void> {
    const claim = await this.#take(key, signal, waitMs)
    this.#held.set(key, claim)
  }

  async giveBack(key: string): Promise<void> {
    const claim = this.#held.get(key)
    this.#held.delete(key)
    if (claim) await this.#claims.release(claim).catch(() => undefined)
  }

  /** @throws ABORTED while another node has the turn at a key, which is about `subject` */
  async requireFree(key: string, subject: string): Promise<void> {
    const taken = await this.#claims.holder(turnKey(key))
    if (taken && !this.#nodes.isOver(taken.holder)) throw busy(taken.holder.name, subject)
  }

  /** This node has been silent for too long: nothing is its any more. @returns what it had */
  forfeit(): readonly string[] {
    const keys = this.held
    for (const key of keys) void this.giveBack(key)
    return keys
  }

  /** Runs `work` in a turn of its own, or in that of the daemon. @throws ABORTED with who has it */
  async with<T>(key: string, signal: AbortSignal, work: () => Promise<T>, maxMs = waitMs): Promise<T> {
    if (this.#held.has(key)) return work()
    const claim = await this.#take(key, signal, maxMs)
    try {
      return await work()
    } finally {
      await this.#claims.release(claim).catch(() => undefined) // It can be taken again by this process, as claims.ts says.
    }
  }

  async #take(key: string, signal: AbortSignal, maxMs: number): Promise<Claim> {
    const deadline = performance.now() + maxMs
    for (;;) {
      signal.throwIfAborted()
      const result = await this.#claims.take(turnKey(key), (holder) => this.#nodes.isOver(holder))
      if (isClaim(result)) return result
      if (performance.now() > deadline) {
        throw busy(result.holder.name, key)
      }
      await pause(betweenMs * (0.5 + Math.random()), undefined, { signal }).catch(() => undefined)
    }
  }
}

/** The claim that is the turn at a key. */
export function turnKey(key: string): string {
  return `lock.${key}`
}

function busy(node: string, subject: string): AppError {
  const message = `node ${node} is changing ${subject} on the share; try again when it is done`
  return new AppError('ABORTED', message, { details: { node } })
}
