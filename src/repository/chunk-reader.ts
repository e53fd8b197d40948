/** A worker's way back: from ids to contents. Chunks that lie together are fetched together, and some fetches ahead. */

import { AppError } from '../errors.ts'
import { release } from '../system/release.ts'
import type { Bridge } from './bridge.ts'
import { encodeEntry } from './chunk-entry.ts'
import type { ChunkPlace, ChunkTable } from './chunk-table.ts'
import { decompress } from './compression.ts'
import { indexedPacks } from './known-chunks.ts'
import { objectName } from './layout.ts'
import type { PackSeal, Seal } from './seal.ts'
import type { Allocate } from './zstd-frames.ts'

/** Longest fetch, and the most that is fetched ahead. */
const mostBytes = 8 * 2 ** 20
const mostAhead = 8
/** A gap that is read along, rather than fetching twice. */
const smallGap = 64 * 1024

interface Fetch {
  readonly pack: number
  readonly start: number
  end: number
  readonly places: ChunkPlace[]
  /** Null when its pack is gone. */
  bytes: Uint8Array | null | undefined
}

/** Reading throws ABORTED when a prune removed what was to be read, CORRUPT when it is lost or damaged. */
export class ChunkReader {
  readonly #bridge: Bridge
  readonly #seal: Seal
  readonly #table: ChunkTable
  /** Seals of the packs read last. */
  readonly #seals = new Map<number, PackSeal>()

  constructor(bridge: Bridge, seal: Seal, table: ChunkTable) {
    this.#bridge = bridge
    this.#seal = seal
    this.#table = table
  }

  /** @throws CORRUPT when no index knows the chunk, or it is damaged */
  read(id: Buffer): Uint8Array {
    for (const content of this.readAll([id])) return content
    throw missing(id)
  }

  /** Where the chunk is. @throws CORRUPT when no index knows it */
  place(id: Buffer): ChunkPlace {
    const place = this.#table.locate(id)
    if (!place) throw missing(id)
    return place
  }

  /** The contents of `ids`, in their order. */
  *readAll(ids: Iterable<Buffer>): Generator<Uint8Array> {
    for (const { content } of this.readPlaces(mapped(ids, (id) => this.place(id)))) yield content
  }

  /** The contents of `places`, in their order: best sorted by pack and offset. @param allocate gives the memory of those that were compressed */
  *readPlaces(
    places: Iterable<ChunkPlace>,
    allocate?: Allocate,
  ): Generator<{ place: ChunkPlace; content: Uint8Array }> {
    const ahead: Fetch[] = []
    let bytesAhead = 0
    for (const fetch of coalesced(places)) {
      this.#begin(fetch)
      ahead.push(fetch)
      bytesAhead += fetch.end - fetch.start
      while (ahead.length >= mostAhead || bytesAhead > mostBytes) {
        const first = ahead.shift()
        if (!first) break
        bytesAhead -= first.end - first.start
        yield* this.#finish(first, allocate)
      }
    }
    for (const fetch of ahead) yield* this.#finish(fetch, allocate)
  }

  #begin(fetch: Fetch): void {
    const key = objectName('packs', this.#table.packId(fetch.pack))
    this.#bridge.post('getIfThere', { key, start: fetch.start, end: fetch.end }, (bytes) => {
      fetch.bytes = bytes
    })
  }

  *#finish(fetch: Fetch, allocate?: Allocate): Generator<{ place: ChunkPlace; content: Uint8Array }> {
    this.#bridge.pumpUntil(() => fetch.bytes !== undefined)
    const bytes = fetch.bytes
    if (!bytes) throw this.#gone(fetch.pack)
    for (const place of fetch.places) {
      const at = bytes.byteOffset + place.offset - fetch.start
      yield { place, content: this.open(place, Buffer.from(bytes.buffer, at, place.stored), allocate) }
    }
    fetch.bytes = undefined
    // Without encryption a content may be a part of it.
    if (this.#seal.encrypted) release(bytes)
  }

  /** A prune deletes the indexes that name a pack before the pack: what they say now tells a swept pack from a lost one. */
  #gone(pack: number): AppError {
    const id = this.#table.packId(pack)
    for (const indexed of indexedPacks({ bridge: this.#bridge, seal: this.#seal })) {
      if (indexed.id !== id) continue
      return new AppError('CORRUPT', `${objectName('packs', id)} is lost; run verify to learn what it touches`)
    }
    return new AppError('ABORTED', `${objectName('packs', id)} was removed by a prune while it was in use; try again`)
  }

  /** The content of a chunk from its stored form. @throws CORRUPT */
  open(place: ChunkPlace, stored: Buffer, allocate?: Allocate): Uint8Array {
    const opened = this.#sealOf(place.pack).openChunk(place.offset, encodeEntry(place), stored)
    const what = `chunk ${place.id.toString('hex')}`
    const content = decompress(place.method, opened, place.length, what, allocate)
    if (this.#seal.encrypted && content !== opened) release(opened)
    // With encryption the seal has authenticated both content and id.
    if (!this.#seal.encrypted && !this.#seal.chunkId(content).equals(place.id)) {
      throw new AppError('CORRUPT', `${what} is corrupt: its content does not match its id; run verify`)
    }
    return content
  }

  #sealOf(pack: number): PackSeal {
    const known = this.#seals.get(pack)
    if (known) return known
    if (this.#seals.size >= 64) this.#seals.clear()
    const made = this.#seal.forPack(objectName('packs', this.#table.packId(pack)))
    this.#seals.set(pack, made)
    return made
  }
}

function* coalesced(places: Iterable<ChunkPlace>): Generator<Fetch> {
  let current: Fetch | undefined
  for (const place of places) {
    const end = place.offset + place.stored
    const joins =
      current !== undefined &&
      current.pack === place.pack &&
      place.offset >= current.end &&
      place.offset - current.end <= smallGap &&
      end - current.start <= mostBytes / 2
    if (current && joins) {
      current.end = end
      current.places.push(place)
      continue
    }
    if (current) yield current
    current = { pack: place.pack, start: place.offset, end, places: [place], bytes: undefined }
  }
  if (current) yield current
}

function* mapped<A, B>(items: Iterable<A>, map: (item: A) => B): Generator<B> {
  for (const item of items) yield map(item)
}

function missing(id: Buffer): AppError {
  return new AppError(
    'CORRUPT',
    `chunk ${id.toString('hex')} is missing from the repository; run verify to learn what it touches`,
  )
}
