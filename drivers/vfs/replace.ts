/**
 * The content of one volume becomes another's: it is moved, not copied. Each step can be told from what stands on the storage:
 *
 *   moved beside the volume's own as `next~ID`; `replaced` names ID; swapped (swap.ts); the emptied folder is removed
 */

import { rename, rm, symlink } from 'node:fs/promises'
import type { DriverContext } from '../../src/driver.ts'
import { AppError } from '../../src/errors.ts'
import type { Bytes, Volume } from '../../src/model.ts'
import { lstatOrNothing, readlinkOrNothing, syncPath } from '../../src/system/files.ts'
import type { Cleaner } from './cleaner.ts'
import { removeByDraft } from './drafts.ts'
import { growImage, imageUsage } from './images.ts'
import { dataOf, findVolume, imageOf, volumeFolder } from './layout.ts'
import { stateOf, type VfsState } from './options.ts'
import { syncPlace } from './places.ts'
import { limitByGroup, resizeProject } from './quota.ts'
import type { Storage } from './storage.ts'
import { clearForSwap, ensureOwn, removePrevious, type Swap, swapIn, swapOf } from './swap.ts'
import { detached, scratchOf } from './volumes.ts'

/**
 * As `ReplaceCapability.replace`. The volume keeps its size, or has that of `from` when it is an image and larger.
 * @throws FAILED_PRECONDITION when `from` is kept or limited in another way, or holds btrfs subvolumes that would be lost
 */
export async function replaceVolume(
  storage: Storage,
  cleaner: Cleaner,
  ctx: DriverContext,
  volume: Volume,
  from: Volume,
): Promise<VfsState> {
  const state = stateOf(volume)
  ensureOwn(volume, state)
  const folder = await volumeFolder(storage.layout, volume)
  const swap = swapOf(volume, folder, from.id)
  const mark = `${folder}/replaced`
  const isSwapped = !(await lstatOrNothing(swap.next)) && (await readlinkOrNothing(mark)) === from.id
  if (!isSwapped) {
    if (!(await lstatOrNothing(swap.next))) await moveBeside(storage, cleaner, ctx, swap, from)
    await rm(mark, { force: true })
    await symlink(from.id, mark)
    await swapIn(cleaner, swap)
  }
  await removePrevious(cleaner, swap.previous)
  const emptied = await findVolume(storage.layout, from)
  if (emptied) await removeByDraft(storage, ctx, from.id, emptied)
  return state
}

async function moveBeside(storage: Storage, cleaner: Cleaner, ctx: DriverContext, swap: Swap, from: Volume) {
  const { volume, folder, next } = swap
  ensureAlike(volume, from)
  const source = await volumeFolder(storage.layout, from)
  await clearForSwap(cleaner, swap, 'the restore would remove', ctx.signal)
  await detached(from, source, async () => {
    await takeOverSize(storage, ctx, swap, from, source)
    await syncPlace(source, stateOf(volume).kind, ctx.signal)
    ctx.signal.throwIfAborted()
    await rename(stateOf(volume).kind === 'image' ? await imageOf(source) : await dataOf(source), next)
    await syncPath(folder)
  })
}

function ensureAlike(volume: Volume, from: Volume): void {
  const [is, wanted] = [stateOf(from), stateOf(volume)]
  if (is.kind === wanted.kind && is.limit === wanted.limit && is.adopt === null) return
  const shown = ({ kind, limit }: VfsState) => (limit === null || limit === kind ? kind : `${kind} with ${limit} quota`)
  throw new AppError(
    'FAILED_PRECONDITION',
    `volume ${volume.name} is kept as ${shown(wanted)}, but the storage now keeps new volumes as ${shown(is)}; ` +
      'restore to a new volume, and use that one',
  )
}

/** Gives the new content the limit that the volume has. */
async function takeOverSize(storage: Storage, ctx: DriverContext, swap: Swap, from: Volume, source: string) {
  const { volume, current } = swap
  const { limit } = stateOf(volume)
  if (limit === 'image') {
    const [image, size] = [await imageOf(source), await imageLimit(volume, current)]
    if (((await imageUsage(image)).size ?? 0) < size) {
      await growImage(image, size, scratchOf(storage.layout, from), ctx.signal)
    }
  } else if (limit !== null && volume.size !== null) {
    const data = await dataOf(source)
    if (limit === 'project') await resizeProject(storage, data, volume.size, ctx.signal)
    else await limitByGroup(data, volume.size, ctx.signal)
  }
}

async function imageLimit(volume: Volume, image: string): Promise<Bytes> {
  const now = (await lstatOrNothing(image)) ? (await imageUsage(image)).size : null
  return Math.max(volume.size ?? 0, now ?? 0)
}
