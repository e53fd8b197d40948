/**
 * Copies the image below a mounted file system while that is frozen, and sees to it that it is thawed whatever happens: the
 * freezing is done by a child program (freeze-child.ts) in a session of its own that outlives this process.
 * The mount given pins the file system, so that nobody else's unmount can be the last one while it is frozen.
 */

import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { AppError } from '../errors.ts'
import { run, toolError } from './exec.ts'

const childProgram = fileURLToPath(new URL(`./freeze-child${extname(import.meta.url)}`, import.meta.url))

/** Exit code of the child when the deadline was over before the copy was done. */
export const deadlineExit = 3

/**
 * Copies `image` to the new file `copy`, holes kept, as the file system mounted at `mountpoint` is at one instant.
 * Writers wait meanwhile, for `deadlineMs` at most. A crash in the middle leaves a part of `copy`, and a thawed file system.
 * @throws TIMEOUT when the copy takes longer, NO_SPACE, the signal's reason
 */
export async function copyFrozen(
  mountpoint: string,
  image: string,
  copy: string,
  deadlineMs: number,
  signal?: AbortSignal,
): Promise<void> {
  const args = [childProgram, mountpoint, image, copy, String(deadlineMs)]
  try {
    const result = await run(process.execPath, args, { signal, supervised: true })
    if (result.exitCode === 0) return
    if (result.exitCode !== deadlineExit) throw toolError('freeze', result)
    throw new AppError(
      'TIMEOUT',
      `copying ${image} took longer than the ${deadlineMs / 1000} s that its writers may be kept waiting; stop or pause the ` +
        'containers that use it, or keep volumes on XFS or btrfs, where a copy takes no time',
    )
  } finally {
    await thaw(mountpoint)
  }
}

/** Thaws the file system mounted at `mountpoint`; one that is not frozen is success. */
export async function thaw(mountpoint: string): Promise<void> {
  await run('fsfreeze', ['--unfreeze', mountpoint])
}
