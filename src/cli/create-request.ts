/** What `holdfast volume create` asks for: its flags and `-o` say the same things, together what Docker's `-o` alone says. */

import { AppError } from '../errors.ts'
import { addCreateOption, parseCreateOptions, parseUpdateOptions } from '../server/create-options.ts'
import type { CreateVolumeRequest, NewVolume, UpdateVolumeRequest } from '../server/schemas.ts'
import { parseLabels, parsePair } from './pairs.ts'

interface CreateOptions {
  readonly driver?: string
  readonly size?: string
  readonly option?: readonly string[]
  readonly opt?: readonly string[]
  readonly label?: readonly string[]
  readonly 'from-snapshot'?: string
  readonly 'from-backup'?: string
}

/** Of a volume that begins as a backup. @throws INVALID_ARGUMENT for an option given twice, and for what says how else it begins */
export function restoredRequest(options: CreateOptions): NewVolume {
  const { name, fromSnapshot, fromBackup, target, labels, options: own, ...request } = createRequest('', options)
  if (fromSnapshot !== undefined || fromBackup !== undefined || target !== undefined) {
    throw new AppError('INVALID_ARGUMENT', 'a restore begins as the backup that is named; leave from-… and target out')
  }
  return { ...request, ...pairs('labels', labels), ...pairs('options', own) }
}

/** Nothing where there is none. */
function pairs(key: 'labels' | 'options', map: Readonly<Record<string, string>> = {}): NewVolume {
  return Object.keys(map).length > 0 ? { [key]: map } : {}
}

/** @throws INVALID_ARGUMENT for an option given twice with other values */
export function createRequest(
  name: string,
  { option = [], opt = [], label, ...flags }: CreateOptions,
): CreateVolumeRequest {
  const opts = new Map<string, string>()
  for (const key of ['driver', 'size', 'from-snapshot', 'from-backup'] as const) {
    const value = flags[key]
    if (value !== undefined) addCreateOption(opts, key, value)
  }
  for (const [key, value] of Object.entries(parseLabels(label))) addCreateOption(opts, `label.${key}`, value)
  for (const text of [...option, ...opt]) addCreateOption(opts, ...parsePair('-o', text))
  return parseCreateOptions(name, Object.fromEntries(opts))
}

/** What `holdfast volume update` asks for. @throws INVALID_ARGUMENT for an option given twice, or one that cannot be changed */
export function updateRequest(name: string, option: readonly string[]): UpdateVolumeRequest {
  const opts = new Map<string, string>()
  for (const text of option) addCreateOption(opts, ...parsePair('-o', text))
  return parseUpdateOptions(name, Object.fromEntries(opts))
}
