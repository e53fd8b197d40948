/**
 * Removes behind the scenes what nobody can reach any more, one thing after the other: what an earlier life has left in tmp, and
 * what a revert has replaced. What is not removed when the driver stops is found in tmp by the next start.
 */

import { randomUUID } from 'node:crypto'
import { mkdir, rename } from 'node:fs/promises'
import { basename } from 'node:path'
import type { DriverContext, Log, TreeArchive } from '../../src/driver.ts'
import { readdirOrNothing } from '../../src/system/files.ts'
import { forgetCopies } from './archived.ts'
import { releaseMounts, removeFolder } from './drafts.ts'
import type { Layout } from './layout.ts'

/** Works until it is stopped. */
export interface Cleaner {
  /** Takes a file or a tree out of sight and removes it behind; it is gone from `path` when this resolves. */
  take(path: string): Promise<void>
  /** Ends; the rest is left in tmp. */
  stop(): Promise<void>
}

/**
 * Thaws and unmounts what it finds in tmp, and has its copies forgotten, before it resolves; removes it behind.
 * @param archive of snapshots whose creation or removal was interrupted; when it cannot forget them, the next start tries again
 */
export async function startCleaner(layout: Layout, archive: TreeArchive, ctx: DriverContext): Promise<Cleaner> {
  const { log } = ctx
  const closing = new AbortController()
  let work = Promise.resolve()
  const removeBehind = (folder: string) => {
    work = work.then(() => removeQuietly(folder, log, closing.signal))
  }
  for (const name of await readdirOrNothing(layout.tmp)) {
    await releaseMounts(`${layout.tmp}/${name}`)
    if (!(await forgetQuietly(archive, ctx, `${layout.tmp}/${name}`))) continue
    // A new draft of the same id must not meet the old one.
    const aside = asideIn(layout)
    await rename(`${layout.tmp}/${name}`, aside)
    removeBehind(aside)
  }
  return {
    take: async (path) => {
      const aside = asideIn(layout)
      await mkdir(aside)
      await rename(path, `${aside}/${basename(path)}`)
      removeBehind(aside)
    },
    stop: async () => {
      closing.abort()
      await work
    },
  }
}

function asideIn(layout: Layout): string {
  return `${layout.tmp}/.leftover-${randomUUID()}`
}

/** @returns false when the copies are not forgotten: then what tells of them has to stay */
async function forgetQuietly(archive: TreeArchive, ctx: DriverContext, folder: string): Promise<boolean> {
  try {
    await forgetCopies(archive, ctx, folder)
    return true
  } catch (error) {
    ctx.signal.throwIfAborted()
    ctx.log.warn({ path: folder, err: error }, 'cannot forget the copies of what was not finished')
    return false
  }
}

async function removeQuietly(folder: string, log: Log, signal: AbortSignal): Promise<void> {
  try {
    if (!signal.aborted) await removeFolder(folder, signal)
  } catch (error) {
    if (!signal.aborted) log.warn({ path: folder, err: error }, 'cannot remove what is not needed any more')
  }
}
