/**
 * What the kernel shows of device-mapper's devices without a program being run.
 * Facts: sysfs-block-dm, proc_pid_mountinfo(5); makedev(3) for the number in `stat`.
 */

import { readdirSync, readFileSync, statSync } from 'node:fs'
import type { Bytes } from '../../src/model.ts'

export interface ActiveDevice {
  readonly name: string
  readonly uuid: string
  readonly suspended: boolean
  /** `MAJOR:MINOR` */
  readonly number: string
  readonly size: Bytes
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch {
    return undefined
  }
}

/** The device of this number (`MAJOR:MINOR`) when it is one of device-mapper's. */
export function deviceOf(number: string): ActiveDevice | undefined {
  const directory = `/sys/dev/block/${number}`
  const [name, uuid] = [read(`${directory}/dm/name`), read(`${directory}/dm/uuid`)]
  if (name === undefined || uuid === undefined) return undefined
  const suspended = read(`${directory}/dm/suspended`) === '1'
  return { name, uuid, suspended, number, size: Number(read(`${directory}/size`)) * 512 }
}

/** The active device of this name. */
export function deviceNamed(name: string): ActiveDevice | undefined {
  const number = numberOf(`/dev/mapper/${name}`)
  const device = number === undefined ? undefined : deviceOf(number)
  return device?.name === name ? device : undefined
}

/** The device with this uuid; looks at all of them. */
export function deviceWith(uuid: string): ActiveDevice | undefined {
  return allDevices().find((device) => device.uuid === uuid)
}

/** All active devices of device-mapper. */
export function allDevices(): ActiveDevice[] {
  return readdirSync('/sys/block')
    .filter((name) => name.startsWith('dm-'))
    .flatMap((name) => deviceOf(read(`/sys/block/${name}/dev`) ?? '') ?? [])
}

/** `MAJOR:MINOR` of the block device at a path, symlinks followed; undefined when there is none. */
export function numberOf(path: string): string | undefined {
  const stats = statSync(path, { throwIfNoEntry: false })
  if (!stats?.isBlockDevice()) return undefined
  const { rdev } = stats
  return `${(rdev >>> 8) & 0xfff}:${(rdev & 0xff) | ((rdev >>> 12) & 0xfff00)}`
}

/** Size of the block device of this number; undefined when it is gone. */
export function sizeOf(number: string): Bytes | undefined {
  const sectors = read(`/sys/dev/block/${number}/size`)
  return sectors === undefined ? undefined : Number(sectors) * 512
}

/** Path of the block device of this number. */
export function pathOf(number: string): string {
  const name = /^DEVNAME=(.+)$/m.exec(read(`/sys/dev/block/${number}/uevent`) ?? '')?.[1]
  return `/dev/${name ?? `block/${number}`}`
}

/** Numbers of the devices that a device is made of. */
export function slavesOf(number: string): string[] {
  try {
    const directory = `/sys/dev/block/${number}/slaves`
    return readdirSync(directory).flatMap((name) => read(`${directory}/${name}/dev`) ?? [])
  } catch {
    return []
  }
}
