/**
 * Everything behind the doors, on a real catalog in a directory of its own and a driver in memory. What a test does not dispose
 * of, also because its preparation failed, ends after it.
 */

import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach } from 'vitest'
import { Catalog } from '../../src/catalog/catalog.ts'
import type { Config } from '../../src/config.ts'
import type { Log } from '../../src/driver.ts'
import { createEngine } from '../../src/engine/engine.ts'
import { Locks } from '../../src/locks.ts'
import { Backups } from '../../src/services/backups/backups.ts'
import { RepositoryTurns } from '../../src/services/backups/repository-turns.ts'
import { Restores } from '../../src/services/backups/restores.ts'
import { Targets } from '../../src/services/backups/targets.ts'
import type { Core } from '../../src/services/core.ts'
import { Operations, type Phase } from '../../src/services/journal/operations.ts'
import { recover, recoverStranded } from '../../src/services/journal/recovery.ts'
import { resumersOf } from '../../src/services/journal/resumers.ts'
import { Drivers, type Waits } from '../../src/services/node/drivers.ts'
import { SharedCopies } from '../../src/services/shared/shared-copies.ts'
import { Snapshots } from '../../src/services/snapshots/snapshots.ts'
import { Mounts } from '../../src/services/volumes/mounts.ts'
import { Trash } from '../../src/services/volumes/trash.ts'
import { Volumes } from '../../src/services/volumes/volumes.ts'
import { DockerApi } from '../../src/system/docker.ts'
import { type FakeDriver, type FakeDriverOptions, fakeDriver } from './fake-driver.ts'
import { noArchive } from './no-archive.ts'

export interface TestCore extends AsyncDisposable {
  readonly core: Core
  readonly driver: FakeDriver
  readonly volumes: Volumes
  readonly mounts: Mounts
  readonly snapshots: Snapshots
  readonly trash: Trash
  readonly targets: Targets
  readonly backups: Backups
  readonly phases: readonly string[]
  readonly logged: readonly string[]
  /** A path outside of the root, which goes with it. */
  beside(name: string): string
  /** Ends this life, and begins another on the same root and the same storage. The directory goes with the last one. */
  restart(changes?: CoreOptions): Promise<TestCore>
  /** Recovers what an earlier life has left. */
  recover(retryMs?: number): Promise<void>
}

export interface CoreOptions extends FakeDriverOptions {
  readonly trashKeepMs?: number
  /** Shorter ones than usual. */
  readonly waits?: Waits
  /** Its volumes are devices, of 4 MiB when no size is asked for. */
  readonly blocks?: boolean
  /** Does something to the driver before it is started, which is then not waited for. */
  readonly prepare?: (driver: FakeDriver) => void
}

const directories = new Set<string>()
const lives = new Set<AsyncDisposableStack>()

afterEach(async () => {
  for (const life of lives) await life.disposeAsync()
  for (const directory of directories) removeDirectory(directory)
})

function removeDirectory(directory: string): void {
  rmSync(directory, { recursive: true, force: true })
  directories.delete(directory)
}

/** A core with one driver, `fake`. */
export async function openCore(options: CoreOptions = {}): Promise<TestCore> {
  const directory = mkdtempSync(join(tmpdir(), 'holdfast-core-'))
  directories.add(directory)
  const root = join(directory, 'root')
  mkdirSync(root)
  return await begin(root, options)
}

/** A log that keeps the messages of warnings and errors. */
function keepingLog(kept: string[]): Log {
  const keep = (fields: object, message: string): void => {
    kept.push(`${message} ${JSON.stringify(fields)}`)
  }
  return { debug: () => undefined, info: () => undefined, warn: keep, error: keep }
}

/** Settings for a core below `root`; the paths of its sockets are nobody's. */
export function testConfig(root: string, driver = 'fake', trashKeepMs = 86_400_000): Config {
  return {
    root,
    socket: join(root, 'admin.sock'),
    pluginSocket: join(root, 'plugin.sock'),
    dockerSocket: join(root, 'docker.sock'),
    drivers: [driver],
    defaultDriver: driver,
    driverOpts: {},
    trashKeepMs,
    hostHooks: null,
    logLevel: 'silent',
    logFormat: 'json',
  }
}

async function begin(root: string, options: CoreOptions): Promise<TestCore> {
  const blocks = { devices: join(dirname(root), 'devices'), defaultSize: 4 * 2 ** 20 }
  const driver = fakeDriver({ ...(options.blocks && blocks), ...options })
  options.prepare?.(driver)
  const config = testConfig(root, driver.name, options.trashKeepMs)
  const phases: string[] = []
  const logged: string[] = []
  const log = keepingLog(logged)
  const life = new AsyncDisposableStack()
  lives.add(life)
  life.defer(() => void lives.delete(life))
  const catalog = new Catalog(join(root, 'catalog.db'))
  life.defer(() => catalog.close())
  const drivers = await Drivers.load(config, { [driver.name]: async () => driver.module }, noArchive, options.waits)
  const engine = createEngine({ log })
  const operations = new Operations(catalog, log, (kind: string, phase: Phase) => phases.push(`${kind} ${phase}`))
  const parts = { config, catalog, locks: new Locks(), drivers, operations, engine, log }
  const core: Core = { ...parts, shared: new SharedCopies(parts) }
  const docker = new DockerApi(config.dockerSocket)
  const trash = new Trash(core)
  const turns = new RepositoryTurns()
  const [mounts, snapshots] = [new Mounts(core), new Snapshots(core, docker)]
  const restores = new Restores(core, turns)
  const backups = new Backups({ core, docker, snapshots, mounts, turns }, restores)
  const starting = drivers.start((signal) => operations.plainContext(signal), catalog)
  life.defer(async () => {
    await drivers.stop()
    await starting
  })
  life.defer(() => engine.stop())
  core.shared.start(() => void recoverStranded(core, docker, resumersOf(backups, restores), 20))
  life.defer(() => core.shared.stop())
  if (!options.prepare) await starting
  return {
    core,
    driver,
    volumes: new Volumes(core, trash, restores),
    mounts,
    snapshots,
    trash,
    targets: new Targets(core),
    backups,
    phases,
    logged,
    beside: (name) => join(dirname(root), name),
    recover: (retryMs) => recover(core, docker, resumersOf(backups, restores), retryMs),
    async restart(changes = {}) {
      await life.disposeAsync()
      const { prepare: _prepare, ...lasting } = options
      return await begin(root, { ...lasting, storage: driver.storage, ...changes })
    },
    async [Symbol.asyncDispose]() {
      await life.disposeAsync()
      removeDirectory(dirname(root))
    },
  }
}
