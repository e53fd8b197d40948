/** What the journal shows of a verify or a repair that has found damage: their callers get the whole of it, one that was detached has this. */

import type { JobResult } from '../../engine/jobs.ts'
import { AppError } from '../../errors.ts'

/** Undefined when all is well. */
export function damageOf({ damaged, problems }: JobResult<'verify'>): AppError | undefined {
  if (damaged.length === 0 && problems.length === 0) return undefined
  const backups = damaged.length === 1 ? '1 backup is damaged' : `${damaged.length} backups are damaged`
  const fact = `${backups}, ${problems.length} ${problems.length === 1 ? 'problem' : 'problems'}`
  return new AppError('CORRUPT', `${fact}; holdfast backup verify shows them`)
}

/** Undefined when nothing is lost. */
export function lossOf({ leftOut, lostChunks }: JobResult<'repair'>): AppError | undefined {
  if (leftOut.length === 0 && lostChunks === 0) return undefined
  const fact = `${lostChunks} chunks are lost, ${leftOut.length} objects were left out`
  return new AppError('CORRUPT', `${fact}; holdfast backup verify shows what that touches`)
}
