/**
 * Mounting exports, and showing directories of them: what mount.nfs(8), mount(8) and umount(8) are told, and what their
 * words mean. Runs in the process of an export only, for any of it may hang.
 */

import { mkdir, realpath, rmdir } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { AppError, isAppError, toAppError } from '../../src/errors.ts'
import { type ExecResult, exec, run, toolError } from '../../src/system/exec.ts'
import { ignoring } from '../../src/system/files.ts'
import { type MountEntry, mountAt } from '../../src/system/mount.ts'
import { labelOf, type NfsExport } from './options.ts'

/** A server that answers does so in less than a second. */
const mountMs = 10_000
const unmountMs = 4_000

/**
 * Mounts an export at a directory of this node, which is made; a mount of it that is there is taken over.
 * @throws UNAVAILABLE, FAILED_PRECONDITION, INVALID_ARGUMENT
 */
export async function mountExport(place: NfsExport, at: string, options: readonly string[]): Promise<void> {
  const there = mountAt(at)
  if (there) return requireSame(there, place)
  await mkdir(at, { recursive: true, mode: 0o700 })
  const source = labelOf(place)
  try {
    await exec('mount.nfs', [source, at, '-o', options.join(',')], { timeoutMs: mountMs })
  } catch (error) {
    throw mountError(place, toAppError(error))
  }
}

function requireSame(there: MountEntry, place: NfsExport): void {
  const isSame = there.fsType.startsWith('nfs') && there.source.replace(/\/$/, '') === labelOf(place).replace(/\/$/, '')
  if (isSame) return
  throw new AppError(
    'FAILED_PRECONDITION',
    `${there.source} is mounted at ${there.mountpoint}, not ${labelOf(place)}; unmount it`,
  )
}

/** mount.nfs' words, as what they mean here. */
function mountError(place: NfsExport, error: AppError): AppError {
  const { message } = error
  const [label, { server, version }] = [labelOf(place), place]
  const as = (code: 'UNAVAILABLE' | 'FAILED_PRECONDITION' | 'INVALID_ARGUMENT', text: string) =>
    new AppError(code, text, { cause: error })
  if (isAppError(error, 'FAILED_PRECONDITION')) return as('FAILED_PRECONDITION', `${message} (Debian: nfs-common)`)
  if (/access denied|Permission denied|Operation not permitted/i.test(message)) {
    return as(
      'FAILED_PRECONDITION',
      `the NFS server ${server} does not let this node mount ${label}; export it to this node (${message})`,
    )
  }
  if (/No such file or directory|does not exist/i.test(message)) {
    return as(
      'FAILED_PRECONDITION',
      `the NFS server ${server} has no export ${place.path}; create and export it (${message})`,
    )
  }
  if (/Protocol not supported|requested NFS version/i.test(message)) {
    return as(
      'FAILED_PRECONDITION',
      `the NFS server ${server} does not speak NFS ${version}; set nfs.version to what it speaks (${message})`,
    )
  }
  if (/incorrect mount option|invalid option|Invalid argument/i.test(message)) {
    return as(
      'INVALID_ARGUMENT',
      `mount.nfs does not take the options for ${label}; see nfs.mount-options (${message})`,
    )
  }
  return as('UNAVAILABLE', `the NFS server ${server} cannot be reached, so ${label} is not mounted (${message})`)
}

/** The path as the kernel's mount tables show it, without asking what is mounted there: that may hang. */
export async function placeOf(target: string): Promise<string> {
  const parent = dirname(target)
  await mkdir(parent, { recursive: true, mode: 0o700 })
  return join(await realpath(parent), basename(target))
}

/** Shows `source` at a mountpoint that is made; nothing may be mounted there. */
export async function bind(source: string, place: string, options: readonly string[] = []): Promise<void> {
  await ignoring(mkdir(place, { mode: 0o700 }), 'EEXIST')
  await exec('mount', ['--no-canonicalize', '-o', ['bind', ...options].join(','), '--', source, place], {
    timeoutMs: mountMs,
  })
}

/**
 * Unmounts a place and removes it; not mounted is success. When the server keeps umount waiting, what is mounted
 * vanishes from here lazily: whoever still uses it keeps it.
 * @throws IN_USE
 */
export async function unbind(place: string): Promise<void> {
  for (let entry = mountAt(place); entry; entry = mountAt(place)) {
    const result = await Promise.race([umount(place, []), pause(unmountMs, undefined, { ref: false })])
    if (result === undefined)
      await Promise.race([umount(place, ['--lazy']), pause(unmountMs, undefined, { ref: false })])
    else if (result.exitCode !== 0 && mountAt(place)?.id === entry.id) throw toolError('umount', result)
  }
  await ignoring(rmdir(place), 'ENOENT', 'ENOTEMPTY', 'EBUSY', 'ENOTDIR')
}

/** Takes away what is mounted at a place, used or not. */
export async function detach(place: string): Promise<void> {
  const result = await umount(place, ['--lazy'])
  if (result.exitCode !== 0 && mountAt(place)) throw toolError('umount', result)
}

/** Without mount.nfs' own helper, and without a look at what is mounted: both may ask the server. */
function umount(place: string, how: readonly string[]): Promise<ExecResult> {
  return run('umount', ['--internal-only', '--no-canonicalize', ...how, '--', place], { timeoutMs: unmountMs })
}

/**
 * Makes a mount read-only or writable, in the mount namespace of a process.
 * @returns why not, when it was not: something that is open for writing there keeps it writable
 */
export async function remount(mountpoint: string, pid: number, as: 'ro' | 'rw'): Promise<string | null> {
  const namespace = pid === process.pid ? [] : ['--namespace', `/proc/${pid}/ns/mnt`]
  const args = ['--no-canonicalize', ...namespace, '-o', `remount,bind,${as}`, '--', mountpoint]
  const result = await run('mount', args, { timeoutMs: unmountMs })
  return result.exitCode === 0 ? null : toolError('mount', result).message
}
