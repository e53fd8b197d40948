/**
 * Which packs the store lists, and their sizes: what tells a writer that a pack of an index is still there. Asked for ahead, so that it costs
 * little time beside the reading of indexes. A listing may lag: that a pack is not in it proves nothing. Runs in workers.
 */

import type { Bridge, ListedObject } from './bridge.ts'
import type { IndexedPack } from './index-object.ts'
import { folders, idOf } from './layout.ts'

/** Objects in one page of a listing. */
export const pageLength = 1000
/** Many packs are listed in parts, at once: their names are random. */
const parts = '0123456789abcdef'

export class PackListing {
  readonly #bridge: Bridge
  readonly #sizes = new Map<string, number>()
  #outstanding = 0

  /** Begins to list. */
  constructor(bridge: Bridge) {
    this.#bridge = bridge
    this.#ask(folders.packs, null, (page) => {
      if (page.length < pageLength) return
      for (const part of parts) this.#askAll(folders.packs + part, null)
    })
  }

  #askAll(prefix: string, after: string | null): void {
    this.#ask(prefix, after, (page) => {
      const last = page.at(-1)
      if (last && page.length === pageLength) this.#askAll(prefix, last.key)
    })
  }

  #ask(prefix: string, after: string | null, then: (page: readonly ListedObject[]) => void): void {
    this.#outstanding++
    this.#bridge.post('list', { prefix, after }, (page) => {
      this.#outstanding--
      for (const { key, size } of page) this.#sizes.set(idOf('packs', key) ?? '', size)
      then(page)
    })
  }

  /** Waits for the whole listing. @returns whether it shows the pack, as long as its index says */
  shows({ id, size }: IndexedPack): boolean {
    if (this.#outstanding > 0) this.#bridge.pumpUntil(() => this.#outstanding === 0)
    return this.#sizes.get(id) === size
  }
}
