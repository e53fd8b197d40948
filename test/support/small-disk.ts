/** A small file system of its own in a sandbox, which a test fills up and makes room on again. */

import { closeSync, fsyncSync, mkdirSync, openSync, rmSync, statfsSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { errno } from '../../src/errors.ts'
import type { FaultBed } from './fault-bed.ts'

export const fileSystems = ['ext4', 'xfs', 'btrfs'] as const

/** Makes a file system of `size` (as truncate takes it) in a file and mounts it at `directory/disk`. */
export function makeSmallDisk(fileSystem: (typeof fileSystems)[number], size: string) {
  return async (run: FaultBed['run'], directory: string): Promise<void> => {
    const [file, mountpoint] = [join(directory, 'disk.img'), join(directory, 'disk')]
    mkdirSync(mountpoint)
    for (const [program, ...args] of [
      ['truncate', '--size', size, file],
      [`mkfs.${fileSystem}`, '-q', file],
      ['mount', '-o', 'loop', file, mountpoint],
    ] as const) {
      const { exitCode, stderr } = await run(program, ...args)
      if (exitCode !== 0) throw new Error(`${program}: ${stderr}`)
    }
  }
}

/** Fills the disk until not a block is left. @param leave bytes to leave free after all */
export function fill(bed: FaultBed, leave = 0): void {
  const ballast = bed.sandbox.reach(join(bed.sandbox.directory, 'disk/ballast'))
  const file = openSync(ballast, 'w')
  const chunk = Buffer.alloc(2 ** 20, 1)
  for (let size = chunk.length; size >= 512; ) {
    const { bfree, bsize } = statfsSync(ballast)
    if (bfree * bsize <= leave) break
    try {
      writeSync(file, chunk, 0, size)
      fsyncSync(file) // Only then it is counted.
    } catch (error) {
      if (errno(error) !== 'ENOSPC') throw error
      size = size / 2
    }
  }
  closeSync(file)
}

/** Takes away what `fill` has put there. */
export function makeRoom(bed: FaultBed): void {
  rmSync(bed.sandbox.reach(join(bed.sandbox.directory, 'disk/ballast')), { force: true })
}
