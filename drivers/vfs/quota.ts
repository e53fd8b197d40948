/**
 * The two quotas that limit a directory: project quota (ext4, XFS) and btrfs qgroups. The storage itself is the truth about
 * which project a directory has and which projects are taken.
 * Facts: setquota(8), repquota(8), chattr(1) `P` and `-p`, btrfs-qgroup(8); with project inheritance statfs(2) of the directory
 * answers for the project.
 */

import { randomInt } from 'node:crypto'
import { statfs } from 'node:fs/promises'
import type { Usage } from '../../src/driver.ts'
import { AppError } from '../../src/errors.ts'
import type { Bytes } from '../../src/model.ts'
import { exec, run } from '../../src/system/exec.ts'
import { formatSize } from '../../src/units.ts'
import type { Storage } from './storage.ts'

/** Project ids are drawn from a range that people who number projects by hand do not reach. */
const firstProject = 2 ** 30
const lastProject = 2 ** 31 - 1

/** Ids that are drawn but not yet on the storage. */
const drawn = new Set<number>()

async function drawProject(storage: Storage, signal: AbortSignal): Promise<number> {
  const report = await exec('repquota', ['-P', '-n', storage.mount.mountpoint], { signal })
  const taken = new Set([...report.matchAll(/^#(\d+)/gm)].map((match) => Number(match[1])))
  for (;;) {
    const project = randomInt(firstProject, lastProject)
    if (taken.has(project) || drawn.has(project)) continue
    drawn.add(project)
    return project
  }
}

async function setProjectLimit(storage: Storage, project: number, size: Bytes, signal?: AbortSignal): Promise<void> {
  const blocks = String(Math.ceil(size / 1024))
  await exec('setquota', ['-P', String(project), '0', blocks, '0', '0', storage.mount.mountpoint], { signal })
}

async function projectOf(directory: string): Promise<number> {
  return Number.parseInt((await exec('lsattr', ['-p', '-d', directory])).trim(), 10)
}

/** True when the directory has a project of this driver's. */
export async function hasProject(directory: string): Promise<boolean> {
  return (await projectOf(directory)) >= firstProject
}

/** Gives an empty directory a project of its own with a limit: everything made in it counts. */
export async function limitByProject(
  storage: Storage,
  directory: string,
  size: Bytes,
  signal: AbortSignal,
): Promise<void> {
  const project = await drawProject(storage, signal)
  try {
    await setProjectLimit(storage, project, size, signal)
    await exec('chattr', ['+P', '-p', String(project), directory], { signal })
  } catch (error) {
    await setProjectLimit(storage, project, 0).catch(() => undefined) // A limit without files harms nobody.
    throw error
  } finally {
    drawn.delete(project)
  }
}

/** Changes the limit of a directory that has a project. @throws FAILED_PRECONDITION below what it holds */
export async function resizeProject(
  storage: Storage,
  directory: string,
  size: Bytes,
  signal: AbortSignal,
): Promise<void> {
  refuseBelowUse((await projectUsage(directory)).used, size)
  await setProjectLimit(storage, await projectOf(directory), size, signal)
}

/** Runs `remove`, then lifts the limit of the project that the directory had, so that its id is free again. */
export async function releasingProject(
  storage: Storage,
  directory: string,
  remove: () => Promise<void>,
): Promise<void> {
  const project = await projectOf(directory)
  await remove()
  if (project >= firstProject) await setProjectLimit(storage, project, 0)
}

/** O(1). */
export async function projectUsage(directory: string): Promise<Usage> {
  const stats = await statfs(directory)
  return { used: (stats.blocks - stats.bfree) * stats.bsize, size: stats.blocks * stats.bsize }
}

/** Limits what a subvolume refers to. @throws FAILED_PRECONDITION below what it holds */
export async function limitByGroup(subvolume: string, size: Bytes, signal: AbortSignal): Promise<void> {
  refuseBelowUse((await groupUsage(subvolume)).used, size)
  await exec('btrfs', ['qgroup', 'limit', String(size), subvolume], { signal })
}

/** O(1). */
export async function groupUsage(subvolume: string): Promise<Usage> {
  const table = await exec('btrfs', ['qgroup', 'show', '-f', '-r', '--raw', subvolume])
  const row = /^0\/\d+\s+(\d+)\s+\d+\s+(\d+|none)/m.exec(table)
  return { used: row ? Number(row[1]) : null, size: row && row[2] !== 'none' ? Number(row[2]) : null }
}

/** Runs `remove`, then forgets the qgroup that the subvolume had; while the kernel still cleans up it stays, empty. */
export async function releasingGroup(base: string, subvolume: string, remove: () => Promise<void>): Promise<void> {
  const id = (await exec('btrfs', ['inspect-internal', 'rootid', subvolume])).trim()
  await remove()
  await run('btrfs', ['qgroup', 'destroy', `0/${id}`, base])
}

function refuseBelowUse(used: Bytes | null, size: Bytes): void {
  if (used === null || used <= size) return
  throw new AppError(
    'FAILED_PRECONDITION',
    `the volume holds ${formatSize(used)} and cannot be limited to ${formatSize(size)}; delete something or choose more`,
  )
}
