/** What is wrong with the storage, and what it is, in words. Reads names and ids only; one damaged folder is one finding. */

import { statfs } from 'node:fs/promises'
import type { DriverDescription } from '../../src/driver.ts'
import type { Bytes, Finding, Volume } from '../../src/model.ts'
import { lstatOrNothing, readdirOrNothing } from '../../src/system/files.ts'
import { formatSize } from '../../src/units.ts'
import { ownerOf, trashFolder } from './layout.ts'
import type { VfsState } from './options.ts'
import { hasLoop, kindIn, limitOf } from './places.ts'
import type { Storage } from './storage.ts'

/** Less than this is worth a warning, as a share of the storage and in bytes. */
const littleShare = 0.1
const littleBytes = 2 ** 30

/** As `Driver.check`. O(volumes). */
export async function checkStorage(storage: Storage, known: readonly Volume[]): Promise<Finding[]> {
  const { layout } = storage
  const folders = new Map(known.map((volume) => [folderOf(storage, volume), volume]))
  const findings = await checkRoom(layout.base)
  for (const [folder, volume] of folders) findings.push(...(await checkRecord(folder, volume)))
  for (const parent of [layout.volumes, layout.trash]) {
    for (const name of await readdirOrNothing(parent)) {
      if (!folders.has(`${parent}/${name}`)) findings.push(await foreign(`${parent}/${name}`))
    }
  }
  const expected = new Set(['volumes', 'trash', 'tmp', 'lost+found'])
  for (const name of await readdirOrNothing(layout.base)) {
    if (!expected.has(name)) findings.push(await foreign(`${layout.base}/${name}`))
  }
  return findings
}

function folderOf(storage: Storage, volume: Volume): string {
  const { trashed } = (volume.state ?? {}) as Partial<VfsState>
  return trashed ? trashFolder(storage.layout, volume) : `${storage.layout.volumes}/${volume.name}`
}

async function checkRoom(path: string): Promise<Finding[]> {
  const { size, free } = await roomOf(path)
  if (free >= littleBytes && free >= size * littleShare) return []
  return [
    {
      severity: 'warning',
      check: 'little-room',
      subject: path,
      message: `${formatSize(free)} of ${formatSize(size)} are free`,
      remedy: 'empty the trash, remove snapshots that are not needed, or enlarge the file system',
    },
  ]
}

async function roomOf(path: string): Promise<{ size: Bytes; free: Bytes }> {
  const stats = await statfs(path)
  return { size: stats.blocks * stats.bsize, free: stats.bavail * stats.bsize }
}

async function checkRecord(folder: string, volume: Volume): Promise<Finding[]> {
  const { adopt } = (volume.state ?? {}) as Partial<VfsState>
  const missing = (await ownerOf(folder)) !== volume.id ? folder : await missingContent(folder, adopt ?? null)
  if (!missing) return []
  return [
    {
      severity: 'error',
      check: 'record-without-data',
      subject: volume.name,
      message: `the data of volume ${volume.name} is not at ${missing}`,
      remedy: 'put it back from a backup, or remove the volume',
    },
  ]
}

async function missingContent(folder: string, adopt: string | null): Promise<string | null> {
  if (adopt !== null) return (await lstatOrNothing(adopt))?.isDirectory() ? null : adopt
  return (await kindIn(folder)) ? null : `${folder}/data`
}

async function foreign(path: string): Promise<Finding> {
  const ours = (await ownerOf(path)) !== undefined
  return {
    severity: 'warning',
    check: ours ? 'data-without-record' : 'foreign-file',
    subject: path,
    message: ours ? `${path} holds a volume that the catalog does not know` : `${path} does not belong to any volume`,
    remedy: 'look whether it is needed, and move it away or remove it',
  }
}

/** As `Driver.describe`. */
export async function describeStorage(storage: Storage): Promise<DriverDescription> {
  return {
    facts: {
      path: storage.layout.base,
      filesystem: storage.mount.fsType,
      size: await sizeFact(storage),
      snapshots: await snapshotFact(storage),
    },
    storage: await roomOf(storage.layout.base),
  }
}

async function sizeFact(storage: Storage): Promise<string> {
  const limit = await limitOf(storage)
  if (limit === 'project') {
    // CAP_SYS_RESOURCE exceeds it there; containers lack that unless they are privileged.
    return storage.mount.fsType === 'ext4' ? 'project quota (privileged containers can exceed it)' : 'project quota'
  }
  if (limit === 'qgroup') return 'btrfs qgroup'
  const reason = storage.btrfs ? 'btrfs quotas are not enabled' : noProjectQuota(storage.mount.fsType)
  if (!(await hasLoop())) return `none (${reason}; this node has no loop devices for images)`
  return `image with ${storage.imageFileSystem} (${reason})`
}

function noProjectQuota(fsType: string): string {
  return ['ext4', 'xfs'].includes(fsType) ? `${fsType} is mounted without prjquota` : `${fsType} has no project quota`
}

async function snapshotFact(storage: Storage): Promise<string> {
  const reflink = await storage.reflink()
  const image = reflink ? 'images by reflink while frozen (atomic)' : 'images by full copy while frozen (atomic)'
  if (storage.btrfs) return `btrfs subvolume (atomic); ${image}`
  const tree = reflink ? 'reflink of every file' : 'full copy'
  return `${tree} (atomic only while writers are paused); ${image}`
}
