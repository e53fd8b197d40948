/**
 * Subvolumes that a container has made inside a volume that is a btrfs subvolume itself, which takes no privilege. A snapshot
 * leaves them out, and a removal meets them.
 * Facts: btrfs-subvolume(8), btrfs-property(8), find(1).
 */

import { AppError } from '../../src/errors.ts'
import type { Volume } from '../../src/model.ts'
import { exec, run } from '../../src/system/exec.ts'
import { subvolumeInode } from './layout.ts'

/** How many a message names. */
const named = 5

/**
 * Makes sure that a subvolume holds no other. O(subvolumes of the file system).
 * @param doing what would lose them, for the message
 * @throws FAILED_PRECONDITION with their names
 */
export async function ensureNoneInside(
  data: string,
  volume: Volume,
  doing: string,
  signal: AbortSignal,
): Promise<void> {
  const list = await exec('btrfs', ['subvolume', 'list', '-o', data], { signal })
  // Only to be shown: whoever made them has chosen their names.
  const names = [...list.matchAll(/^ID \d+ .* path (.*)$/gm)].map(([, path]) => insideOf(path ?? '', data))
  if (names.length === 0) return
  const more = names.length > named ? ` and ${names.length - named} more` : ''
  throw new AppError(
    'FAILED_PRECONDITION',
    `volume ${volume.name} has btrfs subvolumes inside (${names.slice(0, named).join(', ')}${more}), which ${doing}; ` +
      'replace each by a plain directory (copy it, then delete it with: btrfs subvolume delete)',
  )
}

/** The part of a path in the file system that is inside the volume. */
function insideOf(path: string, data: string): string {
  const folder = data.split('/').slice(-3).join('/')
  const at = path.indexOf(`${folder}/`)
  return at < 0 ? path : path.slice(at + folder.length + 1)
}

/**
 * Makes every subvolume in a tree that is to be removed writable, so that rm can remove it. find hands each over from within its
 * directory: a symlink that is swapped in on the way to it is not followed. O(files).
 */
export async function makeSubvolumesWritable(tree: string, signal?: AbortSignal): Promise<void> {
  const writable = ['btrfs', 'property', 'set', '-f', '-t', 'subvol', '{}', 'ro', 'false']
  const args = ['-P', tree, '-inum', String(subvolumeInode), '-type', 'd', '-execdir', ...writable, ';']
  await run('find', args, { signal, timeoutMs: 0 }) // A directory that is none is left alone; rm reports what is in its way.
}
