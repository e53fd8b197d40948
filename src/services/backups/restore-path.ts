/**
 * Puts one restored path in the place of what a tree holds there. Works in a tree that nobody else sees, and follows no symlink in it: the tree's
 * names are a container's.
 */

import { rename, rm } from 'node:fs/promises'
import { AppError } from '../../errors.ts'
import { ensureDirectory, lstatOrNothing } from '../../system/files.ts'

/** In the root of the tree; what it held before goes with it. */
const stagingName = '.holdfast-restored-path'

/** Makes an empty directory in the tree, to restore into. */
export async function stagingIn(root: string): Promise<string> {
  const staging = `${root}/${stagingName}`
  await rm(staging, { recursive: true, force: true })
  await ensureDirectory(staging, 0o700)
  return staging
}

/**
 * Moves `path`, restored below `staging`, to its place below `root`, with those directories above it that are missing there; removes `staging`.
 * @throws FAILED_PRECONDITION when something that is no directory is in the way
 */
export async function putInPlace(root: string, staging: string, path: string, signal: AbortSignal): Promise<void> {
  const parts = path.split('/').filter((part) => part !== '')
  let [from, to] = [staging, root]
  for (const [index, part] of parts.entries()) {
    signal.throwIfAborted()
    ;[from, to] = [`${from}/${part}`, `${to}/${part}`]
    const there = await lstatOrNothing(to)
    if (index < parts.length - 1 && there) {
      if (there.isDirectory()) continue
      const what = there.isSymbolicLink() ? 'a symlink, which is not followed' : 'no directory'
      throw new AppError(
        'FAILED_PRECONDITION',
        `${parts.slice(0, index + 1).join('/')} in the volume is ${what}; restore a path above it`,
      )
    }
    await rm(to, { recursive: true, force: true })
    await rename(from, to)
    break
  }
  await rm(staging, { recursive: true, force: true })
}
