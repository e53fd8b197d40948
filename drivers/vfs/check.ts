/** What is wrong with the storage, and what it is, in words. Reads names, ids and lengths only; one damaged folder is one finding. */

import { statfs } from 'node:fs/promises'
import type { DriverContext, DriverDescription } from '../../src/driver.ts'
import type { Bytes, Finding, Volume } from '../../src/model.ts'
import { lstatOrNothing, readdirOrNothing } from '../../src/system/files.ts'
import { formatSize } from '../../src/units.ts'
import { checkLeftovers, checkSnapshots } from './check-snapshots.ts'
import { ownerOf, trashFolder } from './layout.ts'
import type { VfsState } from './options.ts'
import { hasLoop, kindIn, limitOf } from './places.ts'
import type { Storage } from './storage.ts'

/** Less than this share of the storage is worth a warning; less than these bytes as well, on a storage of `largeBytes`. */
const littleShare = 0.1
const littleBytes = 2 ** 30
const largeBytes = 10 * 2 ** 30

/** Something on the storage that is not at the place of a known volume. */
interface Stray {
  readonly path: string
  /** The id that it carries, when it is a folder of ours. */
  readonly id: string | undefined
}

/** As `Driver.check`. O(volumes + snapshots); lists the archive when there are snapshots in it. */
export async function checkStorage(storage: Storage, ctx: DriverContext, known: readonly Volume[]): Promise<Finding[]> {
  const folders = new Map(known.map((volume) => [folderOf(storage, volume), volume]))
  const strays = await findStrays(storage, folders)
  const findings = [
    ...(await checkRoom(storage.layout.base)),
    ...(await checkImages(storage, [...folders.keys()])),
    ...(await checkSnapshots(storage, ctx, folders)),
    ...(await checkLeftovers(storage.layout)),
  ]
  const returns = new Map<string, string>()
  for (const [folder, volume] of folders) {
    const missing = await missingPart(folder, volume)
    if (missing === null || volume.state === null) continue // One that is being made need not be there yet.
    const found = strays.find(({ id }) => id === volume.id)
    if (found) returns.set(found.path, await wayBack(found.path, folder))
    findings.push(lostData(volume, missing, found?.path, returns.get(found?.path ?? '')))
  }
  return [...findings, ...strays.map((stray) => strayFinding(stray, known, returns.get(stray.path)))]
}

async function findStrays({ layout }: Storage, folders: ReadonlyMap<string, Volume>): Promise<Stray[]> {
  const { base, volumes, trash, tmp, repository, pruneDue, views } = layout
  const own = new Set([volumes, trash, tmp, repository, pruneDue, views, `${base}/lost+found`])
  const strays: Stray[] = []
  for (const parent of [layout.volumes, layout.trash, layout.base]) {
    for (const name of await readdirOrNothing(parent)) {
      const path = `${parent}/${name}`
      const id = await ownerOf(path)
      const isExpected = own.has(path) || (folders.has(path) && (id === undefined || id === folders.get(path)?.id))
      if (!isExpected) strays.push({ path, id })
    }
  }
  return strays
}

function folderOf(storage: Storage, volume: Volume): string {
  const { trashed } = (volume.state ?? {}) as Partial<VfsState>
  return trashed ? trashFolder(storage.layout, volume) : `${storage.layout.volumes}/${volume.name}`
}

async function checkRoom(path: string): Promise<Finding[]> {
  const { size, free } = await roomOf(path)
  if (free >= size * littleShare && (free >= littleBytes || size <= largeBytes)) return []
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

/** Images are thin: their sizes may sum up to more than there is, and a container then fails to write what it was promised. */
async function checkImages({ layout }: Storage, folders: readonly string[]): Promise<Finding[]> {
  const { size, free } = await roomOf(layout.base)
  let [promised, held] = [0, 0]
  for (const folder of folders) {
    const stats = await lstatOrNothing(`${folder}/image`)
    if (!stats?.isFile()) continue
    promised += stats.size
    held += stats.blocks * 512
  }
  if (promised - held <= free) return []
  return [
    {
      severity: 'warning',
      check: 'overcommitment',
      subject: layout.base,
      message:
        `images may grow to ${formatSize(promised)}, of which they hold ${formatSize(held)}, ` +
        `while ${formatSize(free)} of ${formatSize(size)} are free`,
      remedy: 'enlarge the file system, or remove volumes and snapshots, before the volumes fill up',
    },
  ]
}

/** @returns the path at which something of the volume is missing */
async function missingPart(folder: string, volume: Volume): Promise<string | null> {
  const { adopt } = (volume.state ?? {}) as Partial<VfsState>
  return (await ownerOf(folder)) === volume.id ? missingContent(folder, adopt ?? null) : folder
}

/** `mv` would move it into a directory that stands there. */
async function wayBack(found: string, folder: string): Promise<string> {
  const move = `mv ${found} ${folder}`
  return (await lstatOrNothing(folder)) ? `move away what stands at ${folder}, then: ${move}` : move
}

function lostData(volume: Volume, missing: string, found: string | undefined, remedy: string | undefined): Finding {
  const where = found === undefined ? '' : `; it was found at ${found}`
  return {
    severity: 'error',
    check: 'record-without-data',
    subject: volume.name,
    message: `the data of volume ${volume.name} is not at ${missing}${where}`,
    remedy: remedy ?? `put it back, or forget the volume: holdfast volume rm ${volume.name} --purge`,
  }
}

async function missingContent(folder: string, adopt: string | null): Promise<string | null> {
  if (adopt !== null) return (await lstatOrNothing(adopt))?.isDirectory() ? null : adopt
  return (await kindIn(folder)) ? null : `${folder}/data`
}

/** @param remedy how it comes back to the place of the volume that lacks it */
function strayFinding({ path, id }: Stray, known: readonly Volume[], remedy: string | undefined): Finding {
  const subject = { severity: 'warning', subject: path } as const
  if (id === undefined) {
    return {
      ...subject,
      check: 'foreign-file',
      message: `${path} does not belong to any volume`,
      remedy: 'look whether it is needed, and move it away or remove it',
    }
  }
  const owner = known.find((volume) => volume.id === id)
  if (owner && remedy !== undefined) {
    return {
      ...subject,
      check: 'misplaced-data',
      message: `${path} holds the data of volume ${owner.name}`,
      remedy,
    }
  }
  return {
    ...subject,
    check: 'data-without-record',
    message: owner
      ? `${path} carries the id of volume ${owner.name}, whose data is at its place`
      : `${path} holds a volume that the catalog does not know`,
    remedy: 'move it away, out of the storage, and look into it',
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
  const tree = reflink ? 'reflink of every file' : 'archive, which keeps what has changed'
  return `${tree} (atomic only while writers are paused); ${image}`
}
