/** What `holdfast volume create` asks for: its flags and `-o` say the same things, together what Docker's `-o` alone says. */

import { addCreateOption, parseCreateOptions } from '../server/create-options.ts'
import type { CreateVolumeRequest } from '../server/schemas.ts'
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
