/** `volume ls --filter`: which volumes are shown. */

import type { VolumeFilter, VolumeView } from './contract.ts'

/** True when the volume passes every condition that is given. */
export function matches(volume: VolumeView, filter: VolumeFilter): boolean {
  if (filter.driver !== undefined && volume.driver !== filter.driver) return false
  if (filter.name !== undefined && !globPattern(filter.name).test(volume.name)) return false
  if (filter.dangling !== undefined && (volume.mounts.length === 0) !== filter.dangling) return false
  return (filter.labels ?? []).every((label) => hasLabel(volume, label))
}

function hasLabel(volume: VolumeView, label: string): boolean {
  const [key, value] = splitOnce(label)
  return Object.hasOwn(volume.labels, key) && (value === undefined || volume.labels[key] === value)
}

function splitOnce(text: string): [string, string | undefined] {
  const at = text.indexOf('=')
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)]
}

function globPattern(glob: string): RegExp {
  const source = glob
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.')
  return new RegExp(`^${source}$`)
}
