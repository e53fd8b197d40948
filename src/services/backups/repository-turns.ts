/** Turns at the heavy work of a repository: backups, restores, prunes and verifies. */

import { KeyedTurns } from '../../system/turns.ts'

/** How many of them run at once on one repository. */
const heavyAtOnce = 2

/** By the repository's URL. */
export class RepositoryTurns extends KeyedTurns {
  constructor() {
    super(heavyAtOnce)
  }
}
