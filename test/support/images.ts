/** Images for `docker import`, made from the busybox of this machine: no registry is asked for anything. */

import { chmodSync, copyFileSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { exec } from '../../src/system/exec.ts'

const applets = [
  'sh',
  'cat',
  'cp',
  'dd',
  'df',
  'echo',
  'id',
  'ln',
  'ls',
  'mkdir',
  'mount',
  'rm',
  'sleep',
  'stat',
  'sync',
  'touch',
]

/**
 * Makes the tar of an image with a shell, and in `/seed` a file `hello` of user 7 that a fresh volume gets as its content.
 * @param directory where it may put files @returns the path of the tar
 */
export async function busyboxImage(directory: string): Promise<string> {
  const root = join(directory, 'image')
  for (const name of ['bin', 'seed', 'tmp']) mkdirSync(join(root, name), { recursive: true })
  copyFileSync('/bin/busybox', join(root, 'bin/busybox'))
  chmodSync(join(root, 'bin/busybox'), 0o755)
  for (const name of applets) symlinkSync('busybox', join(root, 'bin', name))
  writeFileSync(join(root, 'seed/hello'), 'hello from the image\n', { mode: 0o640 })
  const tar = join(directory, 'image.tar')
  await exec('tar', ['-C', root, '--owner=7', '--group=7', '-cf', tar, 'seed'])
  await exec('tar', ['-C', root, '--owner=0', '--group=0', '-rf', tar, 'bin', 'tmp'])
  return tar
}
