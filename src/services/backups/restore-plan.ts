/** What the journal keeps of a restore: all that a later life needs to go on with it, or to undo it. */

import type { Snapshot, Volume, VolumeSpec } from '../../model.ts'
import type { Source } from './restore-source.ts'

export type NewPlan = {
  readonly source: Source
  readonly volume: Volume
  /** Whether its limit is the one that the backup was under, and nobody has asked for it. */
  readonly isLimitCopied?: boolean
  /** Set when the image of a device is on the new volume's. */
  readonly isWritten?: boolean
}

export type InPlacePlan = {
  readonly source: Source
  readonly volumeId: string
  readonly safety: Snapshot
  /** Filled, and then the volume's content. */
  readonly hidden: VolumeSpec
  /** Set when the image of a device is on the hidden volume's. */
  readonly isWritten?: boolean
  /** Set when it is filled: from then on it is finished, and not undone. */
  readonly filled: Volume | null
}

export type RestorePlan = NewPlan | InPlacePlan

/** To a new volume, not in place. */
export function isNewPlan(plan: RestorePlan): plan is NewPlan {
  return 'volume' in plan
}

/** The hidden volume of a restore in place, before it is made. */
export function hiddenVolume({ driver, createdAt }: Volume, hidden: VolumeSpec): Volume {
  const plain = { labels: {}, hooks: {}, onRemove: 'trash', origin: null, state: null } as const
  return { ...hidden, driver, createdAt, ...plain }
}
