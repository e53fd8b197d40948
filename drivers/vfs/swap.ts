/**
 * A volume's content, swapped for another by two renames: the new one stands ready in the volume's folder as `next~ID`, the old one
 * becomes `previous` for the moment between. A crash in there is finished by the same call.
 */

import { rename } from 'node:fs/promises'
import { AppError } from '../../src/errors.ts'
import type { Volume } from '../../src/model.ts'
import { lstatOrNothing, readdirOrNothing, syncPath } from '../../src/system/files.ts'
import type { Cleaner } from './cleaner.ts'
import { stateOf, type VfsState } from './options.ts'
import { ensureNoneInside } from './subvolumes.ts'
import { detached } from './volumes.ts'

/** The places of a swap in a volume's folder. */
export interface Swap {
  readonly volume: Volume
  readonly folder: string
  readonly current: string
  readonly next: string
  readonly previous: string
}

/** @param id of what the new content comes from; different ones do not take each other for theirs */
export function swapOf(volume: Volume, folder: string, id: string): Swap {
  const part = stateOf(volume).kind === 'image' ? 'image' : 'data'
  const [current, next, previous] = [`${folder}/${part}`, `${folder}/next~${id}`, `${folder}/previous`]
  return { volume, folder, current, next, previous }
}

/** @throws NOT_SUPPORTED for adopted data, which is not ours to replace */
export function ensureOwn({ name }: Volume, { adopt }: VfsState): void {
  if (adopt === null) return
  throw new AppError(
    'NOT_SUPPORTED',
    `volume ${name} is the adopted directory ${adopt}, which is not ours to replace; ` +
      'create a volume with the content and copy back what you need',
  )
}

/** Sees that nothing is lost by a swap that is to be prepared, and removes what others have left. @throws FAILED_PRECONDITION */
export async function clearForSwap(cleaner: Cleaner, swap: Swap, doing: string, signal: AbortSignal): Promise<void> {
  const { volume, folder, current } = swap
  if (stateOf(volume).kind === 'subvolume' && (await lstatOrNothing(current))) {
    await ensureNoneInside(current, volume, doing, signal)
  }
  for (const name of await readdirOrNothing(folder)) {
    if (name.startsWith('next~') || name === 'previous') await cleaner.take(`${folder}/${name}`)
  }
}

/** Puts what stands ready in its place; what was there is removed behind. @throws IN_USE when it is mounted */
export async function swapIn(cleaner: Cleaner, { volume, folder, current, next, previous }: Swap): Promise<void> {
  await detached(volume, folder, async () => {
    if (await lstatOrNothing(current)) await rename(current, previous)
    await rename(next, current)
    await syncPath(folder)
  })
  await removePrevious(cleaner, previous)
}

/** Removes what a swap has replaced; gone is success. */
export async function removePrevious(cleaner: Cleaner, previous: string): Promise<void> {
  if (await lstatOrNothing(previous)) await cleaner.take(previous)
}
