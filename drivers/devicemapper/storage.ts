/** What the driver has between `start` and `stop`, and what every part of it asks of that. */

import { AppError } from '../../src/errors.ts'
import type { Bytes, Snapshot, Volume } from '../../src/model.ts'
import type { KeyedTurns, Turns } from '../../src/system/turns.ts'
import { formatSize } from '../../src/units.ts'
import type { Subject, Thin } from './devices.ts'
import type { Settings, SnapshotState, VolumeState } from './options.ts'
import type { Pool } from './pool.ts'
import type { Registry } from './registry.ts'
import type { PoolStatus } from './status.ts'

export interface Storage {
  readonly settings: Settings
  readonly pool: Pool
  readonly registry: Registry
  /** One for each volume: mounting, unmounting and measuring may be asked for while something else is done to it. */
  readonly turns: KeyedTurns
  /** A few for making and deleting volumes, so that a hundred at once neither stop the daemon nor each other. */
  readonly makers: Turns
  /** A directory in which the driver mounts for itself. */
  readonly scratch: string
  /** Ids of volumes that are known to have been unmounted as it should be: nothing in their logs is to be replayed. */
  readonly settled: Set<string>
  /** The pool's status as of a few seconds ago at most. */
  status(): Promise<PoolStatus>
}

export function thinOf({ pool }: Storage, { thin, size }: VolumeState | SnapshotState): Thin {
  return { pool: pool.name, thin, size }
}

/** How a snapshot's device is called. */
export function snapshotSubject(volume: Volume, snapshot: Pick<Snapshot, 'id' | 'name'>): Subject {
  return { id: snapshot.id, name: `${volume.name}@${snapshot.name}` }
}

/**
 * Refuses what could not be filled.
 * @param size of a volume that is to be made, or is to get it @param id of the one that has a size already
 * @throws NO_SPACE
 */
export async function ensureRoom(storage: Storage, size: Bytes, id?: string): Promise<void> {
  const { settings, pool, registry } = storage
  const { data } = await storage.status()
  const total = data.total * pool.blockSize
  const free = data.total - data.used
  if (free < data.total * settings.lowWater || free === 0) {
    throw new AppError(
      'NO_SPACE',
      `thin pool ${pool.name} has ${formatSize(free * pool.blockSize)} of ${formatSize(total)} left, less than its ` +
        'low-water mark; remove snapshots and volumes, trim volumes, or enlarge its data device',
    )
  }
  if (settings.overcommit === null) return
  const [promised, limit] = [registry.promised(id) + size, total * settings.overcommit]
  if (promised <= limit) return
  throw new AppError(
    'NO_SPACE',
    `volumes would have ${formatSize(promised)} together, more than ${settings.overcommit} times the ${formatSize(total)} of thin ` +
      `pool ${pool.name}; choose less, remove volumes, enlarge the pool, or set devicemapper.overcommit`,
  )
}

/** @throws NOT_FOUND */
export function gone(what: string): AppError {
  return new AppError('NOT_FOUND', `${what} is gone from its thin pool`)
}
