/** Giving back to the storage what a volume's file system has freed. */

import type { DriverContext } from '../../driver.ts'
import { AppError } from '../../errors.ts'
import { volumeKey } from '../../locks.ts'
import type { Bytes } from '../../model.ts'
import type { Core } from '../core.ts'
import { withVolume } from '../shared/turn.ts'

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
  return core.locks.with([volumeKey(name)], `volume ${name} is being trimmed`, () =>
    withVolume(core, name, async (turn, volume) => {
      requireTrim(core, volume)
      return (await turn.driver.trim?.trim(turn.within(ctx), volume)) ?? 0
    }),
  )
}
