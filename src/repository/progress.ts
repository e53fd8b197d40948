/**
 * How far a tree backup is: bytes of files that it is done with, whether it had to read them or not. Hands add to the count while they read; the lead tells it on.
 */

import type { Bytes } from '../model.ts'
import type { Bridge } from './bridge.ts'

const everyMs = 100

export class Progress {
  /** For `countBytes`. */
  readonly shared = new SharedArrayBuffer(8)
  readonly #done = new BigInt64Array(this.shared)
  readonly #bridge: Bridge
  #total: Bytes | null
  #toldAt = 0

  /** Tells on also while the lead waits for others. @param total a guess of what is to come, if there is one */
  constructor(bridge: Bridge, total: Bytes | null) {
    this.#bridge = bridge
    this.#total = total
    bridge.onWait(everyMs, () => this.tell())
  }

  /** What the end will be. */
  set total(total: Bytes) {
    this.#total = total
  }

  add(bytes: Bytes): void {
    Atomics.add(this.#done, 0, BigInt(bytes))
  }

  /** Call it often: it does something ten times a second at most. */
  tell(): void {
    const now = performance.now()
    if (now - this.#toldAt < everyMs) return
    this.#toldAt = now
    const done = Number(Atomics.load(this.#done, 0))
    const total = this.#total === null ? null : Math.max(done, this.#total)
    this.#bridge.post('progress', { done, total, unit: 'bytes' }, () => undefined)
  }
}

/** Counts bytes that a hand is done with. */
export function countBytes(shared: SharedArrayBuffer, bytes: Bytes): void {
  Atomics.add(new BigInt64Array(shared), 0, BigInt(bytes))
}
