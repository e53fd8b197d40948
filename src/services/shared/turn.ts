/**
 * A turn: one change of one volume, kept from other nodes when its storage is shared. There the work begins with what stands on the
 * storage, which the catalog is made to say first, and publishes what it has done before it writes its own row. For a volume of this
 * node's alone the volume's lock is enough, and all of this is nothing.
 */

import type { Driver, DriverContext, SharedKey } from '../../driver.ts'
import type { Snapshot, TrashedVolume, Volume } from '../../model.ts'
import { type Core, requireVolume } from '../core.ts'
import { isShared, type SharedDriver } from './shared-copies.ts'

/** What a change works with. */
export interface Turn {
  readonly driver: Driver
  /** The storage has nothing under the key, whatever this node remembers. Always false for one of this node's alone. */
  readonly isMissing: boolean
  /** The same context, which aborts too when this node has lost its turn. */
  within(ctx: DriverContext): DriverContext
  /** Makes a change known to all nodes; to be called before its row is written. @throws UNAVAILABLE, NOT_FOUND */
  publish(ctx: DriverContext, volume: Volume | TrashedVolume, snapshots?: readonly Snapshot[]): Promise<void>
  /** Whether a volume is known to all nodes, which may use it by now: then it must not be undone. @throws UNAVAILABLE */
  isPublished(ctx: DriverContext, volume: Volume): Promise<boolean>
}

/**
 * Runs `work` in a turn for `key`, whose lock the caller holds.
 * @throws ABORTED with the node that has its turn, UNAVAILABLE when the storage does not answer, CORRUPT for a damaged record
 */
export function inTurn<T>(core: Core, driver: Driver, key: SharedKey, work: (turn: Turn) => Promise<T>): Promise<T> {
  if (!isShared(driver)) return work({ driver, ...unshared })
  return driver.shared.exclusive(core.operations.plainContext(), key, async ({ signal }, now) => {
    const isThere = await core.shared.take(driver, key.key, now)
    return work(sharedTurn(driver, signal, !isThere))
  })
}

/** As `inTurn`, with the live volume as it stands. @throws NOT_FOUND, CORRUPT */
export async function withVolume<T>(
  core: Core,
  name: string,
  work: (turn: Turn, volume: Volume) => Promise<T>,
): Promise<T> {
  if (!core.catalog.volume(name)) await core.shared.discover(name)
  const known = requireVolume(core, name)
  const driver = await core.drivers.ready(known.driver)
  return inTurn(core, driver, { key: name, options: known.options }, (turn) => work(turn, requireVolume(core, name)))
}

/** A turn at what no other node can reach, whatever its driver. */
export const unshared: Omit<Turn, 'driver'> = {
  isMissing: false,
  within: (ctx) => ctx,
  publish: async () => undefined,
  isPublished: async () => false,
}

function sharedTurn(driver: SharedDriver, signal: AbortSignal, isMissing: boolean): Turn {
  const { shared } = driver
  return {
    driver,
    isMissing,
    within: (ctx) => ({
      log: ctx.log,
      progress: (...args) => ctx.progress(...args),
      signal: AbortSignal.any([ctx.signal, signal]),
    }),
    publish: (ctx, volume, snapshots = []) => shared.publish(ctx, volume, snapshots),
    isPublished: async (ctx, { id, name, options }) => {
      const found = await shared.find(ctx, { key: name, options })
      return found?.volume.id === id || (await shared.find(ctx, { key: id, options }))?.volume.id === id
    },
  }
}
