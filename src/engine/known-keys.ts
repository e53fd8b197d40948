/**
 * The keys of encrypted repositories that jobs have found, so that the next ones need not compute them from the
 * passphrase again (a third of a second). In memory only. A key is forgotten when its passphrase file changes.
 */

import { stat } from 'node:fs/promises'
import type { KnownKey } from '../repository/repository.ts'
import type { Place } from './place.ts'

/**
 * Names a place and the state of its passphrase file; undefined when it has none that can be read: then the job says
 * what is wrong.
 */
export type KeySlot = { readonly place: string; readonly stamp: string } | undefined

export class KnownKeys {
  readonly #keys = new Map<string, { readonly stamp: string; readonly key: KnownKey }>()

  /** Look before the job reads the file: a key is then never kept for a passphrase that came later. */
  async slot({ url, endpoint, passphraseFile }: Place): Promise<KeySlot> {
    if (passphraseFile === undefined) return undefined
    const found = await stat(passphraseFile, { bigint: true }).catch(() => undefined)
    if (!found) return undefined
    const { dev, ino, size, mtimeNs, ctimeNs } = found
    return { place: JSON.stringify([url, endpoint, passphraseFile]), stamp: [dev, ino, size, mtimeNs, ctimeNs].join() }
  }

  find(slot: KeySlot): KnownKey | null {
    const known = slot && this.#keys.get(slot.place)
    return known && known.stamp === slot.stamp ? known.key : null
  }

  keep(slot: KeySlot, key: KnownKey): void {
    if (slot) this.#keys.set(slot.place, { stamp: slot.stamp, key })
  }

  clear(): void {
    for (const { key } of this.#keys.values()) key.masterKey.fill(0)
    this.#keys.clear()
  }
}
