/**
 * The trash: where removed volumes wait, with their snapshots, until their time has passed. A removal for good goes
 * through it as well, so that the name is free at once, however long the deletion takes.
 */

import { dropHold, dropVolume, putVolume } from '../../catalog/changes.ts'
import type { Driver, DriverContext } from '../../driver.ts'
import { AppError, isAppError } from '../../errors.ts'
import { mountKey, trashKey, volumeKey } from '../../locks.ts'
import { isTrashed, type TrashedVolume, type Volume } from '../../model.ts'
import { parseVolumeName } from '../../units.ts'
import type { Core } from '../core.ts'
import { now } from '../now.ts'
import { inTurn, type Turn } from '../shared/turn.ts'
import type { TrashService, TrashView, VolumeView } from './contract.ts'
import { trashView, volumeView } from './views.ts'

export class Trash implements TrashService {
  readonly #core: Core

  constructor(core: Core) {
    this.#core = core
  }

  list(): TrashView[] {
    return this.#core.catalog.trash().map((volume) => trashView(this.#core, volume))
  }

  async restore(ref: string, as?: string): Promise<VolumeView> {
    const found = this.#find(ref)
    const name = as === undefined ? found.name : parseVolumeName(as)
    const keys = [trashKey(found.id), volumeKey(name), mountKey(name)]
    const restored = await this.#core.locks.with(keys, `volume ${name} is being restored from the trash`, async () => {
      const driver = await this.#core.drivers.ready(found.driver)
      const { options } = found
      return inTurn(this.#core, driver, { key: found.id, options }, () =>
        inTurn(this.#core, driver, { key: name, options }, async (turn) => {
          const volume = intact(this.#find(found.id))
          if (this.#core.catalog.volume(name)) {
            throw new AppError(
              'ALREADY_EXISTS',
              `volume ${name} exists; restore under another name: holdfast trash restore ${ref} --as NEW`,
            )
          }
          return this.#restoreLocked(turn, volume, name)
        }),
      )
    })
    return volumeView(this.#core, restored)
  }

  async empty(refs: readonly string[]): Promise<string[]> {
    const chosen =
      refs.length > 0
        ? refs.map((ref) => intact(this.#find(ref)))
        : this.#core.catalog.trash().filter((volume) => volume.purgeAt !== null && volume.damage === undefined)
    const gone: string[] = []
    for (const volume of chosen) {
      await this.purge(volume)
      gone.push(volume.name)
    }
    return gone
  }

  /**
   * Takes a volume out of sight by its `onRemove`; the caller holds its locks, has its turn, and knows that nothing uses it.
   * @param purge set it aside only to be purged
   * @returns the volume in the trash, or undefined when the driver had to delete it at once
   */
  async discard(turn: Turn, volume: Volume, purge: boolean, operationId?: string): Promise<TrashedVolume | undefined> {
    const { driver } = turn
    const { trash } = driver
    if (!trash) {
      refuseToLose(driver, volume, purge)
      return this.#deleteNow(driver, volume, operationId)
    }
    const deletedAt = now()
    const purgeAt = purge ? deletedAt : this.#purgeTime(volume, deletedAt)
    const work = {
      kind: 'volume.discard',
      subject: volume.name,
      payload: { id: volume.id, deletedAt, purgeAt },
      id: operationId,
    }
    try {
      return await this.#core.operations.run(
        work,
        async (outer) => {
          const ctx = turn.within(outer)
          const trashed = { ...volume, state: await trash.discard(ctx, volume), deletedAt, purgeAt }
          await turn.publish(ctx, trashed)
          const holds = this.#core.catalog.holds(volume.id)
          return { result: trashed, changes: [putVolume(trashed), ...holds.map(dropHold)] }
        },
        (ctx) => putBack(ctx, driver, volume),
      )
    } catch (error) {
      if (!isAppError(error, 'NOT_FOUND')) throw error
      if (purge) return this.#deleteNow(driver, volume)
      const remedy = `if it is lost, forget the volume with: holdfast volume rm ${volume.name} --purge`
      throw new AppError('NOT_FOUND', `${error.message}; put it back, or ${remedy}`)
    }
  }

  /** Deletes for good. Gone, or restored meanwhile, is success. */
  purge(chosen: TrashedVolume): Promise<void> {
    return this.#core.locks.with(
      [trashKey(chosen.id)],
      `volume ${chosen.name} in the trash is being purged`,
      async () => {
        const known = this.#core.catalog.volumeById(chosen.id)
        if (!known || !isSameDiscard(known, chosen)) return
        const driver = await this.#core.drivers.ready(known.driver)
        await inTurn(this.#core, driver, { key: known.id, options: known.options }, async ({ isMissing }) => {
          const volume = this.#core.catalog.volumeById(chosen.id)
          if (!volume || !isSameDiscard(volume, chosen)) return
          // Another node has purged it, or brought it back under another name.
          if (isMissing) await this.#core.catalog.write(dropVolume(volume.id))
          else await this.#deleteNow(driver, volume)
        })
      },
    )
  }

  /** Purges what has had its time; failures are left for the next round. */
  async purgeExpired(): Promise<void> {
    const due = this.#core.catalog.trash().filter((volume) => volume.damage === undefined && isDue(volume))
    for (const volume of due) {
      await this.purge(volume).catch((error: Error) =>
        this.#core.log.warn({ subject: volume.name, error: error.message }, 'could not purge from the trash'),
      )
    }
  }

  async #restoreLocked(turn: Turn, volume: TrashedVolume, name: string): Promise<Volume> {
    const { driver } = turn
    const { trash } = driver
    if (!trash) throw new AppError('NOT_SUPPORTED', `driver ${driver.name} cannot restore from the trash`)
    const { deletedAt, purgeAt: _purgeAt, ...rest } = volume
    const work = { kind: 'volume.restore', subject: name, payload: { id: volume.id, name, deletedAt } }
    let moved = false
    return this.#core.operations.run(
      work,
      async (outer) => {
        const ctx = turn.within(outer)
        const restored = { ...rest, name, state: await trash.restore(ctx, volume, name) }
        moved = true
        await turn.publish(ctx, restored)
        return { result: restored, changes: [putVolume(restored)] }
      },
      async () => {
        // The entry stays open: the same call again, or the next start, writes down what is so already.
        if (moved) throw new AppError('INTERNAL', `volume ${name} is out of the trash, which could not be written down`)
      },
    )
  }

  async #deleteNow(driver: Driver, volume: Volume, operationId?: string): Promise<undefined> {
    const { id, name, deletedAt = null } = volume as Partial<TrashedVolume> & Volume
    const work = { kind: 'volume.delete', subject: name, payload: { id, deletedAt }, id: operationId }
    return this.#core.operations.run(work, async (ctx) => {
      await driver.deleteVolume(ctx, volume)
      return { result: undefined, changes: [dropVolume(volume.id)] }
    })
  }

  #purgeTime(volume: Volume, deletedAt: string): string | null {
    if (volume.onRemove === 'retain') return null
    if (volume.onRemove === 'delete') return deletedAt
    return new Date(Date.parse(deletedAt) + this.#core.config.trashKeepMs).toISOString()
  }

  #find(ref: string): TrashedVolume {
    const trash = this.#core.catalog.trash()
    const found = trash.find(({ id }) => id === ref) ?? trash.findLast(({ name }) => name === ref)
    if (found) return found
    throw new AppError('NOT_FOUND', `nothing named ${ref} is in the trash; see: holdfast trash ls`)
  }
}

/** Undoes a discard that has not been written down; data that is in neither place was not moved by it. */
export async function putBack(ctx: DriverContext, driver: Driver, volume: Volume): Promise<void> {
  try {
    await driver.trash?.restore(ctx, volume, volume.name)
  } catch (error) {
    if (!isAppError(error, 'NOT_FOUND')) throw error
  }
}

/** Its time in the trash has passed. */
export function isDue(volume: TrashedVolume): boolean {
  return volume.purgeAt !== null && volume.purgeAt <= now()
}

/** @throws CORRUPT: what is damaged is neither restored, which would overwrite its record, nor deleted */
function intact(volume: TrashedVolume): TrashedVolume {
  if (volume.damage === undefined) return volume
  throw new AppError(
    'CORRUPT',
    `volume ${volume.name} stays in the trash: ${volume.damage}; its data is untouched, restore the catalog from a copy`,
  )
}

/** @throws NOT_SUPPORTED when data that is to be kept would be lost */
function refuseToLose(driver: Driver, volume: Volume, purge: boolean): void {
  if (purge || volume.onRemove !== 'retain') return
  throw new AppError(
    'NOT_SUPPORTED',
    `volume ${volume.name} is to be retained, and driver ${driver.name} has no trash; remove it for good with --purge`,
  )
}

/** Still where it was when it was chosen: not restored, nor restored and removed once more. */
function isSameDiscard(volume: Volume | TrashedVolume, chosen: TrashedVolume): boolean {
  return isTrashed(volume) && volume.deletedAt === chosen.deletedAt && volume.damage === undefined
}
