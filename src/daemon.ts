/**
 * The composition root: settings, catalog, drivers, recovery, services, sockets, signals. The only module that knows which doors
 * there are. Sockets listen before the storage has answered, so that Docker never waits for it.
 */

import { chmodSync, lstatSync, mkdirSync, realpathSync, rmSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { type Logger, pino } from 'pino'
import { driverModules } from '../drivers/index.ts'
import { buildPluginApp } from '../plugin/routes.ts'
import { Catalog } from './catalog/catalog.ts'
import { pruneOperations, putSetting } from './catalog/changes.ts'
import type { Config } from './config.ts'
import { createEngine } from './engine/engine.ts'
import { AppError } from './errors.ts'
import { Locks } from './locks.ts'
import { buildAdminApp } from './server/app.ts'
import { Archive } from './services/backups/archive.ts'
import { Backups } from './services/backups/backups.ts'
import { RepositoryTurns } from './services/backups/repository-turns.ts'
import { Restores } from './services/backups/restores.ts'
import { Targets } from './services/backups/targets.ts'
import type { Services } from './services/contract.ts'
import type { Core } from './services/core.ts'
import { keepFinished, Operations, type Phase } from './services/journal/operations.ts'
import { type Resumers, recover, recoverStranded } from './services/journal/recovery.ts'
import { resumersOf } from './services/journal/resumers.ts'
import { Drivers } from './services/node/drivers.ts'
import { Node } from './services/node/node.ts'
import { Schedules } from './services/schedules/schedules.ts'
import { SharedCopies } from './services/shared/shared-copies.ts'
import { Snapshots } from './services/snapshots/snapshots.ts'
import { Mounts } from './services/volumes/mounts.ts'
import { Trash } from './services/volumes/trash.ts'
import { Volumes } from './services/volumes/volumes.ts'
import { DockerApi } from './system/docker.ts'
import { lockPath } from './system/lock-file.ts'
import { bootId } from './system/process.ts'
import { tellReady } from './system/readiness.ts'
import { isListening } from './system/socket.ts'
import { version } from './version.ts'

/** How long a stop waits for operations to be undone, and for answers to be sent. */
const stopWaitMs = 8_000
const tidyEveryMs = 60_000

export interface DaemonHooks {
  /** Told of each phase of the journal before the next begins. */
  readonly onPhase?: (kind: string, phase: Phase) => void
}

export interface Daemon {
  /** Unlinks the sockets, undoes what runs, leaves mounts alone. Idempotent. */
  stop(): Promise<void>
}

/**
 * Starts the daemon; resolves when both sockets answer.
 * @throws FAILED_PRECONDITION when another daemon has this root directory or answers on a socket; INVALID_ARGUMENT, CORRUPT
 */
export async function startDaemon(given: Config, hooks: DaemonHooks = {}): Promise<Daemon> {
  process.umask(0o022)
  const config = { ...given, root: makeRoot(given.root) }
  const log = buildLog(config)
  const lock = await lockPath(config.root, 'the root directory')
  // Volumes in use outlive a fault of one call's.
  const outlive = (reason: unknown): void =>
    log.error({ error: (reason as Error)?.stack ?? String(reason) }, 'a failure that nobody waited for')
  process.on('unhandledRejection', outlive)
  const engine = createEngine({ log })
  const drivers = await Drivers.load(config, driverModules, (directory) => new Archive(engine, directory))
  const catalog = new Catalog(path.join(config.root, 'catalog.db'))
  const operations = new Operations(catalog, log, hooks.onPhase)
  const parts = { config, catalog, locks: new Locks(), drivers, operations, engine, log }
  const core: Core = { ...parts, shared: new SharedCopies(parts) }
  const docker = new DockerApi(config.dockerSocket)
  const rooms = buildServices(core, docker)
  const doors: Door[] = []
  const tidying = new AbortController()
  let stopping: Promise<void> | undefined
  const stop = async (): Promise<void> => {
    tidying.abort()
    rooms.schedules.stop()
    core.shared.stop()
    for (const { socket } of doors) rmSync(socket, { force: true })
    await core.operations.stop(stopWaitMs)
    await Promise.all(doors.map(({ app }) => closeDoor(app)))
    await drivers.stop()
    await engine.stop()
    await catalog.close()
    lock.release()
    process.off('unhandledRejection', outlive)
    log.info({ pid: process.pid }, 'stopped')
  }

  try {
    await noteBoot(catalog)
    await rooms.mounts.takeOver(bootId())
    void recover(core, docker, rooms.resumers).then(() => tidyBackups(rooms, log))
    core.shared.start(() => void recoverStranded(core, docker, rooms.resumers))
    void drivers.start((signal) => core.operations.plainContext(signal), catalog)
    await openDoor(buildAdminApp(rooms, { logger: log }), config.socket, doors)
    const scope = drivers.all().every(({ driver }) => driver.scope === 'global') ? 'global' : 'local'
    await openDoor(buildPluginApp(rooms, { log, scope }), config.pluginSocket, doors)
  } catch (error) {
    await stop()
    throw error
  }
  rooms.schedules.start()
  void tidyRegularly(rooms, log, tidying.signal)
  void tellReady(log)
  log.info({ version, root: config.root, drivers: config.drivers, pid: process.pid }, 'ready')
  return { stop: () => (stopping ??= stop()) }
}

/**
 * For root alone: a program in a volume that runs as its owner (set-uid) must be out of other users' reach.
 * @returns the root directory, symlinks resolved, as the kernel's mount tables show it
 */
function makeRoot(root: string): string {
  mkdirSync(path.join(root, 'mounts'), { recursive: true, mode: 0o700 })
  return realpathSync(root)
}

function buildLog(config: Config): Logger {
  const options = { level: config.logLevel, base: null, timestamp: pino.stdTimeFunctions.isoTime }
  if (config.logFormat === 'json') return pino(options)
  return pino({
    ...options,
    transport: { target: 'pino-pretty', options: { translateTime: 'SYS:HH:MM:ss', ignore: 'pid,hostname' } },
  })
}

interface Rooms extends Services {
  readonly mounts: Mounts
  readonly trash: Trash
  readonly backups: Backups
  readonly schedules: Schedules
  readonly resumers: Resumers
}

function buildServices(core: Core, docker: DockerApi): Rooms {
  const trash = new Trash(core)
  const mounts = new Mounts(core)
  const snapshots = new Snapshots(core, docker)
  const turns = new RepositoryTurns()
  const restores = new Restores(core, turns)
  const backups = new Backups({ core, docker, snapshots, mounts, turns }, restores)
  return {
    version,
    volumes: new Volumes(core, trash, restores),
    mounts,
    snapshots,
    trash,
    targets: new Targets(core),
    backups,
    schedules: new Schedules({ core, snapshots, backups }),
    operations: core.operations,
    node: new Node(core, docker),
    resumers: resumersOf(backups, restores),
  }
}

/** Doctor compares the first start of this boot with Docker's. */
async function noteBoot(catalog: Catalog): Promise<void> {
  if (catalog.setting('boot-id') === bootId()) return catalog.write(pruneOperations(keepFinished))
  await catalog.write(putSetting('first-start-of-boot', String(Date.now())))
}

/** A socket of ours, and what answers there. */
interface Door {
  readonly app: FastifyInstance
  readonly socket: string
}

/** Listens, and adds itself to `doors`, which hold only what a stop may unlink. */
async function openDoor(app: FastifyInstance, socket: string, doors: Door[]): Promise<void> {
  mkdirSync(path.dirname(socket), { recursive: true, mode: 0o755 })
  if (await isListening(socket)) {
    throw new AppError('FAILED_PRECONDITION', `another program answers on ${socket}; stop it, or choose another socket`)
  }
  if (lstatSync(socket, { throwIfNoEntry: false })?.isSocket() === false) {
    throw new AppError(
      'FAILED_PRECONDITION',
      `${socket} is there and is no socket; move it away, or choose another path`,
    )
  }
  rmSync(socket, { force: true })
  await app.listen({ path: socket })
  doors.push({ app, socket })
  chmodSync(socket, 0o660)
}

/** Sends the answers that are due; a call that hangs, or never becomes whole, does not hold up the end. */
async function closeDoor(app: FastifyInstance): Promise<void> {
  const cut = setTimeout(() => app.server.closeAllConnections(), stopWaitMs)
  await app.close()
  clearTimeout(cut)
}

/** A round begins a minute after the last one has ended: a purge may take long. */
async function tidyRegularly(rooms: Rooms, log: Logger, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await pause(tidyEveryMs, undefined, { signal, ref: false }).catch(() => undefined)
    if (!signal.aborted) await tidy(rooms, log)
  }
}

/** A crash may have left what a backup had mounted, or the snapshot that it had made. */
async function tidyBackups({ backups }: Rooms, log: Logger): Promise<void> {
  await backups.sweep().catch((error: Error) => log.warn({ error: error.message }, 'tidying up after backups failed'))
}

async function tidy({ mounts, backups, trash }: Rooms, log: Logger): Promise<void> {
  try {
    await trash.purgeExpired()
    await mounts.sweep()
    await backups.sweep()
  } catch (error) {
    log.warn({ error: (error as Error).message }, 'tidying up failed')
  }
}
