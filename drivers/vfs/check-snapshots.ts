/** What is wrong with snapshots and their archive, and what was never removed. The storage is asked, not the catalog. */

import type { DriverContext } from '../../src/driver.ts'
import { toAppError } from '../../src/errors.ts'
import type { Finding, Volume } from '../../src/model.ts'
import { lstatOrNothing, readdirOrNothing } from '../../src/system/files.ts'
import { type Layout, ownerOf } from './layout.ts'
import { snapshotKindIn } from './places.ts'
import type { Storage } from './storage.ts'

/** No snapshot takes as long: a draft of that age is nobody's. */
const oldMs = 7 * 24 * 3_600_000

interface Found {
  /** `VOLUME@SNAPSHOT`. */
  readonly subject: string
  readonly id: string
  readonly folder: string
}

/** Snapshots of the volumes in `folders` that have lost their content; an archive that cannot be read is one finding. */
export async function checkSnapshots(
  storage: Storage,
  ctx: DriverContext,
  folders: ReadonlyMap<string, Volume>,
): Promise<Finding[]> {
  const archived: Found[] = []
  const lost: Found[] = []
  for (const found of await snapshotsIn(folders)) {
    const kind = await snapshotKindIn(found.folder)
    if (kind === 'archive') archived.push(found)
    else if (kind === undefined) lost.push(found)
  }
  return [...lost.map((found) => lostSnapshot(found, found.folder)), ...(await checkArchive(storage, ctx, archived))]
}

async function snapshotsIn(folders: ReadonlyMap<string, Volume>): Promise<Found[]> {
  const found: Found[] = []
  for (const [folder, volume] of folders) {
    const snapshots = `${folder}/snapshots`
    if (!(await lstatOrNothing(snapshots))?.isDirectory()) continue
    for (const name of await readdirOrNothing(snapshots)) {
      const id = await ownerOf(`${snapshots}/${name}`)
      if (id !== undefined) found.push({ subject: `${volume.name}@${name}`, id, folder: `${snapshots}/${name}` })
    }
  }
  return found
}

async function checkArchive(
  { archive, layout }: Storage,
  ctx: DriverContext,
  archived: readonly Found[],
): Promise<Finding[]> {
  try {
    const copies = await Promise.all(archived.map(({ id }) => archive.find(ctx, id)))
    return archived.filter((_, i) => copies[i] === null).map((found) => lostSnapshot(found, layout.repository))
  } catch (error) {
    ctx.signal.throwIfAborted()
    return [
      {
        severity: 'error',
        check: 'archive-unreadable',
        subject: layout.repository,
        message: `the archive with ${archived.length} snapshots cannot be read: ${toAppError(error).message}`,
        remedy: 'mend that, or restore the directory from a copy; volumes are not concerned',
      },
    ]
  }
}

function lostSnapshot({ subject }: Found, place: string): Finding {
  return {
    severity: 'error',
    check: 'snapshot-without-data',
    subject,
    message: `the data of snapshot ${subject} is not in ${place}`,
    remedy: `put it back, or forget the snapshot: holdfast snapshot rm ${subject}`,
  }
}

/** What has been lying in tmp for so long that nobody is at work on it. */
export async function checkLeftovers({ tmp }: Layout): Promise<Finding[]> {
  const findings: Finding[] = []
  for (const name of await readdirOrNothing(tmp)) {
    const stats = await lstatOrNothing(`${tmp}/${name}`)
    if (stats && Date.now() - stats.ctimeMs > oldMs) findings.push(leftover(`${tmp}/${name}`))
  }
  return findings
}

function leftover(path: string): Finding {
  return {
    severity: 'warning',
    check: 'leftover',
    subject: path,
    message: `${path} was not finished, or not removed, and takes room`,
    remedy: 'restart the daemon, which removes it; its log says why it could not',
  }
}
