/**
 * Start: the pool is brought up or taken over, what a crash has left suspended goes on, and devices of ours that nothing has open
 * are taken down.
 */

import { existsSync } from 'node:fs'
import { mkdir, open as openFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { DriverContext } from '../../src/driver.ts'
import { AppError, isAppError } from '../../src/errors.ts'
import type { Snapshot, Volume } from '../../src/model.ts'
import { type FileLock, lockPath } from '../../src/system/lock-file.ts'
import { KeyedTurns, Turns } from '../../src/system/turns.ts'
import { devicesOn } from './devices.ts'
import { ignoringGone, removeDevices, resume } from './dmsetup.ts'
import { clearScratch } from './filesystem.ts'
import type { Settings } from './options.ts'
import { ensureUsable, extendPool, openPool, type Pool, readStatus, releaseMetadata } from './pool.ts'
import { Registry } from './registry.ts'
import type { PoolStatus } from './status.ts'
import type { Storage } from './storage.ts'
import { PoolWatch } from './watch.ts'

export interface Opened {
  readonly storage: Storage
  readonly watch: PoolWatch
  readonly lock: FileLock
}

/** Each of them runs a few programs, and mkfs has the disk to do. */
const makersAtOnce = 8

/** Programs, by the Debian package that has them. */
const programs: Readonly<Record<string, string>> = {
  dmsetup: 'dmsetup',
  thin_delta: 'thin-provisioning-tools',
  'mkfs.ext4': 'e2fsprogs',
  'mkfs.xfs': 'xfsprogs',
}

/** @param directory of the driver, below the daemon's root @throws UNAVAILABLE */
export async function openStorage(
  settings: Settings,
  directory: string,
  ctx: DriverContext,
  known: readonly Volume[],
  snapshots: readonly Snapshot[],
): Promise<Opened> {
  ensurePrograms()
  const lock = await lockPool(settings.pool.name)
  try {
    const isKnown = known.some((volume) => volume.state !== null)
    const pool = await openPool(settings, directory, isKnown, ctx.log)
    const status = await bringUp(pool, settings)
    const scratch = join(directory, 'mounts')
    await clearScratch(scratch)
    await takeDownUnused(pool)
    const watch = new PoolWatch(pool, settings, status, ctx.log)
    const registry = new Registry(known, snapshots)
    const turns = { turns: new KeyedTurns(), makers: new Turns(makersAtOnce) }
    const storage = { settings, pool, registry, ...turns, scratch, settled: new Set<string>() }
    return { storage: { ...storage, status: () => watch.status() }, watch, lock }
  } catch (error) {
    lock.release()
    throw error
  }
}

/** @throws UNAVAILABLE naming the package */
function ensurePrograms(): void {
  const directories = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin']
  const missing = Object.keys(programs).filter((name) => !directories.some((path) => existsSync(join(path, name))))
  if (missing.length === 0) return
  const packages = [...new Set(missing.map((name) => programs[name]))].join(' ')
  throw new AppError('UNAVAILABLE', `${missing.join(', ')} not found; install the Debian package ${packages}`)
}

/** One daemon for each pool, whatever its root. */
async function lockPool(name: string): Promise<FileLock> {
  const directory = '/run/holdfast'
  await mkdir(directory, { recursive: true, mode: 0o755 })
  const path = join(directory, `devicemapper-${name}.lock`)
  await (await openFile(path, 'a', 0o600)).close()
  return lockPath(path, 'the thin pool of')
}

async function bringUp(pool: Pool, settings: Settings): Promise<PoolStatus> {
  // Writers wait as long as a device is suspended.
  for (const { name, suspended } of devicesOn(pool.number)) if (suspended) await resume(name)
  const before = await readStatus(pool)
  const status = (await extendPool(pool, settings, before)) ? await readStatus(pool) : before
  ensureUsable(pool, status)
  // One that is out of metadata takes no messages.
  if (status.heldRoot !== null && status.mode !== 'ro') await releaseMetadata(pool)
  return status
}

async function takeDownUnused(pool: Pool): Promise<void> {
  for (const { name } of devicesOn(pool.number)) {
    await ignoringGone(removeDevices([name])).catch((error: unknown) => {
      if (!isAppError(error, 'IN_USE')) throw error
    })
  }
}
