/** The names of a repository's objects (FORMAT.md 2). Knows nothing of their content. */

import { randomBytes } from 'node:crypto'

export const configName = 'config'

/** Prefixes for listings. */
export const folders = {
  keys: 'keys/',
  packs: 'packs/',
  indexes: 'indexes/',
  manifests: 'manifests/',
  condemned: 'condemned/',
  damaged: 'damaged/',
  leases: 'leases/',
} as const

export type Folder = keyof typeof folders

const patterns: Readonly<Record<Folder, RegExp>> = {
  keys: /^keys\/([0-9a-f]{16})$/,
  packs: /^packs\/[0-9a-f]{2}\/([0-9a-f]{64})$/,
  indexes: /^indexes\/([0-9a-f]{64})$/,
  manifests: /^manifests\/([0-9a-f]{32})$/,
  condemned: /^condemned\/([0-9a-f]{32})$/,
  damaged: /^damaged\/([0-9a-f]{32}\/[0-9a-f]{32})$/,
  leases: /^leases\/([0-9a-f]{32})$/,
}

const randomLength: Readonly<Record<Exclude<Folder, 'damaged'>, number>> = {
  keys: 8,
  packs: 32,
  indexes: 32,
  manifests: 16,
  condemned: 16,
  leases: 16,
}

/** A new random id for an object of `folder`, in hex. */
export function newId(folder: Exclude<Folder, 'damaged'>): string {
  return randomBytes(randomLength[folder]).toString('hex')
}

/** The object's full name. */
export function objectName(folder: Folder, id: string): string {
  return folder === 'packs' ? `packs/${id.slice(0, 2)}/${id}` : folders[folder] + id
}

/** The id in a full name, or undefined for what is no object of `folder`. */
export function idOf(folder: Folder, name: string): string | undefined {
  return patterns[folder].exec(name)?.[1]
}
