/**
 * An export, opened: mounted twice on this node, with its folders made and what the nodes share in them. The data mount
 * is what containers see, with the client's caches, and waits for a server that is away. The work mount is the driver's
 * own view of the same files: it caches nothing, so that it sees what other nodes have just done, and gives an error
 * instead of waiting. Images are worked on by the data mount alone: two views of one image would be two file systems.
 *
 *     volumes/ .holdfast/trash/ .holdfast/data/   as vfs has them (drivers/vfs/layout.ts), records in them (records.ts)
 *     .holdfast/tmp/NODE/ .holdfast/views/NODE/   of one node, which removes at its start what it has left there
 *     .holdfast/nodes/NODE.json                   nodes.ts
 *     .holdfast/claims/KEY/EPOCH                  claims.ts
 *     .holdfast/share.json                        the format of all this, and which share it is
 */

import { randomUUID } from 'node:crypto'
import { link, lstat, mkdir, rm } from 'node:fs/promises'
import type { DriverContext, TreeArchive } from '../../src/driver.ts'
import { AppError, fromErrno } from '../../src/errors.ts'
import { ensureDirectory, ignoring, lstatOrNothing } from '../../src/system/files.ts'
import { mountAt, readMounts } from '../../src/system/mount.ts'
import { type Cleaner, startCleaner } from '../vfs/cleaner.ts'
import type { Layout } from '../vfs/layout.ts'
import { type PrunedArchive, startPruned } from '../vfs/pruned.ts'
import { openStorage, type Storage } from '../vfs/storage.ts'
import { dropUnusedViews } from '../vfs/views.ts'
import { Claims, type Holder } from './claims.ts'
import { field, isObject, isStale, readJson, writeJson, writeNew } from './json-file.ts'
import { detach, mountExport } from './mounting.ts'
import { Nodes, OwnNode } from './nodes.ts'
import { copiesOnServer, dataMountOptions, hashOf, labelOf, workMountOptions, workOf } from './options.ts'
import type { SiteOptions } from './protocol.ts'
import type { RemoteArchive } from './remote-archive.ts'
import { Turns } from './turns.ts'

/** One of the two views. */
export interface Room {
  readonly root: string
  readonly storage: Storage
  readonly layout: Layout
  readonly cleaner: Cleaner
}

/** What the process of an export has when it is open. */
export interface Share {
  readonly label: string
  /** A directory of this node's own disk, for what is about this node. */
  readonly local: string
  /** `.holdfast` of the share, by the work mount. */
  readonly holdfast: string
  readonly work: Room
  readonly data: Room
  readonly own: OwnNode
  readonly nodes: Nodes
  readonly claims: Claims
  readonly turns: Turns
  readonly archive: PrunedArchive
  /** The server copies files by itself: a snapshot is a copy. Else it goes to the archive. */
  readonly copies: boolean
}

const formatNumber = 1

/** @throws UNAVAILABLE, FAILED_PRECONDITION with what the server's export lacks */
export async function openShare(
  options: SiteOptions,
  me: Holder,
  remote: RemoteArchive,
  ctx: DriverContext,
): Promise<Share> {
  const { place, root } = options
  const [label, local] = [labelOf(place), `${root}/nfs/${hashOf(place)}`]
  const [work, data] = [workOf(root, place), `${local}/data`]
  await mkdir(local, { recursive: true, mode: 0o700 })
  const mountWork = () => mountExport(place, work, workMountOptions(place))
  const mountData = () => mountExport(place, data, dataMountOptions(place))
  await mountFresh(work, mountWork)
  await mountFresh(data, mountData)
  try {
    await requireSame(work, label, local)
    await makeFolders(work, me.node)
    const holdfast = `${work}/.holdfast`
    const nodes = new Nodes(`${holdfast}/nodes`, me, options.times)
    const claims = new Claims(`${holdfast}/claims`, me)
    const turns = new Turns(claims, nodes)
    remote.use(turns)
    const copies = copiesOnServer(place)
    const archive = await startPruned(remote, layoutOn(work, me.node).pruneDue, ctx.log)
    return {
      ...{ label, local, holdfast, nodes, claims, turns, archive, copies },
      work: await openRoom(work, me.node, archive, copies, ctx),
      data: await openRoom(data, `${me.node}~data`, archive, true, ctx),
      own: new OwnNode(`${holdfast}/nodes`, me),
    }
  } catch (error) {
    throw explained(fromErrno(error, `open ${label}`))
  }
}

/** A mount of an earlier life may be of what the server does not have any more: it is replaced when nobody uses it. */
async function mountFresh(at: string, mount: () => Promise<void>): Promise<void> {
  await mount()
  if (!(await isGivenUp(at))) return
  const entries = readMounts()
  const entry = mountAt(at, entries)
  const uses = entries.filter(({ device, mountpoint }) => device === entry?.device && mountpoint !== at)
  if (uses.length > 0) {
    const where = uses.map(({ mountpoint }) => mountpoint).join(', ')
    throw new AppError(
      'FAILED_PRECONDITION',
      `the server has given ${entry?.source} up and serves another file system there (stale file handle); ` +
        `stop the containers that use ${where}, and it is mounted again`,
    )
  }
  await detach(at)
  await mount()
}

async function isGivenUp(at: string): Promise<boolean> {
  try {
    await lstat(`${at}/.`)
    return false
  } catch (error) {
    if (isStale(error)) return true
    throw fromErrno(error, `look at ${at}`)
  }
}

async function makeFolders(root: string, node: string): Promise<void> {
  const own = ['', '/trash', '/data', '/tmp', '/views', '/nodes', '/claims']
  const rooms = [node, `${node}~data`].flatMap((room) => [`/tmp/${room}`, `/views/${room}`])
  await ensureDirectory(`${root}/volumes`, 0o700)
  for (const name of [...own, ...rooms]) await ensureDirectory(`${root}/.holdfast${name}`, 0o700)
}

/**
 * Sees that the export is the share that this node knows: a disk that is not mounted on the server must not look like a
 * share that has lost everything. One that no node has used yet is given an id.
 * @throws FAILED_PRECONDITION when it is another, or is kept by another version
 */
async function requireSame(root: string, label: string, local: string): Promise<void> {
  const [place, note] = [`${root}/.holdfast/share.json`, `${local}/share.json`]
  const known = field(await readJson(note), 'id')
  if (known === undefined) await makeShare(root, place)
  const found = await readJson(place)
  const id = field(found, 'id')
  if (known !== undefined && id !== known) {
    throw new AppError(
      'FAILED_PRECONDITION',
      `${label} is not the share that this node knows: see whether its disk is mounted on the server; if it was made anew, remove ${note}`,
    )
  }
  if (id === undefined || !isObject(found) || found.format !== formatNumber) {
    throw new AppError('FAILED_PRECONDITION', `${label} is kept by another version of Holdfast; update this node`)
  }
  if (known === undefined) await writeJson(note, { id })
}

/** Two nodes may be the first at the same time. */
async function makeShare(root: string, place: string): Promise<void> {
  await ensureDirectory(`${root}/.holdfast`, 0o700)
  if (await lstatOrNothing(place)) return
  const draft = `${place}.${randomUUID()}`
  await writeNew(draft, { format: formatNumber, id: randomUUID() })
  await ignoring(link(draft, place), 'EEXIST')
  await rm(draft, { force: true })
}

/** @param copies whether a snapshot is a copy, or goes to the archive */
async function openRoom(root: string, node: string, archive: TreeArchive, copies: boolean, ctx: DriverContext) {
  const layout = layoutOn(root, node)
  const storage = { ...openStorage(layout, 'ext4', archive), sharesWith: async () => copies }
  const cleaner = await startCleaner(layout, archive, ctx)
  await dropUnusedViews(layout, cleaner)
  return { root, layout, storage, cleaner }
}

/** vfs's folders on a share: what several nodes would clear away from under each other is each node's own. */
function layoutOn(root: string, node: string): Layout {
  const holdfast = `${root}/.holdfast`
  const base = `${holdfast}/data`
  return {
    ...{ base, volumes: `${root}/volumes`, trash: `${holdfast}/trash`, tmp: `${holdfast}/tmp/${node}` },
    ...{ repository: `${base}/repository`, pruneDue: `${base}/prune-due`, views: `${holdfast}/views/${node}` },
  }
}

/** root may be nobody to the server: then its errors mean something that they do not say. */
export function explained(error: AppError): AppError {
  const { code, message, details } = error
  if (code !== 'PERMISSION_DENIED') return error
  return new AppError(
    code,
    `${message}; the server may take this node's root for nobody (root_squash): export it with no_root_squash, or let the export's ` +
      'directory belong to nobody and create volumes without uid, gid and mode',
    { details, cause: error },
  )
}
