/** What a share is, and what is wrong with it and with what this node has of it, in words. */

import { statfs } from 'node:fs/promises'
import type { DriverContext, DriverDescription } from '../../src/driver.ts'
import type { Finding, Volume } from '../../src/model.ts'
import { mountAt } from '../../src/system/mount.ts'
import { checkStorage } from '../vfs/check.ts'
import type { Loss, Mounted } from './mounted.ts'
import { readAll } from './records.ts'
import type { Share } from './share.ts'
import { toVfs } from './states.ts'

interface Desk {
  readonly share: Share
  readonly mounted: Mounted
}

/** As `Driver.describe`. */
export async function describe({ share }: Desk): Promise<DriverDescription> {
  const { bsize, blocks, bavail } = await statfs(share.work.root)
  const options = mountAt(share.data.root)?.superOptions ?? []
  const version = options.find((option) => option.startsWith('vers='))?.slice('vers='.length)
  const others = share.nodes.list().filter(({ alive, self }) => alive && !self)
  return {
    facts: {
      export: share.label,
      version: version ?? 'unknown',
      nodes: String(others.length + 1),
      size: 'image with ext4, for access=single only',
      snapshots: await snapshotFact(share),
    },
    storage: { size: blocks * bsize, free: bavail * bsize },
  }
}

async function snapshotFact({ work, copies }: Share): Promise<string> {
  const live = '(atomic only while writers are paused)'
  if (await work.storage.reflink()) return `reflink of every file on the server ${live}`
  return copies ? `copy of every file on the server ${live}` : `archive of what has changed, on the share ${live}`
}

/** As `Driver.check`. @param known by this node; of what the share's records tell besides, it may not have heard yet */
export async function check(desk: Desk, ctx: DriverContext, known: readonly Volume[]): Promise<Finding[]> {
  const { share, mounted } = desk
  const room = share.work
  const ids = new Set(known.map(({ id }) => id))
  const told = [...(await readAll(room.layout)).values()].map(({ volume }) => volume)
  const all = [...known, ...told.filter(({ id, damage }) => damage === undefined && !ids.has(id))]
  const found = await checkStorage(
    room.storage,
    ctx,
    all.map((volume) => toVfs(volume, room.root)),
  )
  const findings = found.map((finding) => named(share, finding))
  const speaker = await share.own.speaker()
  if (speaker !== undefined && speaker !== share.own.me.session) findings.push(doubled(share))
  const losses = mounted.losses.map(lossFinding)
  return [...findings, ...losses, ...told.flatMap((volume) => damageFinding(volume) ?? [])]
}

function damageFinding({ name, damage }: Volume): Finding | null {
  if (damage === undefined) return null
  const remedy = 'restore record.json of its folder from a copy'
  return { severity: 'error', check: 'damaged-record', subject: name, message: damage, remedy }
}

function lossFinding({ name, detail, isLost }: Loss): Finding {
  const message = isLost ? `volume ${name} is not this node's any more: ${detail}` : `volume ${name} waits: ${detail}`
  const remedy = isLost
    ? 'stop the containers that use it here, and compare what they wrote last with what the other node has'
    : 'see to the NFS server and the network: it goes on by itself unless another node has taken it over by then'
  return { severity: 'error', check: isLost ? 'right-lost' : 'right-unsure', subject: name, message, remedy }
}

/** Paths as the server knows them. */
function named(share: Share, finding: Finding): Finding {
  const shown = (text: string) => text.replaceAll(share.work.root, share.label)
  return { ...finding, subject: shown(finding.subject), message: shown(finding.message), remedy: shown(finding.remedy) }
}

function doubled({ label, own }: Share): Finding {
  return {
    severity: 'error',
    check: 'two-nodes-as-one',
    subject: label,
    message: `another machine uses ${label} under this node's id ${own.me.node}: one is a copy of the other`,
    remedy: 'stop the daemon of the copy, remove nfs/node from its root directory, and start it again',
  }
}
