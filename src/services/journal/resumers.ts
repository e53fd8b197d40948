/** Which services go on with which kinds of operations that the daemon's end has interrupted. */

import type { Backups } from '../backups/backups.ts'
import type { Restores } from '../backups/restores.ts'
import { runKind } from '../schedules/schedule-run.ts'
import type { Resumers } from './recovery.ts'

export function resumersOf(backups: Backups, restores: Restores): Resumers {
  return {
    locked: { 'backup.restore': (operation) => restores.resume(operation) },
    free: {
      'backup.create': (operation) => backups.resume(operation),
      // Schedules go on with their runs when they start, or begin them anew.
      [runKind]: async () => undefined,
    },
  }
}
