/**
 * How the content of a backup gets into a volume that nobody else sees yet: files through its mount, the image of a device onto its device. Interrupted,
 * the same call goes on: files that are there are compared; an image is written again, until that was done once.
 */

import { realpath } from 'node:fs/promises'
import type { DeviceCapability, Driver, DriverContext } from '../../driver.ts'
import type { Bytes, Volume } from '../../model.ts'
import { syncFileSystem } from '../../system/files.ts'
import { type Core, hiddenTarget } from '../core.ts'
import { placeOf } from './repositories.ts'
import type { RepositoryTurns } from './repository-turns.ts'
import { putInPlace, stagingIn } from './restore-path.ts'
import type { Source } from './restore-source.ts'

/** Whether the image is on the device, as the journal knows it: from then on only the driver may change it. */
export interface ImageNote {
  readonly isWritten: boolean
  /** Makes `isWritten` true for every later life. */
  noteWritten(): Promise<void>
}

export class Filler {
  readonly #core: Core
  readonly #turns: RepositoryTurns

  constructor(core: Core, turns: RepositoryTurns) {
    this.#core = core
    this.#turns = turns
  }

  /** Restores all of a backup of files, or `source.path` with what is above it, into an empty volume, or one that this has begun to fill. */
  async fill(ctx: DriverContext, driver: Driver, volume: Volume, source: Source): Promise<void> {
    await this.#shown(driver, volume, (root) => this.#restoreTree(ctx, source, root))
  }

  /** Puts `source.path` in the place of what the volume holds there. Interrupted, nobody knows how far it came: begin with the volume anew. */
  async fillPath(ctx: DriverContext, driver: Driver, volume: Volume, source: Source): Promise<void> {
    await this.#shown(driver, volume, async (root) => {
      const staging = await stagingIn(root)
      await this.#restoreTree(ctx, source, staging)
      await putInPlace(root, staging, source.path, ctx.signal)
      await syncFileSystem(root, ctx.signal)
    })
  }

  /**
   * Makes `volume` from a backup of a device of `size` bytes, as large as it is to be; never smaller.
   * @returns it with its state @throws what the driver and the engine throw
   */
  async makeFromImage(
    ctx: DriverContext,
    { driver, device }: { readonly driver: Driver; readonly device: DeviceCapability },
    volume: Volume,
    source: Source & { readonly device: Bytes },
    note: ImageNote,
  ): Promise<Volume> {
    const size = source.device
    // An undo that was interrupted may have removed what had been written.
    const isWritten = note.isWritten && (await driver.findVolume(ctx, volume)) !== null
    const made = { ...volume, state: await device.create(ctx, { ...volume, size }, size) }
    const path = await device.open(ctx, made)
    if (!isWritten) {
      await this.#restoreImage(ctx, source, path)
      await note.noteWritten()
    }
    const filled = { ...made, size, state: await device.close(ctx, made) }
    if (!driver.resize || volume.size === null || volume.size <= size) return filled
    return { ...filled, size: volume.size, state: await driver.resize.resize(ctx, filled, volume.size) }
  }

  /** Removes what was being made, mounted by an earlier life or not. */
  async discard(ctx: DriverContext, driver: Driver, volume: Volume): Promise<void> {
    const state = await driver.findVolume(ctx, volume)
    if (state) await driver.unmount(ctx, { ...volume, state }, hiddenTarget(this.#core, volume.id))
    await driver.deleteVolume(ctx, volume)
  }

  async #restoreTree(ctx: DriverContext, source: Source, target: string): Promise<void> {
    const args = { backup: source.backup, target, path: source.path }
    const watch = { signal: ctx.signal, progress: ctx.progress }
    const work = () => this.#core.engine.run(placeOf(source), 'restoreTree', args, watch)
    await this.#turns.with(source.url, ctx.signal, work)
    await syncFileSystem(target, ctx.signal)
  }

  /** The device is new: what the image has no data for, reads as zeros, and is not written to, so that it takes no room. */
  async #restoreImage(ctx: DriverContext, source: Source, device: string): Promise<void> {
    // As udev names it, it is a symlink, which the engine would not follow.
    const args = { backup: source.backup, target: await realpath(device), isZeroed: true }
    const watch = { signal: ctx.signal, progress: ctx.progress }
    const work = () => this.#core.engine.run(placeOf(source), 'restoreBlock', args, watch)
    await this.#turns.with(source.url, ctx.signal, work)
  }

  /** Mounts the volume where nobody looks while `work` runs. */
  async #shown(driver: Driver, volume: Volume, work: (root: string) => Promise<void>): Promise<void> {
    const ctx = this.#core.operations.plainContext()
    const target = hiddenTarget(this.#core, volume.id)
    await driver.mount(ctx, volume, target)
    try {
      await work(driver.mountpoint(volume, target))
    } finally {
      await driver.unmount(ctx, volume, target)
    }
  }
}
