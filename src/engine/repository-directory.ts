/**
 * What the engine knows of a directory that is a store, besides its objects: whether it is fit for a new repository, and what a try has left in it. Nothing
 * for other stores.
 */

import { readdir, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { AppError } from '../errors.ts'
import type { ObjectStore } from '../objectstore/objectstore.ts'

/** What a file system makes itself, and what the making of a repository that was interrupted leaves. */
const harmless = ['lost+found', '.tmp', 'keys', 'probe']

/** @throws FAILED_PRECONDITION when somebody's files are in the directory, and no repository */
export async function checkFit(store: ObjectStore): Promise<void> {
  const directory = directoryOf(store)
  if (directory === undefined) return
  const names = await readdir(directory)
  const [foreign] = names.filter((name) => !harmless.includes(name)).sort()
  if (foreign === undefined || names.includes('config')) return
  throw new AppError(
    'FAILED_PRECONDITION',
    `${directory} is neither empty nor a repository: it holds '${foreign}'; name an empty directory`,
  )
}

/** Removes directories of a store that are empty. Tidiness: it may fail. A put that meets it is tried again. */
export async function removeEmpty(store: ObjectStore, names: readonly string[]): Promise<void> {
  const directory = directoryOf(store)
  if (directory === undefined) return
  for (const name of names) await rmdir(join(directory, name)).catch(() => undefined)
}

function directoryOf({ facts }: ObjectStore): string | undefined {
  return facts.kind === 'dir' ? facts.details['path'] : undefined
}
