/**
 * What is mounted where: reads the kernel's mount tables, tells who on this host sees a directory, mounts and unmounts.
 * It never guesses from paths alone: a directory is identified by its file system's device number and its place in there,
 * so that a bind mount in a container's namespace is found under whatever name.
 * Facts: proc_pid_mountinfo(5), mount(8), umount(8), mount_namespaces(7).
 */

import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { realpath } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { fromErrno } from '../errors.ts'
import { type ExecOptions, exec } from './exec.ts'

/** One line of a mountinfo file. */
export interface MountEntry {
  readonly id: number
  readonly parentId: number
  /** `MAJ:MIN` of the file system. */
  readonly device: string
  /** The directory of the file system that is mounted: `/` for the whole of it. */
  readonly root: string
  readonly mountpoint: string
  readonly fsType: string
  readonly source: string
  /** Of this mount, such as `ro`. */
  readonly options: readonly string[]
  /** Of the file system, such as `prjquota`. */
  readonly superOptions: readonly string[]
}

/** Where a directory lies: `root` is its path inside the file system `device`. */
export interface Location {
  readonly device: string
  readonly root: string
}

/** A mount that shows a directory or something below it, in the mount namespace of `pid`. */
export interface MountUse {
  readonly pid: number
  readonly mountpoint: string
}

/** Longest stretch of work before other requests get their turn. */
const turnMs = 3

function decodeName(text: string): string {
  if (!text.includes('\\')) return text
  const bytes = text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))
  return Buffer.from(bytes, 'latin1').toString()
}

function parseEntry(line: string): MountEntry | undefined {
  const [left, right] = line.split(' - ', 2)
  const fields = left?.split(' ') ?? []
  const [fsType, source, superOptions] = right?.split(' ') ?? []
  if (fields.length < 6 || fsType === undefined) return undefined
  return {
    id: Number(fields[0]),
    parentId: Number(fields[1]),
    device: fields[2] as string,
    root: rootOf(decodeName(fields[3] as string), fsType, decodeName(source ?? '')),
    mountpoint: decodeName(fields[4] as string),
    fsType,
    source: decodeName(source ?? ''),
    options: (fields[5] as string).split(','),
    superOptions: superOptions?.split(',') ?? [],
  }
}

/** Of whatever part of an NFS file system is mounted, the kernel shows `/`, and as its source the server and the path there. */
function rootOf(root: string, fsType: string, source: string): string {
  if (fsType !== 'nfs' && fsType !== 'nfs4') return root
  const path = source.slice(source.indexOf(':/') + 1)
  return path === '/' ? path : path.replace(/\/$/, '')
}

/** Parses the text of a mountinfo file; names come out with their octal escapes decoded. */
export function parseMounts(text: Buffer): MountEntry[] {
  // Names are bytes: latin1 keeps them whole until they are decoded together with their escapes.
  return text
    .toString('latin1')
    .split('\n')
    .flatMap((line) => parseEntry(line) ?? [])
}

/** The mounts that a process sees, in the kernel's order. @throws ENOENT when the process is gone */
export function readMounts(pid: number | 'self' = 'self'): MountEntry[] {
  return parseMounts(readFileSync(`/proc/${pid}/mountinfo`))
}

/** True when `path` is `directory` or lies below it. Both absolute and normal; no I/O. */
export function isWithin(path: string, directory: string): boolean {
  return path === directory || path.startsWith(directory === '/' ? '/' : `${directory}/`)
}

/** The mount that a walk to `path` ends on, as the kernel walks: hidden mounts are passed by. */
function entryOf(path: string, entries: readonly MountEntry[]): MountEntry | undefined {
  const passed = entries.filter((entry) => isWithin(path, entry.mountpoint))
  const ids = new Set(passed.map((entry) => entry.id))
  let here = passed.find((entry) => !ids.has(entry.parentId) || entry.parentId === entry.id)
  for (;;) {
    const next = passed
      .filter((entry) => entry.parentId === here?.id && entry.id !== here.id)
      .sort((a, b) => a.mountpoint.length - b.mountpoint.length)[0]
    if (!next) return here
    here = next
  }
}

/** The topmost mount exactly at `path` (absolute, without symlinks), or undefined. */
export function mountAt(path: string, entries: readonly MountEntry[] = readMounts()): MountEntry | undefined {
  const entry = entryOf(path, entries)
  return entry?.mountpoint === path ? entry : undefined
}

/**
 * Where `path` (absolute, without symlinks) lies inside its file system. `st_dev` would not do: btrfs gives each subvolume
 * another than the one in mountinfo.
 */
export function locate(path: string, entries: readonly MountEntry[] = readMounts()): Location {
  const entry = entryOf(path, entries)
  if (!entry) throw new Error(`no mount holds ${path}`)
  const rest = path.slice(entry.mountpoint === '/' ? 0 : entry.mountpoint.length)
  const root = `${entry.root === '/' ? '' : entry.root}${rest === '/' ? '' : rest}`
  return { device: entry.device, root: root || '/' }
}

/** The file system that holds `path` (absolute, without symlinks). */
export function fileSystemOf(path: string, entries: readonly MountEntry[] = readMounts()): MountEntry {
  const entry = entryOf(path, entries)
  if (!entry) throw new Error(`no mount holds ${path}`)
  return entry
}

/**
 * One process for each view on the mounts of this host: a mount namespace seen from a root directory. In this process's own
 * namespace, where most are, its own view is the widest and stands for all.
 */
async function* distinctViews(): AsyncGenerator<number | 'self'> {
  const own = readlinkSync('/proc/self/ns/mnt')
  const seen = new Set<string>()
  yield 'self'
  let begun = performance.now()
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    if (performance.now() - begun > turnMs) {
      await nextTurn()
      begun = performance.now()
    }
    const view = viewOf(name, own)
    if (view === undefined || seen.has(view)) continue
    seen.add(view)
    yield Number(name)
  }
}

/** @returns undefined for the own namespace, and for a process that has ended: it holds nothing any more */
function viewOf(pid: string, own: string): string | undefined {
  try {
    const namespace = readlinkSync(`/proc/${pid}/ns/mnt`)
    return namespace === own ? undefined : `${namespace} ${readlinkSync(`/proc/${pid}/root`)}`
  } catch {
    return undefined
  }
}

function readMountsOfLiving(pid: number | 'self'): MountEntry[] {
  try {
    return readMounts(pid)
  } catch {
    return []
  }
}

/**
 * Every mount on this host, in any mount namespace, that shows `path` or something below it. Not counted are the mount that
 * `path` itself is reached by, those at a mountpoint in `ignore`, and copies of both that come with a copy of the host's
 * tree: a service with PrivateTmp has them at the same place, a container with `-v /:/host` below `/host`.
 * Yields to other work between chunks; processes that end meanwhile are passed by. O(processes + mounts).
 * @throws NOT_FOUND when `path` is gone
 */
export async function usesOf(path: string, ignore: readonly string[]): Promise<MountUse[]> {
  const own = readMounts()
  const resolved = await resolve(path, own).catch((error: unknown) => {
    throw fromErrno(error, `look at the mounts of ${path}`)
  })
  const place = locate(resolved, own)
  const ignored = [fileSystemOf(resolved, own), ...own.filter(({ mountpoint }) => ignore.includes(mountpoint))]
  const shows = (entry: MountEntry) => entry.device === place.device && isWithin(entry.root, place.root)
  const counts = (entry: MountEntry) => shows(entry) && !ignored.some((original) => isCopy(entry, original))
  const uses: MountUse[] = []
  for await (const view of distinctViews()) {
    const pid = view === 'self' ? process.pid : view
    const entries = view === 'self' ? own : readMountsOfLiving(view)
    uses.push(...entries.filter(counts).map(({ mountpoint }) => ({ pid, mountpoint })))
  }
  return uses
}

/** Symlinks resolved. A mountpoint itself is not looked at: what is mounted there may be on a server that does not answer. */
async function resolve(path: string, entries: readonly MountEntry[]): Promise<string> {
  const place = join(await realpath(dirname(path)), basename(path))
  return mountAt(place, entries) ? place : realpath(path)
}

/** The same piece of the file system at the same place, or at that place below a copy of the host's tree. */
function isCopy(entry: MountEntry, original: MountEntry): boolean {
  return entry.root === original.root && entry.mountpoint.endsWith(original.mountpoint)
}

/** How something is mounted. */
export interface MountOptions {
  /** As `mount -o` takes them. */
  readonly options: readonly string[]
}

/** Calls take milliseconds; longer means storage that hangs. */
const deadline: ExecOptions = { timeoutMs: 60_000 }

/**
 * Mounts `source` on the existing directory `target`. Stacks when something is mounted there: ask `mountAt` first.
 * @throws FAILED_PRECONDITION, IN_USE, INTERNAL with mount's own words; TIMEOUT; the signal's reason
 */
export async function mount(source: string, target: string, how: MountOptions, signal?: AbortSignal): Promise<void> {
  await exec('mount', ['-o', how.options.join(','), '--', source, target], { ...deadline, signal })
}

/** Of what is only to be looked at: nothing in it is a program with another's rights, or a device. */
const readOnly = ['ro', 'nosuid', 'nodev']

/**
 * Shows `source` read-only at the existing directory `target`. A crash in the middle may leave the mount writable: whoever
 * takes over a mount in place sees to `ro` with `remountReadOnly`.
 */
export async function mountReadOnly(source: string, target: string, signal?: AbortSignal): Promise<void> {
  await mount(source, target, { options: ['bind', ...readOnly] }, signal)
}

/** Makes the bind mount at `target` read-only; it is success when it is. */
export async function remountReadOnly(target: string, signal?: AbortSignal): Promise<void> {
  await exec('mount', ['-o', ['remount', 'bind', ...readOnly].join(','), '--', target], { ...deadline, signal })
}

/**
 * Unmounts what is mounted at `target`, never lazily; nothing mounted there is success.
 * @throws IN_USE when something on this host holds it
 */
export async function unmount(target: string, signal?: AbortSignal): Promise<void> {
  if (!mountAt(target)) return
  await exec('umount', ['--', target], { ...deadline, signal })
}
