/**
 * Where a directory of backups must not be: among Holdfast's own data, or in what it backs up, where it would go with it, or become a part
 * of itself. Looks at paths, as the kernel resolves them; reads no data.
 */

import { realpath } from 'node:fs/promises'
import path from 'node:path'
import { AppError } from '../../errors.ts'
import type { Volume } from '../../model.ts'
import { parseStoreUrl } from '../../objectstore/store-url.ts'
import type { Core } from '../core.ts'
import { volumeDirectory } from '../volumes/views.ts'
import type { FoundRepository } from './repositories.ts'

/** @throws INVALID_ARGUMENT for a directory within Holdfast's root, a driver's storage or a volume, or that contains one */
export async function requireApart(core: Core, url: string): Promise<void> {
  const directory = await directoryOf(url)
  if (directory === null) return
  for (const [given, what] of ownPlaces(core)) {
    const place = await resolved(given)
    const relation = isWithin(directory, place) ? 'is within' : isWithin(place, directory) ? 'contains' : undefined
    if (!relation) continue
    const remedy = 'keep backups apart from what they are of, best on another disk'
    throw new AppError('INVALID_ARGUMENT', `${directory} ${relation} ${place}, ${what}; ${remedy}`)
  }
}

/** @throws INVALID_ARGUMENT when the repository is a part of the volume, as one in an adopted directory may be */
export async function requireOutside(core: Core, volume: Volume, { name, url }: FoundRepository): Promise<void> {
  const place = volumeDirectory(core, volume)
  const directory = place === null ? null : await directoryOf(url)
  if (place === null || directory === null || !isWithin(directory, await resolved(place))) return
  const remedy = 'back it up to another place'
  throw new AppError('INVALID_ARGUMENT', `${name} is within volume ${volume.name}, at ${directory}; ${remedy}`)
}

/** Null for what is no directory. */
async function directoryOf(url: string): Promise<string | null> {
  const store = parseStoreUrl(url)
  return store.kind === 'dir' ? resolved(store.path) : null
}

/** With what they are. */
function ownPlaces(core: Core): [place: string, what: string][] {
  const { root, driverOpts } = core.config
  const storages = Object.entries(driverOpts).flatMap(([driver, { path: place }]): [string, string][] =>
    place === undefined ? [] : [[place, `where driver ${driver} keeps volumes`]],
  )
  const volumes = core.catalog.volumes().flatMap((volume): [string, string][] => {
    const place = volumeDirectory(core, volume)
    return place === null ? [] : [[place, `the directory of volume ${volume.name}`]]
  })
  return [[root, "the daemon's own directory"], ...storages, ...volumes]
}

/** The way to it without symlinks, also when it is not there yet. */
async function resolved(place: string): Promise<string> {
  try {
    return await realpath(place)
  } catch {
    const parent = path.dirname(place)
    return parent === place ? place : path.join(await resolved(parent), path.basename(place))
  }
}

function isWithin(inner: string, outer: string): boolean {
  const way = path.relative(outer, inner)
  return way !== '..' && !way.startsWith('../')
}
