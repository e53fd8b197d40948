/**
 * Makes changes of a living tree tell by its files' times. A program that writes through mmap(2) changes a file's ctime with its first write to a page
 * only, until the page has been written to the disk: what it writes to the page after a backup would look as if it had been in it.
 */

import { syncFileSystem } from '../../system/files.ts'

/**
 * Call it after the moment that the backup bears, and before anything is read: what changes from that moment on is read again by the next backup, and
 * what was changed before shows its next change. Not on tmpfs, which writes nothing to any disk.
 */
export async function settleTimes(root: string, signal: AbortSignal): Promise<void> {
  await syncFileSystem(root, signal)
}
