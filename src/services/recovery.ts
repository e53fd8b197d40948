/**
 * What the daemon does at start with the operations that a crash interrupted: one function for each kind, which finishes or
 * undoes it. Until then its volume's lock is held, so that no request sees what is half-made.
 */

import { type Change, dropSnapshot, dropVolume, putVolume } from '../catalog/changes.ts'
import type { Driver, DriverContext } from '../driver.ts'
import { AppError, toAppError } from '../errors.ts'
import { mountKey, trashKey, volumeKey } from '../locks.ts'
import type { Operation, OperationState, Snapshot, TrashedVolume, Volume } from '../model.ts'
import type { DockerApi } from '../system/docker.ts'
import type { Core } from './core.ts'
import { unpauseAll } from './pause.ts'
import { putBack } from './trash.ts'
import { kernelUses } from './use.ts'

/** How an interrupted operation ended, and what the catalog has to say of it. */
interface Ending {
  readonly state: OperationState
  readonly changes: readonly Change[]
}

const undone: Ending = { state: 'interrupted', changes: [] }

interface Case {
  readonly core: Core
  readonly docker: DockerApi
  readonly ctx: DriverContext
  readonly operation: Operation
}

type Recover = (job: Case) => Promise<Ending>

const recoveries: Readonly<Record<string, Recover>> = {
  'volume.create': async ({ core, ctx, operation }) => {
    const { volume } = operation.payload as unknown as { volume: Volume }
    const driver = await core.drivers.started(volume.driver)
    await driver.deleteVolume(ctx, volume)
    return undone
  },

  'volume.delete': async (job) => {
    const { id } = job.operation.payload as { id: string }
    const found = await find(job, id)
    if (!found) return undone
    await found.driver.deleteVolume(job.ctx, found.volume)
    return { state: 'done', changes: [dropVolume(id)] }
  },

  'volume.discard': async (job) => {
    const { id, deletedAt, purgeAt } = job.operation.payload as {
      id: string
      deletedAt: string
      purgeAt: string | null
    }
    const found = await find(job, id)
    if (!found?.driver.trash) return undone
    const { volume, driver } = found
    if (job.operation.error !== null || (await kernelUses(job.core, volume)) > 0) {
      await putBack(job.ctx, driver, volume)
      return undone
    }
    const state = await found.driver.trash.discard(job.ctx, volume)
    const trashed: TrashedVolume = { ...volume, state, ...startingNow(deletedAt, purgeAt) }
    return { state: 'done', changes: [putVolume(trashed)] }
  },

  'volume.restore': async (job) => {
    const { id, name, deletedAt } = job.operation.payload as { id: string; name: string; deletedAt: string }
    const found = await find(job, id)
    // Restored by a later call, or even removed once more: then this one has nothing to say any more.
    if (!found?.driver.trash || !('deletedAt' in found.volume) || found.volume.deletedAt !== deletedAt) return undone
    const state = await found.driver.trash.restore(job.ctx, found.volume, name)
    const { deletedAt: _deletedAt, purgeAt: _purgeAt, ...volume } = found.volume
    return { state: 'done', changes: [putVolume({ ...volume, name, state })] }
  },

  'volume.resize': async (job) => {
    const { id, size } = job.operation.payload as { id: string; size: number }
    const found = await find(job, id)
    if (!found?.driver.resize) return undone
    const state = await found.driver.resize.resize(job.ctx, found.volume, size)
    return { state: 'done', changes: [putVolume({ ...found.volume, size, state })] }
  },

  'snapshot.create': async (job) => {
    const { snapshot, paused } = job.operation.payload as unknown as { snapshot: Snapshot; paused: string[] }
    await unpauseAll(job.docker, paused, job.core.log)
    const found = await find(job, snapshot.volumeId)
    await found?.driver.snapshots?.delete(job.ctx, found.volume, snapshot)
    return undone
  },

  'snapshot.delete': async (job) => {
    const { volumeId, snapshotId, name } = job.operation.payload as {
      volumeId: string
      snapshotId: string
      name: string
    }
    const found = await find(job, volumeId)
    const snapshot = job.core.catalog.snapshot(volumeId, name)
    if (!found || snapshot?.id !== snapshotId) return undone
    await found.driver.snapshots?.delete(job.ctx, found.volume, snapshot)
    return { state: 'done', changes: dropSnapshot(snapshotId) }
  },

  'snapshot.revert': async (job) => {
    const { volumeId, snapshotName } = job.operation.payload as { volumeId: string; snapshotName: string }
    const found = await find(job, volumeId)
    const snapshot = job.core.catalog.snapshot(volumeId, snapshotName)
    if (!found?.driver.revert || !snapshot) return undone
    const volume = { ...found.volume, state: await found.driver.revert.revert(job.ctx, found.volume, snapshot) }
    const { size } = await found.driver.usage(job.ctx, volume, false)
    return { state: 'done', changes: [putVolume({ ...volume, size })] }
  },
}

/** The time in the trash begins when the volume is there: the daemon may have been down for longer than it is kept. */
function startingNow(deletedAt: string, purgeAt: string | null): { deletedAt: string; purgeAt: string | null } {
  const late = Date.now() - Date.parse(deletedAt)
  const moved = (time: string): string => new Date(Date.parse(time) + late).toISOString()
  return { deletedAt: moved(deletedAt), purgeAt: purgeAt === null ? null : moved(purgeAt) }
}

type Found = { readonly volume: Volume | TrashedVolume; readonly driver: Driver }

/** @throws CORRUPT for a damaged record, which no change may overwrite */
async function find({ core }: Case, id: string): Promise<Found | undefined> {
  const volume = core.catalog.volumeById(id)
  if (!volume) return undefined
  if (volume.damage !== undefined) throw new AppError('CORRUPT', `volume ${volume.name}: ${volume.damage}`)
  return { volume, driver: await core.drivers.started(volume.driver) }
}

/** The volume an operation works on: `db` for `db@s1`. */
function volumeOf(operation: Operation): string {
  return operation.subject.split('@', 1)[0] as string
}

/** What a request for the volume, live or in the trash, would have to hold. */
function keysOf(name: string, operations: readonly Operation[]): string[] {
  const ids = operations.flatMap(({ payload }) => {
    const id = (payload as { id?: unknown } | null)?.id
    return typeof id === 'string' ? [id] : []
  })
  return [volumeKey(name), mountKey(name), ...ids.map(trashKey)]
}

/**
 * Recovers everything that a crash interrupted. Locks are taken before this returns to the event loop for the first time; call
 * it before the sockets listen, and do not wait for it: it waits for the drivers, however long they take to start.
 */
export async function recover(core: Core, docker: DockerApi): Promise<void> {
  const byVolume = Map.groupBy(core.catalog.runningOperations(), volumeOf)
  const jobs = [...byVolume].map(([name, operations]) => {
    return core.locks.with(keysOf(name, operations), `volume ${name} is being recovered after a crash`, async () => {
      for (const operation of operations) await recoverOne(core, docker, operation)
    })
  })
  await Promise.all(jobs)
}

async function recoverOne(core: Core, docker: DockerApi, operation: Operation): Promise<void> {
  const job: Case = { core, docker, operation, ctx: core.operations.plainContext() }
  const recovery = recoveries[operation.kind]
  try {
    if (!recovery) throw new AppError('INTERNAL', `this program does not know operations of kind ${operation.kind}`)
    const { state, changes } = await recovery(job)
    await core.operations.close(operation, state, changes)
  } catch (error) {
    const { message } = toAppError(error)
    core.log.error(
      { operation: operation.kind, subject: operation.subject, error: message },
      'could not recover; the next start tries again',
    )
  }
}
