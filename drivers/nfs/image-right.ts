/**
 * Images are file systems of their own: two nodes that have one attached destroy it, were it only to look at it, and
 * what a node that was cut off still has in memory would be written long after. So whoever attaches one has the right
 * to its volume, and the folder says by a symlink, `writer`, on which node the image was last attached and not let go.
 * Another node that takes the right over goes on with a copy in the image's place: late writes go to the file that is
 * not there any more.
 */

import { lstat, rename, rm, symlink } from 'node:fs/promises'
import type { DriverContext } from '../../src/driver.ts'
import { AppError } from '../../src/errors.ts'
import type { Volume } from '../../src/model.ts'
import { exec } from '../../src/system/exec.ts'
import { lstatOrNothing, readlinkOrNothing, syncPath } from '../../src/system/files.ts'
import { isAttached } from '../../src/system/loop.ts'
import { alone } from '../vfs/images.ts'
import { imageOf, volumeFolder } from '../vfs/layout.ts'
import type { Claim } from './claims.ts'
import type { Mounted } from './mounted.ts'
import type { Share } from './share.ts'
import { isImage } from './states.ts'

interface Desk {
  readonly share: Share
  readonly mounted: Mounted
}

/** A node that was cut off for a moment may be writing while its image is copied. */
const attempts = 5

/**
 * Calls `work`, which attaches the volume's image, with the right to do so; for other volumes it only calls it.
 * @throws IN_USE
 */
export async function withImageRight<T>(desk: Desk, ctx: DriverContext, volume: Volume, work: () => Promise<T>) {
  if (!isImage(volume) || (await isOursHere(desk, volume))) return work()
  const claim = await takeImageRight(desk, ctx, volume)
  try {
    return await work()
  } finally {
    await giveBack(desk, volume, claim)
  }
}

/** The right to a volume, and its image fit to be attached here. @throws IN_USE with the node that has it */
export function takeImageRight(desk: Desk, ctx: DriverContext, volume: Volume): Promise<Claim> {
  return turn(volume, async () => {
    const claim = await desk.mounted.claim(volume)
    try {
      await makeOurs(desk, ctx, volume)
      return claim
    } catch (error) {
      if (desk.mounted.placeOf(volume.id) === undefined) await desk.share.claims.release(claim)
      throw error
    }
  })
}

/** Goes on with a copy when another node may still write to the image. */
export async function makeOurs({ share }: Desk, ctx: DriverContext, volume: Volume): Promise<void> {
  const folder = await volumeFolder(share.data.layout, volume)
  const writer = await readlinkOrNothing(`${folder}/writer`)
  const { node } = share.own.me
  if (writer === node) return
  if (writer !== undefined) {
    await renew(share, ctx, volume, await imageOf(folder))
    ctx.log.warn({ share: share.label, volume: volume.name, writer }, 'the image was taken over as a copy')
  }
  await rm(`${folder}/writer`, { force: true })
  await symlink(node, `${folder}/writer`)
  await syncPath(folder)
}

/**
 * Says that nothing here writes to the image any more, if that is so. When it cannot be said, the next node works with
 * a copy.
 */
export async function letGo({ share }: Desk, volume: Volume): Promise<void> {
  const folder = await volumeFolder(share.data.layout, volume)
  const [image, writer] = [`${folder}/image`, `${folder}/writer`]
  if ((await readlinkOrNothing(writer)) !== share.own.me.node || (await isAttached(image))) return
  if (await lstatOrNothing(image)) await syncPath(image)
  await rm(writer, { force: true })
}

async function isOursHere({ share, mounted }: Desk, volume: Volume): Promise<boolean> {
  if (mounted.placeOf(volume.id) === undefined) return false
  const claim = mounted.claimOf(volume.id)
  if (claim && (await share.claims.isOurs(claim))) return true
  throw new AppError(
    'FAILED_PRECONDITION',
    `another node has taken volume ${volume.name} over; stop the containers that use it here`,
  )
}

/** Unless it is mounted by now: then the mount has taken the right anew. */
async function giveBack(desk: Desk, volume: Volume, claim: Claim): Promise<void> {
  await turn(volume, async () => {
    if (!(await desk.share.claims.isOurs(claim))) return
    await letGo(desk, volume)
    await desk.share.claims.release(claim)
  }).catch(() => undefined) // This process may take it again, and others when the node is gone.
}

function turn<T>({ id }: Volume, work: () => Promise<T>): Promise<T> {
  return alone(`right ${id}`, work)
}

async function renew(share: Share, ctx: DriverContext, { id, name }: Volume, image: string): Promise<void> {
  const draft = `${share.data.layout.tmp}/${id}.renewed`
  // What the server has now, not what this node remembers of it.
  const look = async () => {
    const { mtimeNs, ctimeNs } = await lstat(share.work.root + image.slice(share.data.root.length), { bigint: true })
    return `${mtimeNs} ${ctimeNs}`
  }
  for (let attempt = 0; attempt < attempts; attempt++) {
    await rm(draft, { force: true })
    const before = await look()
    await exec('cp', ['--reflink=auto', '--sparse=auto', '--', image, draft], { signal: ctx.signal, timeoutMs: 0 })
    await syncPath(draft)
    if ((await look()) !== before) continue
    await rename(draft, image)
    return
  }
  await rm(draft, { force: true })
  throw new AppError('IN_USE', `the node that had volume ${name} mounted still writes to it; stop its containers`)
}
