/**
 * The drivers of this node: made from the settings, started in the background and again until they answer, so that the
 * sockets never wait for storage. Who needs one waits for `ready`, with a deadline.
 */

import { setTimeout } from 'node:timers/promises'
import type { Catalog } from '../../catalog/catalog.ts'
import type { Config } from '../../config.ts'
import type { Driver, DriverContext, DriverEnvironment, DriverModule } from '../../driver.ts'
import { AppError, toAppError } from '../../errors.ts'
import type { Snapshot, Volume } from '../../model.ts'
import { suggestion } from '../../units.ts'
import { snapshotsInTheMaking, volumesInTheMaking } from '../journal/in-the-making.ts'

/** How long things are waited for, in ms. */
export interface Waits {
  /** By a call, for a driver that is still starting. */
  readonly ready: number
  /** Before a driver that could not start is tried again: at first, and at most. */
  readonly firstRetry: number
  readonly longestRetry: number
}

/** A call ends well before the 60 s that Docker waits. */
export const usualWaits: Waits = { ready: 20_000, firstRetry: 1_000, longestRetry: 30_000 }

interface Entry {
  readonly driver: Driver
  state: 'starting' | 'ready' | 'failed'
  error: AppError | undefined
  readonly ready: PromiseWithResolvers<void>
}

export type DriverModules = Readonly<Record<string, () => Promise<DriverModule>>>

export class Drivers {
  readonly #entries: ReadonlyMap<string, Entry>
  readonly #waits: Waits
  readonly #stopping = new AbortController()

  private constructor(entries: ReadonlyMap<string, Entry>, waits: Waits) {
    this.#entries = entries
    this.#waits = waits
  }

  /**
   * Loads the modules that the settings name.
   * @param archive makes the archives that drivers ask for
   * @throws INVALID_ARGUMENT for an unknown driver or a setting of one
   */
  static async load(
    config: Config,
    modules: DriverModules,
    archive: DriverEnvironment['archive'],
    waits = usualWaits,
  ): Promise<Drivers> {
    for (const name of Object.keys(config.driverOpts)) {
      if (!config.drivers.includes(name)) {
        throw new AppError(
          'INVALID_ARGUMENT',
          `driver-opt names driver '${name}', which is not started; add --driver ${name}`,
        )
      }
    }
    const entries = new Map<string, Entry>()
    for (const name of config.drivers) {
      const load = modules[name]
      if (!load)
        throw new AppError('INVALID_ARGUMENT', `unknown driver '${name}'${suggestion(name, Object.keys(modules))}`)
      const driver = makeDriver(await load(), config, archive)
      entries.set(name, { driver, state: 'starting', error: undefined, ready: Promise.withResolvers() })
    }
    return new Drivers(entries, waits)
  }

  /** The driver, started or not; undefined when the settings do not name it. */
  get(name: string): Driver | undefined {
    return this.#entries.get(name)?.driver
  }

  /** @throws INVALID_ARGUMENT for a driver that is not among the settings' */
  required(name: string): Driver {
    return this.#entry(name).driver
  }

  all(): { driver: Driver; state: Entry['state']; error: AppError | undefined }[] {
    return [...this.#entries.values()]
  }

  /** The started driver. @throws UNAVAILABLE when it is not ready within 20 s, with the reason; INVALID_ARGUMENT */
  async ready(name: string): Promise<Driver> {
    const entry = this.#entry(name)
    if (entry.state === 'ready') return entry.driver
    const gaveUp = new AbortController()
    await Promise.race([entry.ready.promise, pause(this.#waits.ready, gaveUp.signal)])
    gaveUp.abort()
    if ((entry.state as Entry['state']) === 'ready') return entry.driver
    throw new AppError(
      'UNAVAILABLE',
      `driver ${name} is not ready: ${entry.error?.message ?? 'it is still starting'}; try again later`,
    )
  }

  /** As `ready`, but waits as long as it takes. Pends for ever when the daemon stops before. */
  async started(name: string): Promise<Driver> {
    const { driver, ready } = this.#entry(name)
    await ready.promise
    return driver
  }

  /** Starts all, each by itself; ends when every one is ready or `stop` was called. */
  async start(context: (signal: AbortSignal) => DriverContext, catalog: Catalog): Promise<void> {
    const ctx = context(this.#stopping.signal)
    await Promise.all([...this.#entries.values()].map((entry) => this.#startOne(entry, ctx, catalog)))
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new AppError('CANCELLED', 'the daemon is stopping'))
    await Promise.allSettled([...this.#entries.values()].map(({ driver }) => driver.stop()))
  }

  async #startOne(entry: Entry, ctx: DriverContext, catalog: Catalog): Promise<void> {
    const { driver } = entry
    const { firstRetry, longestRetry } = this.#waits
    for (let waitMs = firstRetry; !ctx.signal.aborted; waitMs = Math.min(waitMs * 2, longestRetry)) {
      try {
        const known = knownTo(driver, catalog)
        await driver.start(ctx, known, snapshotsOf(known, catalog))
        entry.state = 'ready'
        entry.error = undefined
        entry.ready.resolve()
        return
      } catch (error) {
        if (ctx.signal.aborted) return
        entry.state = 'failed'
        entry.error = toAppError(error)
        ctx.log.error({ driver: driver.name, error: entry.error.message, retryMs: waitMs }, 'driver could not start')
        await pause(waitMs, ctx.signal)
      }
    }
  }

  #entry(name: string): Entry {
    const entry = this.#entries.get(name)
    if (entry) return entry
    throw new AppError(
      'INVALID_ARGUMENT',
      `driver '${name}' is not started on this node${suggestion(name, [...this.#entries.keys()])}`,
    )
  }
}

function makeDriver(module: DriverModule, config: Config, archive: DriverEnvironment['archive']): Driver {
  const opts = config.driverOpts[module.name] ?? {}
  for (const key of Object.keys(opts)) {
    if (Object.hasOwn(module.settings, key)) continue
    throw new AppError(
      'INVALID_ARGUMENT',
      `driver ${module.name} has no setting '${key}'${suggestion(key, Object.keys(module.settings))}`,
    )
  }
  return module.create(opts, { root: config.root, archive })
}

/** Volumes whose record can be read (a damaged one is left as it is), and those that an earlier life was making. */
function knownTo({ name }: Driver, catalog: Catalog): Volume[] {
  const recorded = catalog.volumesOfDriver(name).filter(({ damage }) => damage === undefined)
  return [...recorded, ...volumesInTheMaking(catalog).filter(({ driver }) => driver === name)]
}

function snapshotsOf(known: readonly Volume[], catalog: Catalog): Snapshot[] {
  const ids = new Set(known.map(({ id }) => id))
  const snapshots = [...catalog.snapshotsOfAll(), ...snapshotsInTheMaking(catalog)]
  return snapshots.filter(({ volumeId, damage }) => damage === undefined && ids.has(volumeId))
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await setTimeout(ms, undefined, { signal, ref: false }).catch(() => undefined)
}
