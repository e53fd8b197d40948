/** This node as a whole: what is here, and what is wrong with it. */

import type { Driver } from '../../driver.ts'
import { toAppError } from '../../errors.ts'
import type { Finding } from '../../model.ts'
import type { DockerApi } from '../../system/docker.ts'
import { version } from '../../version.ts'
import type { Core } from '../core.ts'
import type { DriverView, InfoView, NodeService } from './contract.ts'
import { Descriptions } from './descriptions.ts'
import { examine } from './doctor.ts'

export class Node implements NodeService {
  readonly #core: Core
  readonly #docker: DockerApi
  readonly #descriptions: Descriptions

  constructor(core: Core, docker: DockerApi) {
    this.#core = core
    this.#docker = docker
    this.#descriptions = new Descriptions((signal) => core.operations.plainContext(signal))
  }

  async info(): Promise<InfoView> {
    const { config, catalog, operations } = this.#core
    return {
      version,
      node: process.version,
      pid: process.pid,
      startedAt: new Date(operations.startedMs).toISOString(),
      root: config.root,
      socket: config.socket,
      pluginSocket: config.pluginSocket,
      defaultDriver: config.defaultDriver,
      drivers: await Promise.all(this.#core.drivers.all().map((entry) => this.#driverView(entry))),
      counts: catalog.counts(),
      targets: catalog.targets(),
      trashKeepMs: config.trashKeepMs,
    }
  }

  doctor(): Promise<Finding[]> {
    return examine(this.#core, this.#docker)
  }

  async metrics(): Promise<string> {
    // Most nodes are never asked.
    const { metricsOf } = await import('./metrics.ts')
    return metricsOf(this.#core, this.#descriptions)
  }

  async #driverView({ driver, state, error }: ReturnType<Core['drivers']['all']>[number]): Promise<DriverView> {
    const base = {
      name: driver.name,
      scope: driver.scope,
      volumes: this.#core.catalog.volumesOfDriver(driver.name).length,
      capabilities: capabilitiesOf(driver),
    }
    const unknown = { facts: {}, storage: null }
    if (state !== 'ready') return { ...base, ...unknown, state, ...(error && { error: error.message }) }
    try {
      const { facts, storage } = await this.#descriptions.of(driver)
      return { ...base, state, facts, storage }
    } catch (failure) {
      return { ...base, ...unknown, state, error: toAppError(failure).message }
    }
  }
}

/** In the order in which they are shown. */
export const capabilityNames = ['snapshots', 'clone', 'revert', 'resize', 'trim', 'trash'] as const

/** A capability that is present is supported: there is no second list. */
export function capabilitiesOf(driver: Driver): string[] {
  return capabilityNames.filter((name) => driver[name] !== undefined)
}
