/**
 * A worker's way for a chunk: id, claim, compress, seal, pack, store. One pack of a worker is on its way to the store while
 * the next is filled: more would take more memory than they save time.
 */

import type { Bridge } from './bridge.ts'
import type { ChunkKind } from './chunk-entry.ts'
import type { ChunkTable } from './chunk-table.ts'
import { compress } from './compression.ts'
import type { IndexedPack } from './index-object.ts'
import { PackBuilder, packMemory } from './pack.ts'
import type { Seal } from './seal.ts'

const mostOnTheWay = 1

export class ChunkWriter {
  readonly #bridge: Bridge
  readonly #seal: Seal
  readonly #table: ChunkTable
  #pack: PackBuilder | undefined
  /** Of packs that were stored: taking 8 MiB anew each time costs more than filling them. */
  readonly #memory: SharedArrayBuffer[] = []
  #onTheWay = 0
  #stored: IndexedPack[] = []

  constructor(bridge: Bridge, seal: Seal, table: ChunkTable) {
    this.#bridge = bridge
    this.#seal = seal
    this.#table = table
  }

  /** Stores the content unless it is known. @returns its id, 32 bytes */
  put(kind: ChunkKind, content: Uint8Array): Buffer {
    const id = this.#seal.chunkId(content)
    if (!this.#table.claim(id)) return id
    const { method, bytes } = compress(content)
    this.add({ id, length: content.length, method, kind }, bytes)
    return id
  }

  /** Stores a chunk that is compressed already and must be stored in any case. */
  add(chunk: { id: Buffer; length: number; method: number; kind: number }, bytes: Uint8Array): void {
    const stored = bytes.length + this.#seal.chunkOverhead
    if (this.#pack && !this.#pack.fits(stored)) this.#close()
    this.#pack ??= new PackBuilder(this.#seal, this.#memory.pop())
    this.#pack.add({ ...chunk, stored }, bytes)
  }

  #close(): void {
    if (!this.#pack) return
    const { id, name, bytes, directory } = this.#pack.finish()
    this.#pack = undefined
    this.#bridge.pumpUntil(() => this.#onTheWay < mostOnTheWay)
    this.#onTheWay++
    const size = bytes.length
    const arrived = () => {
      this.#onTheWay--
      if (bytes.buffer.byteLength === packMemory) this.#memory.push(bytes.buffer)
      this.#stored.push({ id, size, directory })
    }
    this.#bridge.post('put', { key: name, bytes }, arrived)
  }

  /** Stores what is left and waits until everything is durable. */
  flush(): void {
    this.#close()
    this.#bridge.pumpUntil(() => this.#onTheWay === 0)
  }

  /** Packs that have become durable since the last call: what an index may now name. */
  takeStored(): IndexedPack[] {
    const stored = this.#stored
    this.#stored = []
    return stored
  }
}
