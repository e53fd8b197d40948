/**
 * Keeps this node from writing to a volume that another node may take. While that is not sure, containers that see it
 * are stopped (SIGSTOP), all of their processes, and of the host's own those that have files of it open for writing;
 * they go on when the right turns out to be still this node's. When it is lost, what shows it here becomes read-only;
 * where files are open for writing the kernel leaves it writable, and programs are killed. Asks no server. What the
 * kernel has taken from programs before, it may still send. Facts: mount(8) remount,bind; proc_pid_fdinfo(5), whose
 * mnt_id is one in all mount namespaces.
 */

import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { mountAt, readMounts, usesOf } from '../../src/system/mount.ts'
import { remount } from './mounting.ts'

/** What came of it. */
export interface Fence {
  /** Nothing here can write any more, as far as can be seen. */
  readonly isDone: boolean
  readonly detail: string
}

/** One mount that shows the volume, in the mount namespace of `pid`. */
interface View {
  readonly id: number
  readonly pid: number
  readonly mountpoint: string
  readonly isWritable: boolean
}

/**
 * Makes everything on this host that shows what is mounted at `place` read-only. Idempotent; a crash in the middle
 * leaves a part.
 * @param writers what becomes of programs that write there: `stop` can be undone
 * @param note told, before anything is done, which mounts were writable, by their ids
 */
export async function fence(
  place: string,
  writers: 'stop' | 'kill',
  note: (open: readonly number[]) => Promise<void>,
): Promise<Fence> {
  if (!mountAt(place)) return { isDone: true, detail: 'nothing shows it here any more' }
  const views = await viewsOf(place)
  const open = views.filter(({ isWritable }) => isWritable)
  await note(open.map(({ id }) => id))
  if (writers === 'stop') return stop(open)
  const refused = await closeAll(open)
  const pids = writersOn(refused)
  for (const pid of pids) signal(pid, 'SIGKILL')
  const left = pids.length > 0 ? await closeAll(refused) : refused // The killed have closed their files.
  goOn(views)
  return { isDone: left.length === 0, detail: told(left, pids, 'killed') }
}

/**
 * Programs first: those of containers are not to see that it is read-only for a while. What they have open keeps its
 * mount as it is.
 */
async function stop(views: readonly View[]): Promise<Fence> {
  const pids = writersOn(views)
  for (const pid of pids) signal(pid, 'SIGSTOP')
  const left = await closeAll(views)
  return { isDone: left.length === 0 || pids.length > 0, detail: told(left, pids, 'stopped') }
}

/** Undoes `fence`. Idempotent. @param closed the mounts that were writable before */
export async function unfence(place: string, closed: readonly number[]): Promise<void> {
  if (!mountAt(place)) return
  const own = (await viewsOf(place)).filter(({ id }) => closed.includes(id))
  for (const { mountpoint, pid, isWritable } of own) if (!isWritable) await remount(mountpoint, pid, 'rw')
  goOn(own)
}

/** Who was stopped sees what has become of its files. */
function goOn(views: readonly View[]): void {
  for (const pid of writersOn(views)) if (isStopped(pid)) signal(pid, 'SIGCONT')
}

/** @returns those that the kernel leaves writable: something is open for writing there */
async function closeAll(views: readonly View[]): Promise<View[]> {
  const refused: View[] = []
  for (const view of views) if ((await remount(view.mountpoint, view.pid, 'ro')) !== null) refused.push(view)
  return refused
}

async function viewsOf(place: string): Promise<View[]> {
  const uses = [{ pid: process.pid, mountpoint: place }, ...(await usesOf(place, []))]
  return uses.flatMap(({ pid, mountpoint }) => {
    const entry = mountAt(mountpoint, mountsOf(pid))
    return entry ? [{ id: entry.id, pid, mountpoint, isWritable: !entry.options.includes('ro') }] : []
  })
}

function mountsOf(pid: number) {
  try {
    return readMounts(pid)
  } catch {
    return [] // It has ended.
  }
}

/**
 * Processes that can write by these views: those of containers that have them, and of the host's those that have files
 * open for it.
 */
function writersOn(views: readonly View[]): number[] {
  if (views.length === 0) return []
  const own = namespaceOf(process.pid)
  const containers = new Set(views.map(({ pid }) => namespaceOf(pid)))
  const mounts = new Set(views.map(({ id }) => id))
  const isWriter = (pid: number) => {
    const namespace = namespaceOf(pid)
    return namespace === own ? hasOpen(pid, mounts) : namespace !== undefined && containers.has(namespace)
  }
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name))
  return pids.map(Number).filter((pid) => pid !== process.pid && isWriter(pid))
}

function namespaceOf(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/mnt`)
  } catch {
    return undefined // It has ended.
  }
}

function hasOpen(pid: number, mounts: ReadonlySet<number>): boolean {
  try {
    const files = readdirSync(`/proc/${pid}/fdinfo`)
    return files.some((file) => isWriting(readFileSync(`/proc/${pid}/fdinfo/${file}`, 'latin1'), mounts))
  } catch {
    return false // It has ended, or closed the file.
  }
}

function isWriting(info: string, mounts: ReadonlySet<number>): boolean {
  const [flags, mount] = [/^flags:\s+(\d+)/m.exec(info)?.[1], /^mnt_id:\s+(\d+)/m.exec(info)?.[1]]
  return (Number.parseInt(flags ?? '0', 8) & 3) !== 0 && mounts.has(Number(mount))
}

function isStopped(pid: number): boolean {
  try {
    return /^State:\s+T/m.test(readFileSync(`/proc/${pid}/status`, 'latin1'))
  } catch {
    return false
  }
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name)
  } catch {
    // It has ended.
  }
}

function told(left: readonly View[], pids: readonly number[], how: 'stopped' | 'killed'): string {
  const halted = pids.length === 0 ? [] : [`what writes to it here was ${how} (process ${pids.join(', ')})`]
  const where = [...new Set(left.map(({ mountpoint }) => mountpoint))].join(', ')
  if (left.length === 0) return [...halted, 'it has been made read-only here'].join(', ')
  if (how === 'stopped' && pids.length > 0) return halted.join()
  return [...halted, `it could not be made read-only at ${where}: stop the containers that use it`].join(', ')
}
