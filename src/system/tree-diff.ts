/**
 * What has changed between two directory trees, such as two mounted snapshots. The work is done in a thread
 * (tree-diff-worker.ts), so that the event loop stays free however large the trees are.
 */

import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'
import { AppError } from '../errors.ts'

/** One path that differs. */
export interface TreeChange {
  /** Below the trees' roots, without a leading slash; `.` is the root itself. Bytes that cannot be printed are `\xHH`. */
  readonly path: string
  readonly change: 'added' | 'removed' | 'modified'
}

const workerProgram = new URL(`./tree-diff-worker${extname(import.meta.url)}`, import.meta.url)

/**
 * Compares the directories `a` (before) and `b` (after). A file is modified when its type, mode, owner, size, symlink text or
 * device number differs, or its content does; content is read only where size is the same and the time of change is not.
 * A directory is modified when its mode or owner differs; what is in it is listed by itself. Symlinks are not followed.
 * @returns changes in the order of their paths; a tree that is only in one of them is listed entry by entry
 * @throws NOT_FOUND, PERMISSION_DENIED, INTERNAL, or the signal's reason
 */
export async function diffTrees(
  a: string,
  b: string,
  options: { readonly signal?: AbortSignal } = {},
): Promise<TreeChange[]> {
  options.signal?.throwIfAborted()
  const worker = new Worker(workerProgram, { workerData: { a, b } })
  const abandon = () => void worker.terminate()
  options.signal?.addEventListener('abort', abandon, { once: true })
  try {
    return await resultOf(worker)
  } catch (error) {
    options.signal?.throwIfAborted()
    throw error
  } finally {
    options.signal?.removeEventListener('abort', abandon)
    await worker.terminate()
  }
}

type Message = { readonly changes: TreeChange[] } | { readonly failed: string; readonly code: string }

function resultOf(worker: Worker): Promise<TreeChange[]> {
  return new Promise((resolve, reject) => {
    worker.once('message', (message: Message) => {
      if ('changes' in message) resolve(message.changes)
      else reject(new AppError(message.code === 'ENOENT' ? 'NOT_FOUND' : 'INTERNAL', `compare: ${message.failed}`))
    })
    worker.once('error', reject)
    worker.once('exit', () => reject(new AppError('INTERNAL', 'the comparison ended without a result; try again')))
  })
}
