/** What a new volume is to be, as JSON Schema: of one that is created, and of one that is restored. */

import { object } from '../json-schema.ts'
import { text, textMap } from './words.ts'

const hookTexts = {
  preSnapshot: { type: 'string', description: 'run before a snapshot' },
  postSnapshot: { type: 'string', description: 'run after a snapshot' },
  hookContainer: { type: 'string', description: 'where they run' },
  hookTimeout: { type: 'string', description: 'a duration, such as 30s' },
} as const

const hookKeys = ['preSnapshot', 'postSnapshot', 'hookContainer', 'hookTimeout'] as const

/** What can be changed later; an empty text removes it. */
export const updateVolumeBody = object(hookTexts, hookKeys)

/** Sizes are text as it was typed. */
export const newVolume = {
  driver: text,
  size: { type: 'string', description: 'such as 10G' },
  onRemove: { type: 'string', description: 'trash, delete or retain' },
  ...hookTexts,
  labels: textMap,
  options: { ...textMap, description: "the driver's own options" },
} as const

/** All of them may be left out. */
export const newVolumeKeys = ['driver', 'size', 'onRemove', ...hookKeys, 'labels', 'options'] as const
