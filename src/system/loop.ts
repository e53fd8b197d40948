/**
 * Image files behind loop devices. Devices are made by `mount -o loop`, which reuses the one that the image has and lets the
 * kernel take it down with the last unmount; so nothing here makes or frees one.
 * Facts: /sys/block/loopN/loop/backing_file, loop(4), losetup(8).
 */

import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { exec } from './exec.ts'
import { type MountEntry, readMounts } from './mount.ts'

function backingFile(device: string): string | undefined {
  try {
    return readFileSync(`/sys/block/${device}/loop/backing_file`, 'utf8').trimEnd()
  } catch {
    return undefined // Not attached, or just being taken down.
  }
}

/** The loop device (`/dev/loopN`) of an image (absolute, without symlinks), or undefined. O(loop devices). */
export function loopDeviceOf(image: string): string | undefined {
  const name = readdirSync('/sys/block').find((device) => device.startsWith('loop') && backingFile(device) === image)
  return name && `/dev/${name}`
}

/** True when `entry` is a mount of `image`. */
export function isMountOf(entry: MountEntry, image: string): boolean {
  return entry.source.startsWith('/dev/loop') && backingFile(entry.source.slice('/dev/'.length)) === image
}

/** A mount of the image in this namespace, or undefined. */
export function mountOf(image: string): MountEntry | undefined {
  return readMounts().find((entry) => isMountOf(entry, image))
}

/** True when a file system in the image is alive somewhere on this host; waits a moment for one that is just going. */
export async function isAttached(image: string): Promise<boolean> {
  for (let attempt = 0; attempt < 5; attempt++) {
    if (!loopDeviceOf(image)) return false
    if (mountOf(image)) return true
    await delay(20 * (attempt + 1))
  }
  return true
}

/** Tells the image's loop device that the file has grown; not attached is success. */
export async function refreshLoop(image: string, signal?: AbortSignal): Promise<void> {
  const device = loopDeviceOf(image)
  if (device) await exec('losetup', ['--set-capacity', device], { signal })
}
