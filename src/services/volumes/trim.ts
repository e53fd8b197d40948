/** Giving back to the storage what a volume's file system has freed. */

import type { DriverContext } from '../../driver.ts'
import { AppError } from '../../errors.ts'
import { volumeKey } from '../../locks.ts'
import type { Bytes } from '../../model.ts'
import { type Core, requireVolume } from '../core.ts'

/** @throws NOT_SUPPORTED when the driver has no trim */
export function requireTrim(
  { drivers }: Core,
  { name, driver }: { readonly name: string; readonly driver: string },
): void {
  if (drivers.required(driver).trim) return
  throw new AppError('NOT_SUPPORTED', `volume ${name}: driver ${driver} has nothing to trim`)
}

/** @returns bytes given back @throws NOT_FOUND, NOT_SUPPORTED, ABORTED when something else is at work on the volume */
export function trimVolume(core: Core, ctx: DriverContext, name: string): Promise<Bytes> {
  return core.locks.with([volumeKey(name)], `volume ${name} is being trimmed`, async () => {
    const volume = requireVolume(core, name)
    requireTrim(core, volume)
    const { trim } = await core.drivers.ready(volume.driver)
    return (await trim?.trim(ctx, volume)) ?? 0
  })
}
