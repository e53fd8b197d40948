/**
 * The archive, pruned behind the scenes when there is something to give back: after copies were forgotten or could not be
 * finished. That there is, is kept on the storage until it is done: a crash puts it off to the next start.
 */

import { rm, writeFile } from 'node:fs/promises'
import type { DriverContext, Log, TreeArchive } from '../../src/driver.ts'
import { lstatOrNothing } from '../../src/system/files.ts'

/** Copies are mostly forgotten several at a time. */
const quietMs = 2_000

/** What made it fail, such as a full disk, may take a while to mend. */
const retryMs = 6 * 60_000

/** An archive that looks after its room until it is stopped. */
export interface PrunedArchive extends TreeArchive {
  /** Ends a prune at work; the next start goes on. */
  stop(): Promise<void>
}

/** @param mark the file that says that a prune is due */
export async function startPruned(archive: TreeArchive, mark: string, log: Log): Promise<PrunedArchive> {
  const closing = new AbortController()
  const ctx: DriverContext = { signal: closing.signal, log, progress: () => undefined }
  let timer: NodeJS.Timeout | undefined
  let work = Promise.resolve()
  let marks = 0

  const schedule = (afterMs: number) => {
    clearTimeout(timer)
    if (!closing.signal.aborted) timer = setTimeout(() => (work = work.then(prune)), afterMs).unref()
  }
  const due = async (afterMs: number) => {
    marks++
    await writeFile(mark, '', { mode: 0o600 }).catch(() => undefined) // On a full disk: then this life does it, or the next mark.
    schedule(afterMs)
  }
  const prune = async () => {
    const begun = marks
    try {
      await archive.prune(ctx)
      if (marks === begun) await rm(mark, { force: true })
    } catch (error) {
      if (closing.signal.aborted) return
      log.warn({ err: error, retryMs }, 'the archive of snapshots could not give back room')
      schedule(retryMs)
    }
  }

  if (await lstatOrNothing(mark)) schedule(quietMs)
  return {
    save: async (given, root, copy) => {
      try {
        return await archive.save(given, root, copy)
      } catch (error) {
        await due(0) // What it had stored may have filled the disk.
        throw error
      }
    },
    find: (given, id) => archive.find(given, id),
    restore: (given, id, directory) => archive.restore(given, id, directory),
    delete: async (given, ids) => {
      try {
        await archive.delete(given, ids)
      } finally {
        await due(quietMs)
      }
    },
    prune: (given) => archive.prune(given),
    stop: async () => {
      clearTimeout(timer)
      closing.abort()
      await work
    },
  }
}
