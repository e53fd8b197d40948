/**
 * Which node runs the schedules of a shared volume. Schedules of the same name on several nodes are one: the node that has the lease
 * runs it, for as long as it lives; the others leave their turns out, and the first of them that comes due after its end goes on. A schedule of a
 * volume of this node's alone needs none.
 */

import { createHash } from 'node:crypto'
import type { DriverContext, SharedLease } from '../../driver.ts'
import type { Schedule, Volume } from '../../model.ts'
import type { Core } from '../core.ts'
import { isShared } from '../shared/shared-copies.ts'

/** What no other node can run never aborts. */
const unleased = new AbortController().signal

export class ScheduleLeases {
  readonly #core: Core
  /** By the name of the schedule. */
  readonly #held = new Map<string, { readonly volumeId: string; readonly lease: SharedLease }>()

  constructor(core: Core) {
    this.#core = core
  }

  /**
   * The right to run a schedule now. Idempotent.
   * @returns a signal that aborts when it is lost; null while another node has it @throws UNAVAILABLE
   */
  async take({ name }: Schedule, volume: Volume): Promise<AbortSignal | null> {
    const driver = this.#core.drivers.get(volume.driver)
    if (!isShared(driver)) return unleased
    const held = this.#held.get(name)
    if (held?.volumeId === volume.id && !held.lease.signal.aborted) return held.lease.signal
    if (held) await this.release(name)
    const key = `schedule.${volume.id}.${createHash('sha256').update(name).digest('hex').slice(0, 16)}`
    await this.#core.drivers.ready(volume.driver)
    const lease = await driver.shared.lease(this.#core.operations.plainContext(), { key, options: volume.options })
    if (lease) this.#held.set(name, { volumeId: volume.id, lease })
    return lease?.signal ?? null
  }

  /** Lets another node run it. What cannot be said to a storage that is away, ends with this process. */
  async release(name: string): Promise<void> {
    const held = this.#held.get(name)
    this.#held.delete(name)
    await held?.lease.release().catch((error: Error) => {
      this.#core.log.info({ schedule: name, error: error.message }, 'could not give back the right to run a schedule')
    })
  }

  /** Keeps those of schedules that are there and awake. */
  async releaseAllBut(schedules: readonly Schedule[]): Promise<void> {
    const kept = new Set(schedules.flatMap(({ name, paused }) => (paused ? [] : [name])))
    for (const name of this.#held.keys()) if (!kept.has(name)) await this.release(name)
  }
}

/** A run's context, which ends with its lease. */
export function leased(ctx: DriverContext, signal: AbortSignal): DriverContext {
  if (signal === unleased) return ctx
  const progress: DriverContext['progress'] = (...args) => ctx.progress(...args)
  return { log: ctx.log, progress, signal: AbortSignal.any([ctx.signal, signal]) }
}
