/**
 * Storage for driver tests: scratch directories and small file systems in loop-mounted images, and the calls' context. Everything
 * a bed has made is gone after `dispose`; mounts and loop devices go with the mount namespace that the tests run in when they
 * are interrupted.
 */

import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdir, mkdtemp, realpath, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Driver, DriverContext, Log } from '../../src/driver.ts'
import type { Bytes, Snapshot, Volume } from '../../src/model.ts'
import { isWithin, readMounts, unmount } from '../../src/system/mount.ts'

const execute = promisify(execFile)

/** Runs a program of the test's own. @returns its stdout */
export async function sh(program: string, ...args: string[]): Promise<string> {
  return (await execute(program, args, { maxBuffer: 2 ** 26 })).stdout
}

/** One storage with a driver on it. */
export interface DriverBed {
  /** Holds the storage, and `target()`s. */
  readonly directory: string
  /** A driver on this storage that is not started: what a new daemon has. */
  driver(): Driver
  /** Names on the storage that belong to no volume, such as drafts. */
  leftovers(): Promise<string[]>
  dispose(): Promise<void>
}

/** Where the service would offer a volume or snapshot as mounted; unique. */
export function targetIn(bed: DriverBed): string {
  return join(bed.directory, 'mounts', randomUUID())
}

export const silent: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
}

export function context(signal: AbortSignal = new AbortController().signal): DriverContext {
  return { signal, log: silent, progress: () => undefined }
}

export function newVolume(name: string, given: Partial<Volume> = {}): Volume {
  return {
    id: randomUUID(),
    name,
    size: null,
    options: {},
    driver: 'vfs',
    createdAt: new Date().toISOString(),
    labels: {},
    onRemove: 'trash',
    origin: null,
    hooks: {},
    state: null,
    ...given,
  }
}

export function newSnapshot(volume: Volume, name: string): Snapshot {
  return {
    id: randomUUID(),
    volumeId: volume.id,
    name,
    createdAt: new Date().toISOString(),
    labels: {},
    atomic: true,
    size: volume.size,
    used: null,
    state: null,
  }
}

/** An empty scratch directory on the machine's own file system. */
export async function makeScratch(): Promise<string> {
  return realpath(await mkdtemp(join(tmpdir(), 'holdfast-driver-')))
}

/** Unmounts everything below a scratch directory and removes it. */
export async function removeScratch(scratch: string): Promise<void> {
  const mounts = readMounts().filter((entry) => isWithin(entry.mountpoint, scratch))
  for (const { mountpoint } of mounts.reverse()) await unmount(mountpoint)
  await rm(scratch, { recursive: true, force: true, maxRetries: 10 })
}

/** A file system of its own, in `SCRATCH/disk`, mounted at the returned directory. */
export async function makeFileSystem(scratch: string, mkfs: readonly string[], size: Bytes, options = 'loop') {
  const [disk, at] = [join(scratch, 'disk'), join(scratch, 'fs')]
  await writeFile(disk, '')
  await truncate(disk, size)
  const [program, ...args] = mkfs as [string, ...string[]]
  await sh(program, ...args, disk)
  await mkdir(at)
  await sh('mount', '-o', options, disk, at)
  return at
}
