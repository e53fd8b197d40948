/**
 * What `docker volume create -o` and `holdfast volume create -o` mean: the keys that every volume knows, apart from the
 * driver's own. Values are not looked at and unknown keys are passed on: the service knows the driver and its options.
 */

import { AppError } from '../errors.ts'
import type { CreateVolumeRequest, UpdateVolumeRequest } from '../services/volumes/contract.ts'
import { suggestion } from '../units.ts'

const labelPrefix = 'label.'

const fields: Readonly<Record<string, Exclude<keyof CreateVolumeRequest, 'name' | 'labels' | 'options'>>> = {
  driver: 'driver',
  size: 'size',
  'on-remove': 'onRemove',
  'from-snapshot': 'fromSnapshot',
  'from-backup': 'fromBackup',
  target: 'target',
  'pre-snapshot': 'preSnapshot',
  'post-snapshot': 'postSnapshot',
  'hook-container': 'hookContainer',
  'hook-timeout': 'hookTimeout',
}

/** Of those the ones that `holdfast volume update` changes. */
export const changeableOptions = ['pre-snapshot', 'post-snapshot', 'hook-container', 'hook-timeout'] as const

/**
 * Reads the options of an update.
 * @throws INVALID_ARGUMENT for one that a volume keeps as it was made
 */
export function parseUpdateOptions(name: string, opts: Readonly<Record<string, string>>): UpdateVolumeRequest {
  const read = ([key, value]: [string, string]): [string | undefined, string] => {
    if ((changeableOptions as readonly string[]).includes(key)) return [fields[key], value]
    const hint = suggestion(key, changeableOptions)
    throw new AppError('INVALID_ARGUMENT', `option '${key}' of volume ${name} cannot be changed${hint}`)
  }
  return Object.fromEntries(Object.entries(opts).map(read))
}

/**
 * Sorts options as they were typed into a request.
 * @throws INVALID_ARGUMENT for a label without a key
 */
export function parseCreateOptions(name: string, opts: Readonly<Record<string, string>>): CreateVolumeRequest {
  const known: [string, string][] = []
  const labels: [string, string][] = []
  const options: [string, string][] = []
  for (const [key, value] of Object.entries(opts)) {
    const field = Object.hasOwn(fields, key) ? fields[key] : undefined
    if (field !== undefined) known.push([field, value])
    else if (key.startsWith(labelPrefix)) labels.push([labelKey(name, key), value])
    else options.push([key, value])
  }
  return {
    name,
    ...Object.fromEntries(known),
    labels: Object.fromEntries(labels),
    options: Object.fromEntries(options),
  }
}

function labelKey(name: string, key: string): string {
  if (key.length > labelPrefix.length) return key.slice(labelPrefix.length)
  throw new AppError('INVALID_ARGUMENT', `option 'label.' of volume ${name} has no key; write label.KEY=VALUE`)
}

/**
 * Adds one option as it was typed; the same value again changes nothing.
 * @throws INVALID_ARGUMENT when the option was given before with another value
 */
export function addCreateOption(opts: Map<string, string>, key: string, value: string): void {
  const before = opts.get(key)
  if (before !== undefined && before !== value) {
    throw new AppError(
      'INVALID_ARGUMENT',
      `option '${key}' is given twice, as '${before}' and as '${value}'; give it once`,
    )
  }
  opts.set(key, value)
}
