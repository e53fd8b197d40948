/**
 * Retention, carried out on a repository: decides by repository/retention.ts for each volume of each host by itself,
 * and deletes.
 */

import { volumeLabel } from '../model.ts'
import type { Backup } from '../repository/manifest.ts'
import type { Repository } from '../repository/repository.ts'
import { applyRetention, type RetentionPolicy } from '../repository/retention.ts'

export interface ForgetArgs {
  readonly volume: string
  /** Null: of every host, each by itself. */
  readonly host: string | null
  /** Only backups that carry all of them. */
  readonly labels?: Readonly<Record<string, string>> | undefined
  readonly policy: RetentionPolicy
  /** Of the policy's days, weeks, …; an IANA name. */
  readonly timeZone: string
  /** Only decide. */
  readonly dryRun: boolean
}

export interface ForgetDecision {
  readonly backup: Backup
  readonly keep: boolean
  /** Why it is kept: `last`, `daily`, …, `newest`; empty when it is not. */
  readonly reasons: readonly string[]
}

/**
 * Deletes the backups of a volume that the policy does not keep; their data stays until a prune. Of each line (host and volume id:
 * a volume that was made anew by the same name begins one) the newest always stays, and so does the newest that is not known to be damaged. Interrupted, it leaves some of them; run
 * it again.
 * @returns decisions, newest first for each line @throws INVALID_ARGUMENT for a policy without a rule or an unknown
 * time zone
 */
export async function forget(repository: Repository, args: ForgetArgs, signal: AbortSignal): Promise<ForgetDecision[]> {
  const damaged = await repository.damagedBackups(signal)
  const wanted = Object.entries(args.labels ?? {})
  const backups = (await repository.listBackups(new Map(), signal)).filter(
    ({ volume, host, labels }) =>
      volume === args.volume &&
      (args.host === null || host === args.host) &&
      wanted.every(([key, value]) => labels[key] === value),
  )
  const rules = { timeZone: args.timeZone, isSound: ({ id }: Backup) => !damaged.has(id) }
  const decisions = [...Map.groupBy(backups, lineOf).values()].flatMap((line) =>
    applyRetention(line, args.policy, rules).map(({ item, keep, reasons }) => ({ backup: item, keep, reasons })),
  )
  const doomed = decisions.filter(({ keep }) => !keep).map(({ backup }) => backup.id)
  if (!args.dryRun && doomed.length > 0) await repository.deleteBackups(doomed, signal)
  return decisions
}

/** Names the line that a backup belongs to. */
export function lineOf({ host, labels }: Pick<Backup, 'host' | 'labels'>): string {
  return JSON.stringify([host, labels[volumeLabel] ?? null])
}
