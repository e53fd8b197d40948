/** Taking a volume over that one node at a time may mount, from a node that is gone; and what is at risk then. */

import { AppError } from '../../errors.ts'
import { mountKey } from '../../locks.ts'
import { type Core, requireVolume } from '../core.ts'
import type { TakeoverView } from '../volumes/contract.ts'
import { isShared } from './shared-copies.ts'

/**
 * Makes this node the one that may mount the volume. Idempotent; a crash in the middle leaves it with one of the two nodes.
 * @param force even though the other node is alive
 * @throws NOT_FOUND, NOT_SUPPORTED for a volume that every node, or only this one, may mount, IN_USE without `force` while the other
 * node is alive, UNAVAILABLE
 */
export async function takeOver(core: Core, name: string, force: boolean): Promise<TakeoverView> {
  if (!core.catalog.volume(name)) await core.shared.discover(name)
  return core.locks.with([mountKey(name)], `volume ${name} is being taken over`, async () => {
    const volume = requireVolume(core, name)
    const driver = await core.drivers.ready(volume.driver)
    if (!isShared(driver)) {
      throw new AppError(
        'NOT_SUPPORTED',
        `volume ${name} is on this node alone (driver ${driver.name}); there is no other node to take it over from`,
      )
    }
    const holder = core.shared.views.nodesWith(volume).find(({ alive }) => alive)
    const { from } = await driver.shared.takeover(core.operations.plainContext(), volume, force)
    core.shared.views.regained(volume.id)
    if (from !== null) core.log.warn({ subject: name, from, force }, 'a volume was taken over from another node')
    return { name, from, risk: from === null ? null : riskOf(name, from, holder?.name === from) }
  })
}

function riskOf(name: string, from: string, isAlive: boolean): string {
  if (isAlive) {
    return (
      `node ${from} is alive: until it notices, what its containers write to ${name} mixes with what is written here, and may damage both; ` +
      `stop them now, and check the data`
    )
  }
  return (
    `what containers on node ${from} had not synced is lost; should that node still run, cut off, what they write until it notices ` +
    `mixes with what is written here: make sure that it is off. When it is back, its mount is read-only, and holdfast doctor there says so`
  )
}
