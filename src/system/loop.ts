/**
 * Image files behind loop devices. Devices are made by `mount -o loop`, which reuses the one that the image has and lets the
 * kernel take it down with the last unmount; so nothing here makes or frees one. A device is the image's when it has the same
 * file, by device and inode number: the path that the kernel shows is the one it was opened by, which may be another.
 * Facts: loop(4), losetup(8).
 */

import { setTimeout as delay } from 'node:timers/promises'
import { exec } from './exec.ts'
import { lstatOrNothing } from './files.ts'
import { type MountEntry, readMounts } from './mount.ts'

/** The loop devices (`/dev/loopN`) of an image; more than one is more than it survives. O(loop devices). */
export async function loopDevicesOf(image: string): Promise<string[]> {
  // Of a file that is gone, losetup would compare the path.
  if (!(await lstatOrNothing(image))?.isFile()) return []
  const names = await exec('losetup', ['--noheadings', '--output', 'NAME', '--associated', image])
  return names.split('\n').filter((name) => name !== '')
}

/** True when `entry` is a mount of `image`. */
export async function isMountOf(entry: MountEntry, image: string): Promise<boolean> {
  return entry.source.startsWith('/dev/loop') && (await loopDevicesOf(image)).includes(entry.source)
}

/** A mount of the image in this namespace, or undefined. */
export async function mountOf(image: string): Promise<MountEntry | undefined> {
  const devices = await loopDevicesOf(image)
  return devices.length === 0 ? undefined : readMounts().find(({ source }) => devices.includes(source))
}

/** True when a file system in the image is alive somewhere on this host; waits a moment for one that is just going. */
export async function isAttached(image: string): Promise<boolean> {
  for (let attempt = 0; attempt < 5; attempt++) {
    const devices = await loopDevicesOf(image)
    if (devices.length === 0) return false
    if (readMounts().some(({ source }) => devices.includes(source))) return true
    await delay(20 * (attempt + 1))
  }
  return true
}

/** Tells the image's loop device that the file's size has changed; not attached is success. */
export async function refreshLoop(image: string): Promise<void> {
  for (const device of await loopDevicesOf(image)) await exec('losetup', ['--set-capacity', device])
}
