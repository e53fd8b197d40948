/** Which snapshots have their content in the archive, and its being forgotten with them. The mark is `archived` in their folder. */

import { writeFile } from 'node:fs/promises'
import type { DriverContext, TreeArchive } from '../../src/driver.ts'
import { AppError, toAppError } from '../../src/errors.ts'
import { lstatOrNothing, readdirOrNothing } from '../../src/system/files.ts'
import { ownerOf } from './layout.ts'

/** Marks a draft of a snapshot, before anything goes to the archive: what a crash leaves tells of the copy. */
export async function markArchived(draft: string): Promise<void> {
  await writeFile(`${draft}/archived`, '', { flag: 'wx', mode: 0o600 })
}

/** Whether the snapshot in a folder has its content in the archive. */
export async function isArchived(folder: string): Promise<boolean> {
  return (await lstatOrNothing(`${folder}/archived`))?.isFile() ?? false
}

/** Has the archive forget the snapshot in a folder, or those of the volume in it. Costs a look when there are none. */
export async function forgetCopies(archive: TreeArchive, ctx: DriverContext, folder: string): Promise<void> {
  const ids = await archivedIn(folder)
  if (ids.length > 0) await archive.delete(ctx, ids)
}

/** The archive's failure, said of what was to be done. */
export function archiveError(error: unknown, doing: string): AppError {
  const { code, message, details } = toAppError(error)
  return new AppError(code, `cannot ${doing}: ${message}`, { details, cause: error })
}

async function archivedIn(folder: string): Promise<string[]> {
  const own = await idIfArchived(folder)
  if (own !== undefined) return [own]
  const snapshots = `${folder}/snapshots`
  if (!(await lstatOrNothing(snapshots))?.isDirectory()) return []
  const ids: string[] = []
  for (const name of await readdirOrNothing(snapshots)) {
    const id = await idIfArchived(`${snapshots}/${name}`)
    if (id !== undefined) ids.push(id)
  }
  return ids
}

async function idIfArchived(folder: string): Promise<string | undefined> {
  return (await isArchived(folder)) ? ownerOf(folder) : undefined
}
