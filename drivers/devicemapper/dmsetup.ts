/**
 * The only place that runs dmsetup(8): one function for each thing that is asked of the kernel's device-mapper, its words made
 * codes by one table. What devices are for is not known here.
 * Facts: dmsetup(8); Linux' Documentation/admin-guide/device-mapper/thin-provisioning.rst.
 */

import { existsSync } from 'node:fs'
import { AppError, type ErrorCode, isAppError } from '../../src/errors.ts'
import { type ExecOptions, type ExecResult, run } from '../../src/system/exec.ts'
import { deviceNamed } from './sysfs.ts'

/** A device to be made. */
export interface DeviceSpec {
  readonly name: string
  readonly uuid: string
  readonly table: string
  readonly readOnly?: boolean
}

/** Calls take milliseconds; longer means storage that hangs. */
const timeoutMs = 60_000

/** Without udev, libdevmapper makes the nodes below /dev/mapper itself and waits for nobody. */
function hasUdev(): boolean {
  return existsSync('/run/udev/control')
}

const codes: readonly (readonly [RegExp, ErrorCode])[] = [
  [/control: open failed|Check that device-mapper is available|kernel device-mapper driver/i, 'UNAVAILABLE'],
  [/unknown target type|Invalid target type/i, 'UNAVAILABLE'],
  [/No data available|No such device or address|Device does not exist|not found/i, 'NOT_FOUND'],
  [/File exists/i, 'ALREADY_EXISTS'],
  [/busy/i, 'IN_USE'],
  [/No space left/i, 'NO_SPACE'],
  [/Permission denied|Operation not permitted/i, 'PERMISSION_DENIED'],
  [/Operation not supported|Read-only file system/i, 'FAILED_PRECONDITION'],
]

const remedies: Readonly<Partial<Record<ErrorCode, string>>> = {
  UNAVAILABLE: '; this kernel needs device-mapper with thin provisioning: modprobe dm-thin-pool',
  FAILED_PRECONDITION: '; the thin pool takes no changes: holdfast doctor says why, and what to do',
}

/** The error for what dmsetup said. */
export function dmError(args: readonly string[], { stderr, exitCode }: ExecResult): AppError {
  const said = stderr
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && line !== 'Command failed.')
  const text = said.join('; ') || `ended with code ${exitCode}`
  const code = codes.find(([pattern]) => pattern.test(text))?.[1] ?? 'INTERNAL'
  return new AppError(code, `dmsetup ${args[0]}: ${text}${remedies[code] ?? ''}`, { details: { exitCode } })
}

async function dmsetup(args: readonly string[], options: ExecOptions = {}): Promise<string> {
  const env = hasUdev() ? {} : { DM_DISABLE_UDEV: '1' }
  const result = await run('dmsetup', args, { timeoutMs, env, ...options })
  if (result.exitCode === 0) return result.stdout
  throw dmError(args, result)
}

/**
 * Makes devices, all or none; a crash may leave some of them.
 * @throws IN_USE when a name or uuid is taken, NOT_FOUND when what a table names is not there
 */
export async function createDevices(devices: readonly DeviceSpec[], signal?: AbortSignal): Promise<void> {
  const concise = devices.map(({ name, uuid, table, readOnly }) =>
    [name, uuid, '', readOnly ? 'ro' : 'rw', table].join(),
  )
  try {
    await dmsetup(['create', '--concise', concise.join(';')], { signal })
  } catch (error) {
    // A single one leaves nothing when it fails, and a taken name is another's.
    if (devices.length > 1 || !(error instanceof AppError)) await removeLeft(devices)
    throw error
  }
}

async function removeLeft(devices: readonly DeviceSpec[]): Promise<void> {
  for (const { uuid } of devices) await dmsetup(['remove', '--uuid', uuid]).catch(() => undefined)
}

/** Removes devices. @throws NOT_FOUND, IN_USE when one is open: it and those after it stay */
export async function removeDevices(names: readonly string[]): Promise<void> {
  // udev's own programs open a device for a moment after each change.
  await dmsetup(['remove', ...(hasUdev() ? ['--retry'] : []), ...names])
}

/** Removes a device as soon as nobody has it open: now, or by the kernel later. @throws NOT_FOUND */
export async function removeWhenUnused(name: string): Promise<void> {
  await dmsetup(['remove', '--deferred', name])
}

/** Says something to a pool; `create_thin 1`. @throws NOT_FOUND, ALREADY_EXISTS for a thin device, IN_USE, NO_SPACE */
export async function message(pool: string, text: string): Promise<void> {
  await dmsetup(['message', pool, '0', text])
}

/** Gives an active device another table; its users notice nothing. @throws as `createDevices` */
export async function replaceTable(name: string, table: string): Promise<void> {
  await dmsetup(['reload', name, '--table', table])
  await resume(name)
}

/** Lets a device go on, with its new table if it has one; one that is not suspended is success. */
export async function resume(name: string): Promise<void> {
  await dmsetup(['resume', name])
}

/**
 * Calls `use` while a device is suspended, its file system frozen. It goes on whatever happens: a program that outlives this
 * process resumes it when its stdin ends.
 */
export async function whileSuspended(name: string, use: () => Promise<void>): Promise<void> {
  const done = new AbortController()
  const env = hasUdev() ? {} : { DM_DISABLE_UDEV: '1' }
  // xargs runs its command once, when its input has ended.
  const guard = run('xargs', ['dmsetup', 'resume', name], { supervised: true, signal: done.signal, env }).catch(
    () => undefined,
  )
  try {
    await dmsetup(['suspend', name])
    await use()
  } finally {
    done.abort()
    await guard
    if (deviceNamed(name)?.suspended) await resume(name)
  }
}

/** Whether the kernel has a target of this name loaded: it looks for its module when a table first names it. */
export async function hasTarget(name: string): Promise<boolean> {
  return (await dmsetup(['targets'])).split('\n').some((line) => line.startsWith(`${name} `))
}

/** The table of a device: `START LENGTH TARGET ARGUMENTS`. @throws NOT_FOUND */
export async function tableOf(name: string): Promise<string> {
  return (await dmsetup(['table', name])).trim()
}

/** The status of a device, without being flushed before. @throws NOT_FOUND */
export async function statusOf(name: string, signal?: AbortSignal): Promise<string> {
  return (await dmsetup(['status', '--noflush', name], { signal })).trim()
}

/** Waits for a call; a device that was gone already is success. */
export async function ignoringGone(use: Promise<void>): Promise<void> {
  try {
    await use
  } catch (error) {
    if (!isAppError(error, 'NOT_FOUND')) throw error
  }
}
