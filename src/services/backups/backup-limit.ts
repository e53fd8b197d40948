/** The limit of a volume, which goes with its backups as a label: the volume that is restored gets it again. */

import type { Bytes } from '../../model.ts'

/** In bytes. */
const limitLabel = 'holdfast.size'

type Labels = Readonly<Record<string, string>>

/** The labels of a backup of a volume with that limit. */
export function withLimit(labels: Labels, size: Bytes | null): Labels {
  return size === null ? labels : { ...labels, [limitLabel]: String(size) }
}

/** Null where there is none: anybody who can write to the repository may have written the label. */
export function limitOf({ labels }: { readonly labels: Labels }): Bytes | null {
  const text = labels[limitLabel] ?? ''
  const size = /^[1-9]\d*$/.test(text) ? Number(text) : Number.NaN
  return Number.isSafeInteger(size) ? size : null
}
