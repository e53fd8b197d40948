/**
 * What is wrong or at risk on this node. A check answers findings or throws; each has a deadline, and one that fails or hangs is
 * a finding itself. No check changes anything.
 */

import { existsSync, readdirSync, statfsSync } from 'node:fs'
import path from 'node:path'
import { toAppError } from '../../errors.ts'
import type { Finding, Volume } from '../../model.ts'
import type { DockerApi } from '../../system/docker.ts'
import { readMounts } from '../../system/mount.ts'
import { dockerdStartedAt } from '../../system/process.ts'
import { isListening } from '../../system/socket.ts'
import { formatSize } from '../../units.ts'
import { checkTargets } from '../backups/target-check.ts'
import { type Core, hiddenTarget, mountsFolder } from '../core.ts'
import { volumesInTheMaking } from '../journal/in-the-making.ts'
import { checkSchedules } from '../schedules/schedule-check.ts'
import { checkShared } from '../shared/shared-check.ts'
import { recordTrouble } from '../volumes/views.ts'

interface Patient {
  readonly core: Core
  readonly docker: DockerApi
}

type Check = (patient: Patient) => Promise<Finding[]>

const checkDeadlineMs = 15_000
/** Where Docker looks for plugins; sockets only in the first. */
const socketFolder = '/run/docker/plugins'
const specFolders = ['/etc/docker/plugins', '/usr/lib/docker/plugins']
/** The kernel tells when it booted, and so when Docker was started, to the second only. */
const clockSlackMs = 2_000
const leastRoot = 256 * 2 ** 20

const checks: Readonly<Record<string, Check>> = {
  /** Docker finds a socket by its folder, or by a .spec file that names it. */
  'plugin-socket': async ({ core }) => {
    const { pluginSocket } = core.config
    const subject = pluginSocket
    if (!(await isListening(pluginSocket))) {
      const remedy = 'restart the daemon: it makes its sockets anew'
      return [
        error(
          'socket-unreachable',
          subject,
          'nothing answers on the plugin socket: Docker cannot reach Holdfast',
          remedy,
        ),
      ]
    }
    if (path.dirname(pluginSocket) === socketFolder || namedBySpec(core)) return []
    const remedy = `set plugin-socket to ${socketFolder}/holdfast.sock, or write unix://${pluginSocket} to ${specFolders[0]}/holdfast.spec`
    return [
      error('socket-unreachable', subject, 'the plugin socket is in no folder where Docker looks for plugins', remedy),
    ]
  },

  'stale-sockets': async () => {
    const sockets = existsSync(socketFolder) ? readdirSync(socketFolder).filter((name) => name.endsWith('.sock')) : []
    const dead = await Promise.all(
      sockets.map(async (name) => ((await isListening(path.join(socketFolder, name))) ? [] : [name])),
    )
    return dead.flat().map((name) => {
      const file = path.join(socketFolder, name)
      return warning(
        'stale-socket',
        file,
        'nobody answers on this plugin socket: every docker volume ls waits 15 s for it',
        `start its plugin, or remove it: rm ${file}`,
      )
    })
  },

  /** Docker asks its plugins when it restores containers; one that comes later is not asked again. */
  'start-order': async ({ core }) => {
    const docker = dockerdStartedAt()
    const first = Number(core.catalog.setting('first-start-of-boot') ?? 0)
    if (docker === undefined || first <= docker + clockSlackMs || isEnabledUnit()) return []
    const text =
      'Holdfast was started after Docker, and nothing sees to it that it comes first at the next boot: then Docker does not ' +
      'start the containers with a restart policy that use its volumes'
    return [
      warning(
        'started-after-docker',
        'dockerd',
        text,
        'have it started before Docker, as the systemd unit of scripts/up is; docker start what was not started',
      ),
    ]
  },

  impostors: async ({ core, docker }) => {
    if (!existsSync(core.config.dockerSocket)) return []
    const local = (await docker.volumes()).filter(({ Name, Driver }) => Driver === 'local' && core.catalog.volume(Name))
    return local.map(({ Name }) =>
      error(
        'impostor',
        Name,
        `Docker has a volume of its own named ${Name} (driver local): containers get that one instead of Holdfast's`,
        `save what it holds, then: docker volume rm ${Name} && docker volume inspect ${Name}`,
      ),
    )
  },

  /** Of storage that other nodes use too: a volume of this node's alone is in the way, or this node has lost its right to one. */
  shared: async ({ core }) => checkShared(core),

  'unreferenced-mounts': async ({ core }) => {
    const held = new Set(core.catalog.allHolds().map((hold) => `${hold.volumeId}@${hold.snapshotId ?? ''}`))
    const folder = `${mountsFolder(core)}/`
    const filled = volumesInTheMaking(core.catalog).map(({ id }) => hiddenTarget(core, id))
    const mounted = readMounts().filter(
      ({ mountpoint }) => mountpoint.startsWith(folder) && !filled.includes(mountpoint),
    )
    const orphans = mounted.filter(({ mountpoint }) => {
      const [name = '', snapshotName] = mountpoint.slice(folder.length).split('@')
      const id = core.catalog.volume(name)?.id ?? ''
      if (snapshotName === undefined) return !held.has(`${id}@`)
      const snapshot = core.catalog.snapshot(id, snapshotName)
      return !snapshot || !held.has(`${id}@${snapshot.id}`)
    })
    return orphans.map(({ mountpoint }) =>
      warning(
        'unreferenced-mount',
        mountpoint,
        'this is mounted, but no container and no command holds it',
        `umount ${mountpoint}`,
      ),
    )
  },

  storage: async ({ core }) => {
    const ctx = core.operations.plainContext(AbortSignal.timeout(checkDeadlineMs))
    const found = core.drivers.all().map(async ({ driver, state, error: reason }) => {
      if (state === 'ready') {
        const making = volumesInTheMaking(core.catalog).filter((volume) => volume.driver === driver.name)
        return driver.check(ctx, [...core.catalog.volumesOfDriver(driver.name), ...making])
      }
      const remedy = 'mend that: the daemon tries again by itself'
      return [
        error(
          'driver-not-ready',
          driver.name,
          `driver ${driver.name} is ${state}: ${reason?.message ?? 'no answer yet'}`,
          remedy,
        ),
      ]
    })
    return (await Promise.all(found)).flat()
  },

  room: async ({ core }) => {
    const { bavail, bsize } = statfsSync(core.config.root)
    if (bavail * bsize >= leastRoot) return []
    const text = `only ${formatSize(bavail * bsize)} left where the catalog is kept: soon no change can be written down`
    return [error('no-room', core.config.root, text, 'make room on this file system')]
  },

  records: async ({ core }) => {
    const volumes = [...core.catalog.volumes(), ...core.catalog.trash()]
    return [...volumes.flatMap((volume) => checkRecord(core, volume)), ...damagedSnapshots(core)]
  },

  catalog: async ({ core }) =>
    core.catalog
      .integrityProblems()
      .map((text) =>
        error('catalog-damaged', 'catalog.db', text, 'stop the daemon and restore the catalog from a copy'),
      ),

  targets: async ({ core }) => checkTargets(core),

  schedules: async ({ core }) => checkSchedules(core),

  'safety-snapshots': async ({ core }) => checkSafetySnapshots(core),

  operations: async ({ core }) =>
    core.operations
      .stranded()
      .map(({ id, kind, subject }) =>
        warning(
          'not-recovered',
          subject,
          `${kind} ${id} was interrupted by a crash, or could not be undone, and is not recovered yet`,
          'see the log for the reason; every start of the daemon tries again',
        ),
      ),
}

function checkRecord(core: Core, volume: Volume): Finding[] {
  const trouble = recordTrouble(core, volume)
  if (trouble === undefined) return []
  const check = volume.damage === undefined ? 'unusable-volume' : 'damaged-record'
  const remedy = core.drivers.get(volume.driver)
    ? 'its data is untouched; restore the catalog from a copy'
    : `its data is untouched; start the daemon with --driver ${volume.driver}`
  return [error(check, volume.name, `volume ${volume.name}: ${trouble}`, remedy)]
}

function damagedSnapshots(core: Core): Finding[] {
  return core.catalog.allSnapshots().flatMap(({ volumeId, name, damage }) => {
    if (damage === undefined) return []
    const subject = `${core.catalog.volumeById(volumeId)?.name}@${name}`
    const remedy = 'its data is untouched; restore the catalog from a copy'
    return [error('damaged-record', subject, `snapshot ${subject}: ${damage}`, remedy)]
  })
}

/** As a restore in place names what it keeps of the content before it. */
const safetyName = /^before-restore-\d{8}-\d{6}(-\d+)?$/
const safetyKeepMs = 7 * 86_400_000

/** A restore that was right has no more use for them, and nobody else removes them. */
function checkSafetySnapshots({ catalog }: Core): Finding[] {
  const isOld = (createdAt: string): boolean => Date.now() - Date.parse(createdAt) > safetyKeepMs
  const old = catalog.allSnapshots().filter(({ name, createdAt }) => safetyName.test(name) && isOld(createdAt))
  return [...Map.groupBy(old, ({ volumeId }) => volumeId)].map(([volumeId, ofOne]) => {
    const volume = catalog.volumeById(volumeId)?.name ?? volumeId
    const refs = ofOne.map(({ name }) => `${volume}@${name}`)
    const text = `volume ${volume} still keeps what it held before restores in place, more than 7 days ago: ${refs.join(', ')}`
    return warning('old-safety-snapshot', volume, text, `if nobody misses it: holdfast snapshot rm ${refs.join(' ')}`)
  })
}

/** Runs every check. @returns findings, errors first */
export async function examine(core: Core, docker: DockerApi): Promise<Finding[]> {
  const found = await Promise.all(
    Object.entries(checks).map(([name, check]) => runCheck(name, check, { core, docker })),
  )
  // A driver may say the same.
  const each = new Map(
    found.flat().map((finding) => [`${finding.check} ${finding.subject} ${finding.remedy}`, finding]),
  )
  return [...each.values()].sort((a, b) => a.severity.localeCompare(b.severity))
}

async function runCheck(name: string, check: Check, patient: Patient): Promise<Finding[]> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${checkDeadlineMs / 1000} s`)), checkDeadlineMs)
  })
  try {
    return await Promise.race([check(patient), late])
  } catch (failure) {
    return [
      warning(
        'check-failed',
        name,
        `this could not be checked: ${toAppError(failure).message}`,
        'mend that and ask again',
      ),
    ]
  } finally {
    clearTimeout(timer)
  }
}

function error(check: string, subject: string, message: string, remedy: string): Finding {
  return { severity: 'error', check, subject, message, remedy }
}

function warning(check: string, subject: string, message: string, remedy: string): Finding {
  return { severity: 'warning', check, subject, message, remedy }
}

function namedBySpec({ config }: Core): boolean {
  const name = path.basename(config.pluginSocket, '.sock')
  return specFolders.some((folder) => existsSync(path.join(folder, `${name}.spec`)))
}

function isEnabledUnit(): boolean {
  return existsSync('/etc/systemd/system/multi-user.target.wants/holdfast.service')
}
