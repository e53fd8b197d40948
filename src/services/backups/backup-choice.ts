/**
 * Which backup in a repository a name means. `latest` never means another volume's than the one that is meant, nor another node's while
 * there is a choice: what cannot be told is asked for. Only a whole id costs no listing.
 */

import { hostname } from 'node:os'
import { AppError } from '../../errors.ts'
import type { Core } from '../core.ts'
import { placeOf, type StoredBackup, type WantedBackup } from './repositories.ts'

/** Digits of a whole id. */
export const wholeId = 32

/**
 * Finds the backup in its repository.
 * @param meant the volume that plain `latest` means, when the repository has any backup of it
 * @throws NOT_FOUND; INVALID_ARGUMENT for digits of several; FAILED_PRECONDITION for `latest` of volumes or hosts that it does not name
 */
export async function findBackup(
  core: Core,
  wanted: WantedBackup,
  { meant, signal }: { readonly meant?: string; readonly signal?: AbortSignal | undefined } = {},
): Promise<StoredBackup> {
  const { repository, id, latestOf } = wanted
  const place = placeOf(repository)
  if (id?.length === wholeId) return core.engine.run(place, 'getBackup', { id }, { signal })
  const filter = latestOf === null ? {} : { volume: latestOf }
  const backups = await core.engine.run(place, 'listBackups', filter, { signal })
  return id === null ? latestIn(wanted, ofVolume(wanted, backups, meant)) : withDigits(wanted, id, backups)
}

function withDigits({ repository: { name } }: WantedBackup, id: string, backups: readonly StoredBackup[]) {
  const [found, other] = backups.filter((backup) => backup.id.startsWith(id))
  if (other) throw new AppError('INVALID_ARGUMENT', `several backups in ${name} begin with ${id}; give more digits`)
  if (found) return found
  throw new AppError('NOT_FOUND', `there is no backup ${id} in ${name}; see: holdfast backup ls ${name}`)
}

/** Those of the one volume that is meant. */
function ofVolume(wanted: WantedBackup, backups: readonly StoredBackup[], meant: string | undefined): StoredBackup[] {
  const byVolume = Map.groupBy(backups, ({ volume }) => volume)
  const { latestOf, repository } = wanted
  const named = byVolume.get(latestOf ?? meant ?? '')
  if (named) return named
  const [only, ...others] = byVolume.values()
  if (only && others.length === 0 && latestOf === null) return only
  const { name } = repository
  if (!only) {
    const what = latestOf === null ? 'no backup' : `no backup of volume ${latestOf}`
    throw new AppError('NOT_FOUND', `there is ${what} in ${name}; see: holdfast backup ls ${name}`)
  }
  const volumes = listed(byVolume.keys())
  const form = name.includes('://') ? `${name}?backup=VOLUME@latest` : `${name}/VOLUME@latest`
  const fact = meant === undefined ? '' : `, and none of volume ${meant}`
  throw new AppError('FAILED_PRECONDITION', `${name} holds backups of ${volumes}${fact}; say whose latest: ${form}`)
}

/** Of this host, else of the only one. */
function latestIn({ repository }: WantedBackup, ofVolume: readonly StoredBackup[]): StoredBackup {
  const byHost = Map.groupBy(ofVolume, ({ host }) => host)
  const [only, ...others] = byHost.values()
  const found = byHost.get(hostname()) ?? (others.length === 0 ? only : undefined)
  const latest = found?.at(-1)
  if (latest) return latest
  const volume = ofVolume[0]?.volume
  const fact = `the backups of volume ${volume} in ${repository.name} are of the hosts ${listed(byHost.keys())}`
  const remedy = `give the id of one: holdfast backup ls ${repository.name} --volume ${volume}`
  throw new AppError('FAILED_PRECONDITION', `${fact}, and none of ${hostname()}; ${remedy}`)
}

/** Repositories of many have many. */
const mostListed = 20

/** Their names, one after the other. */
export function listed(names: Iterable<string>): string {
  const all = [...names].sort()
  const more = all.length > mostListed ? ` and ${all.length - mostListed} more` : ''
  return all.slice(0, mostListed).join(', ') + more
}
