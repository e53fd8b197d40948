/**
 * From what a user typed to what will be made: parses and checks a create request against the drivers, and compares it with a
 * volume that is there already. Changes nothing.
 */

import { randomUUID } from 'node:crypto'
import type { Driver } from '../../driver.ts'
import { AppError } from '../../errors.ts'
import type { Bytes, Hooks, OnRemove, Volume } from '../../model.ts'
import { formatDuration, formatSize, parseSize, parseSnapshotRef, parseVolumeName, suggestion } from '../../units.ts'
import { now } from '../now.ts'
import { parseHooks } from '../snapshots/hook-command.ts'
import type { CreateVolumeRequest } from './contract.ts'

/** A checked request. What was not asked for is undefined, so that it never differs from an existing volume. */
export interface CreatePlan {
  readonly name: string
  readonly driver: string
  readonly driverAsked: boolean
  readonly size: Bytes | undefined
  readonly onRemove: OnRemove | undefined
  readonly source: { readonly volume: string; readonly snapshot: string } | undefined
  /** A BACKUP, and the target whose access opens it, when that was named. */
  readonly backup: { readonly ref: string; readonly target: string | undefined } | undefined
  readonly hooks: Hooks
  readonly labels: Readonly<Record<string, string>>
  readonly options: Readonly<Record<string, string>>
}

const onRemoveValues: readonly OnRemove[] = ['trash', 'delete', 'retain']

/**
 * @param driverFor the driver of that name @param defaultDriver when neither driver nor snapshot is named
 * @param driverOfVolume whose snapshots its driver alone can clone
 * @throws INVALID_ARGUMENT, with the nearest known key for an unknown option; NOT_FOUND for the snapshot's volume
 */
export function planCreate(
  request: CreateVolumeRequest,
  defaultDriver: string,
  driverFor: (name: string) => Driver,
  driverOfVolume: (name: string) => string,
): CreatePlan {
  const name = parseVolumeName(request.name)
  const source = request.fromSnapshot === undefined ? undefined : parseSnapshotRef(request.fromSnapshot)
  const driver = request.driver ?? (source ? driverOfVolume(source.volume) : defaultDriver)
  const options = request.options ?? {}
  const hooks = parseHooks(request)
  checkOptions(name, driverFor(driver), options)
  checkLength(name, options, request.labels ?? {}, hooks)
  return {
    name,
    driver,
    driverAsked: request.driver !== undefined,
    size: request.size === undefined ? undefined : parseSize(request.size),
    onRemove: parseOnRemove(request.onRemove),
    source,
    backup: parseBackupSource(name, request),
    hooks,
    labels: request.labels ?? {},
    options,
  }
}

/** @throws INVALID_ARGUMENT */
function parseBackupSource(name: string, request: CreateVolumeRequest): CreatePlan['backup'] {
  const { fromBackup, fromSnapshot, target } = request
  const fail = (fact: string): never => {
    throw new AppError('INVALID_ARGUMENT', `volume ${name}: ${fact}`)
  }
  if (fromBackup === undefined) return target === undefined ? undefined : fail('target is given, but no from-backup')
  if (fromSnapshot !== undefined) return fail('from-backup and from-snapshot are both given; give one of them')
  if (fromBackup.includes('/')) return { ref: fromBackup, target }
  return target === undefined
    ? fail(
        `from-backup=${fromBackup} does not say where; name it as TARGET/VOLUME@latest, TARGET/ID or URL?backup=ID, or give target`,
      )
    : { ref: `${target}/${fromBackup}`, target }
}

const hookKeys = ['pre-snapshot', 'post-snapshot', 'hook-container', 'hook-timeout']
const universalKeys = [
  'driver',
  'size',
  'on-remove',
  'from-snapshot',
  'from-backup',
  'target',
  'label.KEY',
  ...hookKeys,
]

function checkOptions(name: string, driver: Driver, options: Readonly<Record<string, string>>): void {
  for (const key of Object.keys(options)) {
    if (Object.hasOwn(driver.volumeOptions, key)) continue
    const known = [...Object.keys(driver.volumeOptions), ...universalKeys]
    throw new AppError(
      'INVALID_ARGUMENT',
      `volume ${name}: driver ${driver.name} has no option '${key}'${suggestion(key, known)}`,
    )
  }
}

/** Every list of volumes carries them, and Docker waits for that. */
const longestOptions = 64 * 2 ** 10

/** @throws INVALID_ARGUMENT when what a user says of a volume is too long */
export function checkLength(
  name: string,
  options: Readonly<Record<string, string>>,
  labels: Readonly<Record<string, string>>,
  { pre = '', post = '' }: Hooks,
): void {
  const words = Object.entries({ ...options, ...labels, 'pre-snapshot': pre, 'post-snapshot': post })
  const length = words.reduce((sum, [key, value]) => sum + key.length + value.length, 0)
  if (length <= longestOptions) return
  throw new AppError(
    'INVALID_ARGUMENT',
    `volume ${name}: its options and labels are ${length} characters long; ${longestOptions} is the limit`,
  )
}

function parseOnRemove(text: string | undefined): OnRemove | undefined {
  if (text === undefined) return undefined
  const value = onRemoveValues.find((known) => known === text)
  if (value) return value
  throw new AppError('INVALID_ARGUMENT', `on-remove '${text}' is not one of ${onRemoveValues.join(', ')}`)
}

/** The volume that a plan makes, before anything is made. @param size when none was asked for */
export function draftVolume(plan: CreatePlan, size: Bytes | null = null): Volume {
  return {
    id: randomUUID(),
    name: plan.name,
    driver: plan.driver,
    size: plan.size ?? size,
    options: plan.options,
    labels: plan.labels,
    onRemove: plan.onRemove ?? ('adopt' in plan.options ? 'retain' : 'trash'),
    origin: originOf(plan),
    hooks: plan.hooks,
    state: null,
    createdAt: now(),
  }
}

/** `VOLUME@SNAPSHOT`, or null for a volume that begins empty. */
export function originOf(plan: CreatePlan): string | null {
  return plan.source ? `${plan.source.volume}@${plan.source.snapshot}` : null
}

/** In bytes where rounding would hide a difference. */
function shownSize<T extends undefined | null>(size: Bytes | T): string | T {
  if (typeof size !== 'number') return size
  const short = formatSize(size)
  return parseSize(short) === size ? short : `${size} bytes`
}

function shownTime(ms: number | undefined): string | undefined {
  return ms === undefined ? undefined : formatDuration(ms)
}

/** What was asked for and is not so in the existing volume, one sentence part each; empty when the request is satisfied. */
export function differences(plan: CreatePlan, volume: Volume): string[] {
  const found: string[] = []
  const compare = (what: string, wanted: unknown, is: unknown): void => {
    if (wanted !== undefined && wanted !== is) found.push(`${what} is ${is ?? 'not set'}, asked for ${wanted}`)
  }
  if (plan.driverAsked) compare('driver', plan.driver, volume.driver)
  compare('size', shownSize(plan.size), shownSize(volume.size))
  compare('on-remove', plan.onRemove, volume.onRemove)
  compare('from-snapshot', originOf(plan) ?? undefined, volume.origin)
  compare('pre-snapshot', plan.hooks.pre, volume.hooks.pre)
  compare('post-snapshot', plan.hooks.post, volume.hooks.post)
  compare('hook-container', plan.hooks.container, volume.hooks.container)
  compare('hook-timeout', shownTime(plan.hooks.timeoutMs), shownTime(volume.hooks.timeoutMs))
  for (const [key, value] of Object.entries(plan.options)) compare(key, value, volume.options[key])
  for (const [key, value] of Object.entries(plan.labels)) compare(`label ${key}`, value, volume.labels[key])
  return found
}
