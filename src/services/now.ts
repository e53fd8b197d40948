/** The time, as the catalog keeps it. */

import type { Timestamp } from '../model.ts'

/** This moment. */
export function now(): Timestamp {
  return new Date().toISOString()
}
