/**
 * Which volume or snapshot has which number in the pool, and which volume has which name: in memory, from the records that the
 * driver is started with and from its own calls. Numbers are 24 bits wide; each volume and snapshot has a few that it may have,
 * which follow from its id, so that one that was made but not written down is found again.
 */

import { createHash } from 'node:crypto'
import { AppError } from '../../src/errors.ts'
import type { Snapshot, Volume } from '../../src/model.ts'
import type { SnapshotState, VolumeState } from './options.ts'

/** Low numbers are left to programs that count. */
const lowest = 2 ** 16

/** The numbers that the volume or snapshot of this id may have; after `generation` changes of it, others. Pure. */
export function candidates(id: string, generation = 0): number[] {
  const hash = createHash('sha256').update(`${id}/${generation}`).digest()
  const numbers = Array.from({ length: 10 }, (_, i) => hash.readUIntBE(i * 3, 3)).filter((number) => number >= lowest)
  return [...new Set(numbers)].slice(0, 4)
}

/** A snapshot that there is. */
export interface KnownSnapshot {
  readonly id: string
  readonly volumeId: string
  readonly name: string
  readonly state: SnapshotState
}

export class Registry {
  /** Number -> id of the volume or snapshot. */
  readonly #owners = new Map<number, string>()
  /** Volumes by id; those in the trash have no name. */
  readonly #volumes = new Map<string, { name: string | null; size: number; thin: number }>()
  readonly #snapshots = new Map<string, KnownSnapshot>()
  /** Ids of all volumes that this life has heard of. */
  readonly #seen = new Set<string>()

  constructor(volumes: readonly Volume[], snapshots: readonly Snapshot[]) {
    for (const volume of volumes) {
      this.#seen.add(volume.id)
      const state = volume.state as VolumeState | null
      if (state && Number.isInteger(state.thin)) this.putVolume(volume.id, state.trashed ? null : volume.name, state)
    }
    for (const { id, volumeId, name, state } of snapshots) {
      if (state && Number.isInteger(state.thin)) this.putSnapshot({ id, volumeId, name, state: state as SnapshotState })
    }
  }

  /** Whose number this is, as far as records say. */
  ownerOf(thin: number): string | undefined {
    return this.#owners.get(thin)
  }

  /** Whether this life has heard of a volume of this id. */
  hasSeen(volumeId: string): boolean {
    return this.#seen.has(volumeId)
  }

  hasVolume(id: string): boolean {
    return this.#volumes.has(id)
  }

  /** @throws ALREADY_EXISTS when another volume has the name */
  ensureNameFree({ id, name }: { readonly id: string; readonly name: string }): void {
    for (const [other, volume] of this.#volumes) {
      if (volume.name !== name || other === id) continue
      throw new AppError(
        'ALREADY_EXISTS',
        `volume ${name} has the data of another volume at its place; choose another name`,
      )
    }
  }

  /** A number stands for the volume that is being made with it; none of it is known to be complete. */
  claim(thin: number, id: string): void {
    this.#owners.set(thin, id)
  }

  release(thin: number): void {
    this.#owners.delete(thin)
  }

  putVolume(id: string, name: string | null, state: VolumeState): void {
    const before = this.#volumes.get(id)
    if (before && before.thin !== state.thin && this.#owners.get(before.thin) === id) this.#owners.delete(before.thin)
    this.#seen.add(id)
    this.#owners.set(state.thin, id)
    this.#volumes.set(id, { name, size: state.size, thin: state.thin })
  }

  dropVolume(id: string): void {
    const volume = this.#volumes.get(id)
    if (volume && this.#owners.get(volume.thin) === id) this.#owners.delete(volume.thin)
    this.#volumes.delete(id)
  }

  putSnapshot(snapshot: KnownSnapshot): void {
    this.#owners.set(snapshot.state.thin, snapshot.id)
    this.#snapshots.set(snapshot.id, snapshot)
  }

  dropSnapshot(id: string): void {
    const snapshot = this.#snapshots.get(id)
    if (snapshot && this.#owners.get(snapshot.state.thin) === id) this.#owners.delete(snapshot.state.thin)
    this.#snapshots.delete(id)
  }

  /** The volume's, in the order in which they were taken. */
  snapshotsOf(volumeId: string): KnownSnapshot[] {
    return [...this.#snapshots.values()].filter((snapshot) => snapshot.volumeId === volumeId)
  }

  allSnapshots(): KnownSnapshot[] {
    return [...this.#snapshots.values()]
  }

  /** What all volumes may grow to, without one of them. */
  promised(without?: string): number {
    let sum = 0
    for (const [id, { size }] of this.#volumes) if (id !== without) sum += size
    return sum
  }
}
