/**
 * What a volume's record says, and what vfs knows it by: the same but for paths. A record is every node's, so it has
 * none of this node's; vfs wants the absolute path of a directory that it did not make.
 */

import type { DriverState, Volume, VolumeSpec } from '../../src/model.ts'
import type { VfsState } from '../vfs/options.ts'

/** `Volume.state` of a volume on a share. */
export interface NfsState extends DriverState {
  readonly kind: VfsState['kind']
  readonly limit: VfsState['limit']
  readonly subdir: string | null
  readonly trashed: boolean
}

/** @param root where this node has the export mounted */
export function toVfsSpec<T extends VolumeSpec>(spec: T, root: string): T {
  const { uid, gid, mode, subdir } = spec.options
  const given = { uid, gid, mode, adopt: subdir === undefined ? undefined : `${root}/${subdir}` }
  const options = Object.fromEntries(
    Object.entries(given).flatMap(([key, value]) => (value === undefined ? [] : [[key, value]])),
  )
  return { ...spec, options }
}

export function toVfs(volume: Volume, root: string): Volume {
  const { state } = volume
  if (state === null) return toVfsSpec(volume, root)
  const { subdir, ...rest } = state
  return {
    ...toVfsSpec(volume, root),
    state: { ...rest, adopt: typeof subdir === 'string' ? `${root}/${subdir}` : null },
  }
}

export function fromVfs({ kind, limit, adopt, trashed }: VfsState, root: string): NfsState {
  return { kind, limit, subdir: adopt === null ? null : adopt.slice(root.length + 1), trashed }
}

/** Whether a volume is an image, or is to be one. */
export function isImage({ state, size }: Pick<Volume, 'state' | 'size'>): boolean {
  return state === null ? size !== null : state.kind === 'image'
}

/**
 * Whether one node at a time may mount a volume: because it was asked for, or because two would write over each other.
 */
export function isSingle(volume: Pick<Volume, 'state' | 'size' | 'options'>): boolean {
  return volume.options.access === 'single' || isImage(volume)
}
