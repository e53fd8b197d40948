/**
 * Thin devices as block devices of this host: `holdfast-VOLUME`, `holdfast-VOLUME@SNAPSHOT`, and for moments those by which a
 * label is reached. Whose a device is says its device-mapper uuid, which has the id; its name is for people.
 */

import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { isAppError } from '../../src/errors.ts'
import type { Bytes } from '../../src/model.ts'
import {
  createDevices,
  type DeviceSpec,
  ignoringGone,
  message,
  removeDevices,
  removeWhenUnused,
  replaceTable,
  resume,
  statusOf,
} from './dmsetup.ts'
import { labelledSize } from './label.ts'
import { parseMapped, sectorSize } from './status.ts'
import { type ActiveDevice, allDevices, deviceNamed, deviceWith, slavesOf } from './sysfs.ts'

/** A volume or a snapshot, as its device is called. */
export interface Subject {
  readonly id: string
  /** `VOLUME` or `VOLUME@SNAPSHOT`. */
  readonly name: string
}

/** A thin device of a pool. */
export interface Thin {
  readonly pool: string
  readonly thin: number
  readonly size: Bytes
}

const prefix = 'holdfast-'
const uuidPrefix = 'HOLDFAST-'
/** Of libdevmapper. */
const longestName = 127

export function nodeOf(name: string): string {
  return `/dev/mapper/${name}`
}

function uuidOf({ id }: Subject): string {
  return uuidPrefix + id
}

/** What a device would be called, the second when the first is another's or too long. */
function namesOf({ id, name }: Subject): [string, string] {
  const second = `${prefix}${name.slice(0, longestName - prefix.length - 9)}-${id.slice(0, 8)}`
  const first = prefix + name
  return [first.length > longestName ? second : first, second]
}

function tableFor({ pool, thin, size }: Thin): string {
  return `0 ${size / sectorSize} thin ${nodeOf(pool)} ${thin}`
}

/** The active device of a volume or snapshot. */
export function findDevice(subject: Subject): ActiveDevice | undefined {
  return namesOf(subject)
    .map(deviceNamed)
    .find((device) => device?.uuid === uuidOf(subject))
}

/** True when the device of this number (`MAJOR:MINOR`) is that of the volume or snapshot. */
export function isDeviceOf(device: ActiveDevice | undefined, subject: Subject): boolean {
  return device?.uuid === uuidOf(subject)
}

/**
 * Makes the device of a volume or snapshot active; it is success when it is.
 * @returns its name @throws NOT_FOUND when the pool has no such thin device
 */
export async function activate(
  subject: Subject,
  thin: Thin,
  access: 'rw' | 'ro',
  signal?: AbortSignal,
): Promise<string> {
  const found = findDevice(subject)
  if (found) return takeOver(found)
  const [first, second] = namesOf(subject)
  const spec = { name: first, uuid: uuidOf(subject), table: tableFor(thin), readOnly: access === 'ro' }
  try {
    await createDevices([spec], signal)
    return first
  } catch (error) {
    if (!isAppError(error, 'IN_USE')) throw error
  }
  // The name is another's, or the volume had another name when its device was made.
  const other = deviceWith(uuidOf(subject))
  if (other) return takeOver(other)
  await createDevices([{ ...spec, name: second }], signal)
  return second
}

async function takeOver({ name, suspended }: ActiveDevice): Promise<string> {
  if (suspended) await resume(name)
  return name
}

/** Takes the device of a volume or snapshot down; not active is success. @throws IN_USE when something has it open */
export async function deactivate(subject: Subject): Promise<void> {
  const device = findDevice(subject)
  if (device) await ignoringGone(removeDevices([device.name]))
}

/** As `deactivate`, but a device that is open goes when it is closed. */
export async function deactivateWhenUnused(subject: Subject): Promise<void> {
  const device = findDevice(subject)
  if (device) await ignoringGone(removeWhenUnused(device.name))
}

/** Gives an active device its size. */
export async function resizeDevice(name: string, thin: Thin): Promise<void> {
  await replaceTable(name, tableFor(thin))
}

/** What lies in the device of a volume that is being made, besides its label. */
export interface Labelled {
  readonly device: string
  readonly label: string
}

/** Calls `use` with the device of a volume and another one by which its label is reached; both are gone after. */
export async function withLabelled<T>(
  subject: Subject,
  thin: Thin,
  signal: AbortSignal | undefined,
  use: (paths: Labelled) => Promise<T>,
): Promise<T> {
  const [, name] = namesOf(subject)
  const main: DeviceSpec = { name, uuid: uuidOf(subject), table: tableFor(thin) }
  const label = labelDevice(thin)
  await createDevices([main, label], signal)
  try {
    return await use({ device: nodeOf(main.name), label: nodeOf(label.name) })
  } finally {
    await removePatiently([main.name, label.name])
  }
}

function labelDevice({ pool, thin }: Thin): DeviceSpec {
  const name = `${prefix}label-${randomUUID()}`
  return { name, uuid: uuidPrefix + name, table: tableFor({ pool, thin, size: labelledSize }) }
}

/** Calls `use` with a device by which a thin device's label and beginning are reached; it is gone after. @throws NOT_FOUND */
export async function withLabel<T>(
  pool: string,
  thin: number,
  signal: AbortSignal | undefined,
  use: (device: string) => Promise<T>,
): Promise<T> {
  const label = labelDevice({ pool, thin, size: 0 })
  await createDevices([label], signal)
  try {
    return await use(nodeOf(label.name))
  } finally {
    await removePatiently([label.name])
  }
}

/** Something on the host may look into a new device for a moment. */
async function removePatiently(names: readonly string[]): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await removeDevices(names.filter((name) => deviceNamed(name)))
    } catch (error) {
      if (isAppError(error, 'NOT_FOUND')) return
      if (attempt === 5 || !isAppError(error, 'IN_USE')) throw error
      await delay(50 * attempt)
    }
  }
}

/** Bytes that a thin device holds. @throws NOT_FOUND */
export async function mappedBytes(subject: Subject, thin: Thin, signal?: AbortSignal): Promise<Bytes | null> {
  const active = findDevice(subject)
  if (active) return parseMapped(await statusOf(active.name, signal))
  return withLabel(thin.pool, thin.thin, signal, async (device) => parseMapped(await statusOf(device, signal)))
}

/** Removes a thin device from its pool; gone is success. @throws IN_USE when it is active */
export async function deleteThin(pool: string, thin: number): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await ignoringGone(message(pool, `delete ${thin}`))
    } catch (error) {
      // Somebody may just be looking how much it holds.
      if (attempt === 5 || !isAppError(error, 'IN_USE')) throw error
      await delay(50 * attempt)
    }
  }
}

/** All active devices of ours on a pool (`MAJOR:MINOR`). */
export function devicesOn(pool: string): ActiveDevice[] {
  return allDevices().filter(({ uuid, number }) => uuid.startsWith(uuidPrefix) && slavesOf(number).includes(pool))
}
