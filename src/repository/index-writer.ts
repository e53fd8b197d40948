/** Writes indexes of packs that have become durable: often enough that a crash of a long backup loses little. Runs in workers. */

import type { Bytes } from '../model.ts'
import type { Bridge } from './bridge.ts'
import { entryLength } from './chunk-entry.ts'
import { encodeIndex, type IndexedPack } from './index-object.ts'
import { newId, objectName } from './layout.ts'
import type { Seal } from './seal.ts'

const mostEntries = 50_000
const mostTimeMs = 10 * 60_000

export class IndexWriter {
  readonly #bridge: Bridge
  readonly #seal: Seal
  #packs: IndexedPack[] = []
  #entries = 0
  #since = Date.now()
  /** Bytes of all packs added. */
  added: Bytes = 0

  constructor(bridge: Bridge, seal: Seal) {
    this.#bridge = bridge
    this.#seal = seal
  }

  add(packs: readonly IndexedPack[]): void {
    for (const pack of packs) {
      this.#packs.push(pack)
      this.#entries += pack.directory.length / entryLength
      this.added += pack.size
    }
    if (this.#entries >= mostEntries || (this.#entries > 0 && Date.now() - this.#since > mostTimeMs)) this.flush()
  }

  /** Returns when all packs added are indexed durably. */
  flush(): void {
    this.#since = Date.now()
    if (this.#packs.length === 0) return
    const name = objectName('indexes', newId('indexes'))
    const bytes = new Uint8Array(this.#seal.sealObject('I', name, encodeIndex(this.#packs)))
    this.#packs = []
    this.#entries = 0
    this.#bridge.call('put', { key: name, bytes }, [bytes.buffer])
  }
}
