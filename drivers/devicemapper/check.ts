/** What the driver says of its pool, and what is wrong with it: too little room, a broken pool, records without data and data without records. */

import type { DriverContext, DriverDescription } from '../../src/driver.ts'
import { isAppError } from '../../src/errors.ts'
import type { Finding, Volume } from '../../src/model.ts'
import { formatSize } from '../../src/units.ts'
import { listThins } from './delta.ts'
import { lookAt } from './made.ts'
import type { VolumeState } from './options.ts'
import { readStatus, repairOf } from './pool.ts'
import { isMetadataFull, type PoolStatus, type Room } from './status.ts'
import type { Storage } from './storage.ts'

function share({ used, total }: Room): number {
  return total === 0 ? 0 : used / total
}

function percent(room: Room): string {
  return `${(share(room) * 100).toFixed(1)} %`
}

/** As `Driver.describe`. */
export async function describePool(storage: Storage): Promise<DriverDescription> {
  const { pool, settings, registry } = storage
  const status = await storage.status()
  const { data, metadata } = status
  return {
    facts: {
      pool: pool.own ? pool.name : `${pool.name} (of another program)`,
      devices: `${pool.data} (data), ${pool.metadata} (metadata)`,
      'block size': formatSize(pool.blockSize),
      filesystem: settings.fs,
      snapshots: 'thin (atomic)',
      state: status.needsCheck ? 'needs check' : status.mode.replaceAll('_', ' '),
      data: `${percent(data)} of ${formatSize(data.total * pool.blockSize)}`,
      metadata: percent(metadata),
    },
    storage: { size: data.total * pool.blockSize, free: (data.total - data.used) * pool.blockSize },
    gauges: {
      data_used_ratio: share(data),
      metadata_used_ratio: share(metadata),
      promised_bytes: registry.promised(),
      writable: status.mode === 'rw' ? 1 : 0,
    },
  }
}

/** As `Driver.check`. */
export async function checkPool(storage: Storage, ctx: DriverContext, known: readonly Volume[]): Promise<Finding[]> {
  const status = await readStatus(storage.pool, ctx.signal)
  const findings = [
    ...stateFindings(storage, status),
    ...roomFindings(storage, status),
    ...promiseFindings(storage, status),
  ]
  // Such a pool takes no messages, without which its devices cannot be listed.
  if (status.mode === 'failed' || status.mode === 'ro') return findings
  try {
    const thins = new Set(await listThins(storage.pool, ctx.signal))
    return [...findings, ...lostFindings(storage, known, thins), ...(await strayFindings(storage, ctx, thins))]
  } catch (error) {
    ctx.signal.throwIfAborted()
    if (!isAppError(error)) throw error
    return [...findings, unreadable(storage, error.message)]
  }
}

function stateFindings({ pool }: Storage, status: PoolStatus): Finding[] {
  const { mode, needsCheck } = status
  if (mode === 'rw' && !needsCheck) return []
  const subject = { severity: 'error', subject: pool.name } as const
  if (mode === 'out_of_data_space' && !needsCheck) {
    return [
      {
        ...subject,
        check: 'pool-full',
        message: 'the thin pool is full: nothing new can be written to its volumes',
        remedy: `enlarge ${pool.data}, which the pool follows by itself, or remove snapshots and volumes`,
      },
    ]
  }
  if (mode === 'ro' && !needsCheck && isMetadataFull(status)) {
    return [
      {
        ...subject,
        check: 'metadata-full',
        message:
          "the thin pool's metadata device is full: nothing new can be written to its volumes, and none be removed",
        remedy: `enlarge ${pool.metadata}, which the pool follows by itself`,
      },
    ]
  }
  const fact = needsCheck ? 'needs a check of its metadata' : mode === 'ro' ? 'is read-only' : 'has failed'
  return [{ ...subject, check: 'pool-broken', message: `the thin pool ${fact}`, remedy: repairOf(pool) }]
}

function roomFindings({ pool }: Storage, status: PoolStatus): Finding[] {
  return (['data', 'metadata'] as const).flatMap((what): Finding[] => {
    const room = status[what]
    if (share(room) < 0.8) return []
    return [
      {
        severity: share(room) < 0.9 ? 'warning' : 'error',
        check: what === 'data' ? 'little-room' : 'little-metadata',
        subject: pool.name,
        message: `${percent(room)} of the thin pool's ${what} are used`,
        remedy: `enlarge ${pool[what]}, or remove snapshots and volumes`,
      },
    ]
  })
}

function promiseFindings({ pool, registry }: Storage, { data }: PoolStatus): Finding[] {
  const [promised, size] = [registry.promised(), data.total * pool.blockSize]
  // Thin volumes promise more than there is; what matters is whether it may run out soon.
  if (promised <= size || share(data) < 0.5) return []
  return [
    {
      severity: 'warning',
      check: 'overcommitment',
      subject: pool.name,
      message: `volumes may grow to ${formatSize(promised)} together, while the pool has ${formatSize(size)}, of which ${percent(data)} are used`,
      remedy: `enlarge ${pool.data}, or remove volumes and snapshots, before the volumes fill up`,
    },
  ]
}

function lostFindings({ pool, registry }: Storage, known: readonly Volume[], thins: ReadonlySet<number>): Finding[] {
  const lost = (subject: string, what: string, remedy: string): Finding => {
    const message = `the data of ${what} is not in thin pool ${pool.name}`
    return { severity: 'error', check: 'record-without-data', subject, message, remedy }
  }
  return known.flatMap((volume) => {
    const state = volume.state as VolumeState | null
    if (!state) return []
    const forget = `if it is lost, forget the volume: holdfast volume rm ${volume.name} --purge`
    const volumes = thins.has(state.thin) ? [] : [lost(volume.name, `volume ${volume.name}`, forget)]
    const snapshots = registry
      .snapshotsOf(volume.id)
      .filter((snapshot) => !thins.has(snapshot.state.thin))
      .map(({ name }) => `${volume.name}@${name}`)
    return [
      ...volumes,
      ...snapshots.map((ref) => lost(ref, `snapshot ${ref}`, `forget it: holdfast snapshot rm ${ref}`)),
    ]
  })
}

/** Each has to be looked at. */
const strayLimit = 50

/** In a pool of another program, only what carries a label of ours is ours to speak of. */
async function strayFindings(storage: Storage, ctx: DriverContext, thins: ReadonlySet<number>): Promise<Finding[]> {
  const { pool, registry } = storage
  const findings: Finding[] = []
  for (const thin of [...thins].filter((number) => registry.ownerOf(number) === undefined).slice(0, strayLimit)) {
    const found = await lookAt(storage, thin, ctx.signal)
    const label = found?.label
    if (!found || (!pool.own && !label)) continue
    findings.push({
      severity: 'warning',
      check: 'data-without-record',
      subject: `thin device ${thin}`,
      message: label
        ? `thin pool ${pool.name} holds a thin device of volume ${label.name} (${label.volume}) that the catalog does not know`
        : `thin pool ${pool.name} holds a thin device that Holdfast has not made`,
      remedy: `look into it: dmsetup create look --readonly --table '0 ${(label?.size ?? 2 ** 30) / 512} thin /dev/mapper/${pool.name} ${thin}'; if nobody needs it: dmsetup message ${pool.name} 0 'delete ${thin}'`,
    })
  }
  return findings
}

function unreadable({ pool }: Storage, message: string): Finding {
  return {
    severity: 'warning',
    check: 'pool-not-listed',
    subject: pool.name,
    message: `the thin devices of pool ${pool.name} could not be listed: ${message}`,
    remedy:
      'install thin-provisioning-tools, see that no other program holds a snapshot of the metadata, and try again',
  }
}
