/** Names that Holdfast gives by itself. */

import type { Volume } from '../../model.ts'
import type { Core } from '../core.ts'
import { now } from '../now.ts'

/** `PREFIX-20261123-100000` (UTC), with a number behind it when a snapshot of the volume has that name already. */
export function timedName(core: Core, volume: Volume, prefix: string): string {
  const [day, time] = now().replaceAll(/[-:]/g, '').split('T') as [string, string]
  const base = `${prefix}-${day}-${time.slice(0, 6)}`
  let name = base
  for (let number = 2; core.catalog.snapshot(volume.id, name); number++) name = `${base}-${number}`
  return name
}
