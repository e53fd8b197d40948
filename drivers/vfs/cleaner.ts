/**
 * Removes behind the scenes what nobody can reach any more, one thing after the other: what an earlier life has left in tmp, and
 * what a revert has replaced. What is not removed when the driver stops is found in tmp by the next start.
 */

import { randomUUID } from 'node:crypto'
import { mkdir, rename } from 'node:fs/promises'
import { basename } from 'node:path'
import type { Log } from '../../src/driver.ts'
import { readdirOrNothing } from '../../src/system/files.ts'
import { releaseMounts, removeFolder } from './drafts.ts'
import type { Layout } from './layout.ts'

/** Works until it is stopped. */
export interface Cleaner {
  /** Takes a file or a tree out of sight and removes it behind; it is gone from `path` when this resolves. */
  take(path: string): Promise<void>
  /** Ends; the rest is left in tmp. */
  stop(): Promise<void>
}

/** Thaws and unmounts what it finds in tmp before it resolves, and removes it behind. */
export async function startCleaner(layout: Layout, log: Log): Promise<Cleaner> {
  const closing = new AbortController()
  let work = Promise.resolve()
  const removeBehind = (folder: string) => {
    work = work.then(() => removeQuietly(folder, log, closing.signal))
  }
  for (const name of await readdirOrNothing(layout.tmp)) {
    await releaseMounts(`${layout.tmp}/${name}`)
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

async function removeQuietly(folder: string, log: Log, signal: AbortSignal): Promise<void> {
  try {
    if (!signal.aborted) await removeFolder(folder, signal)
  } catch (error) {
    if (!signal.aborted) log.warn({ path: folder, err: error }, 'cannot remove what is not needed any more')
  }
}
