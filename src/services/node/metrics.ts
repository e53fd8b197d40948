/**
 * This node in numbers, for Prometheus. Reads the catalog and what drivers say of their storage; walks no data, and waits two seconds for a driver at
 * most. Times are moments (`…_timestamp_seconds`): how long ago something was, is for who asks.
 */

import { Counter, Gauge, Registry } from 'prom-client'
import type { DriverDescription } from '../../driver.ts'
import type { Core } from '../core.ts'
import { scheduleView } from '../schedules/schedule-view.ts'
import type { Descriptions } from './descriptions.ts'

const describeDeadlineMs = 2_000

type Labels = Readonly<Record<string, string>>

/** One number; those of a name have the same labels. */
interface Sample {
  readonly labels: Labels
  readonly value: number
}

/** A page of numbers that is made once; a name without samples is not on it. */
class Page {
  readonly #registry = new Registry()

  gauge(name: string, help: string, samples: readonly Sample[]): void {
    const gauge = new Gauge({ name, help, ...this.#about(samples) })
    for (const { labels, value } of samples) gauge.set(labels, value)
  }

  counter(name: string, help: string, samples: readonly Sample[]): void {
    const counter = new Counter({ name, help, ...this.#about(samples) })
    for (const { labels, value } of samples) counter.inc(labels, value)
  }

  text(): Promise<string> {
    return this.#registry.metrics()
  }

  #about([first]: readonly Sample[]) {
    return { labelNames: Object.keys(first?.labels ?? {}), registers: first ? [this.#registry] : [] }
  }
}

/** In Prometheus' text format. */
export async function metricsOf(core: Core, descriptions: Descriptions): Promise<string> {
  const page = new Page()
  addVolumes(page, core)
  addOperations(page, core)
  addSchedules(page, core)
  addBackups(page, core)
  await addDrivers(page, core, descriptions)
  return page.text()
}

const one = (value: number): Sample[] => [{ labels: {}, value }]

function addVolumes(page: Page, { catalog, drivers, operations }: Core): void {
  const { mounted, snapshots, trash } = catalog.counts()
  const byDriver = Map.groupBy(catalog.volumes(), ({ driver }) => driver)
  const names = new Set([...drivers.all().map(({ driver }) => driver.name), ...byDriver.keys()])
  const volumes = [...names].map((driver) => ({ labels: { driver }, value: byDriver.get(driver)?.length ?? 0 }))
  page.gauge('holdfast_start_time_seconds', 'When the daemon was started', one(operations.startedMs / 1000))
  page.gauge('holdfast_volumes', 'Volumes, without those in the trash', volumes)
  page.gauge('holdfast_volumes_mounted', 'Volumes that a container or a command holds', one(mounted))
  page.gauge('holdfast_snapshots', 'Snapshots, those of volumes in the trash too', one(snapshots))
  page.gauge('holdfast_trash_volumes', 'Volumes in the trash', one(trash))
}

function addOperations(page: Page, { catalog, operations }: Core): void {
  const running = Map.groupBy(catalog.runningOperations(), ({ kind }) => kind)
  const samples = [...running].map(([kind, ofKind]) => ({ labels: { kind }, value: ofKind.length }))
  page.gauge('holdfast_operations_running', 'Operations that run, or wait to be recovered', samples)
  const ended = operations.ended().map(({ count, ...labels }) => ({ labels, value: count }))
  page.counter('holdfast_operations_total', 'Operations that have ended since the daemon was started', ended)
}

function addSchedules(page: Page, core: Core): void {
  const views = core.catalog.schedules().map((schedule) => scheduleView(core, schedule, false))
  const labelsOf = ({ name, volume }: (typeof views)[number]): Labels => ({ schedule: name, volume })
  const failures = views.map((view) => ({ labels: labelsOf(view), value: view.failures }))
  const active = views.map((view) => ({ labels: labelsOf(view), value: view.nextRunAt === null ? 0 : 1 }))
  const successes = views.flatMap((view) =>
    view.lastSuccessAt === null ? [] : [{ labels: labelsOf(view), value: secondsOf(view.lastSuccessAt) }],
  )
  page.gauge('holdfast_schedule_active', '0 while it is paused, or its volume is in the trash', active)
  page.gauge('holdfast_schedule_failures', 'Failed runs since the last success', failures)
  page.gauge('holdfast_schedule_last_success_timestamp_seconds', 'When it last succeeded', successes)
}

/** Of each volume in each repository, by the name of its target where it has one. */
function addBackups(page: Page, { catalog }: Core): void {
  const targets = new Map(catalog.targets().map(({ repositoryId, name }) => [repositoryId, name]))
  const names = new Map(catalog.volumes().map(({ id, name }) => [id, name]))
  const samples = catalog.allLastBackups().flatMap(({ volumeId, repositoryId, url, createdAt }) => {
    const volume = names.get(volumeId)
    const target = targets.get(repositoryId) ?? url.slice(0, url.lastIndexOf('?'))
    return volume === undefined ? [] : [{ labels: { volume, target }, value: secondsOf(createdAt) }]
  })
  page.gauge('holdfast_last_backup_timestamp_seconds', 'Of what moment the newest backup is', samples)
}

async function addDrivers(page: Page, { drivers }: Core, descriptions: Descriptions): Promise<void> {
  const asked = drivers.all().map(async ({ driver, state }) => {
    const found = state === 'ready' ? descriptions.of(driver, describeDeadlineMs) : undefined
    return { driver: driver.name, found: await found?.catch(() => undefined) }
  })
  const all = await Promise.all(asked)
  const up = all.map(({ driver, found }) => ({ labels: { driver }, value: found ? 1 : 0 }))
  page.gauge('holdfast_driver_up', 'Whether the driver is ready, and its storage answers', up)
  const gauges = all.flatMap(({ driver, found }) => (found ? numbersOf(driver, found) : []))
  for (const [name, ofOne] of Map.groupBy(gauges, (gauge) => gauge.name)) {
    page.gauge(`holdfast_driver_${name}`, helps[name] ?? 'As the driver says', ofOne)
  }
}

const helps: Readonly<Record<string, string>> = {
  storage_size_bytes: 'Size of the storage as a whole',
  storage_free_bytes: 'What of it is free',
}

function numbersOf(driver: string, { storage, gauges = {} }: DriverDescription): (Sample & { name: string })[] {
  const room = storage ? { storage_size_bytes: storage.size, storage_free_bytes: storage.free } : {}
  return Object.entries({ ...gauges, ...room }).map(([name, value]) => ({ name, labels: { driver }, value }))
}

function secondsOf(time: string): number {
  return Date.parse(time) / 1000
}
