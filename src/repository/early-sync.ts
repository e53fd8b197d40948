/**
 * Has a restore's data written to the disk while it goes on, so that the disk is not idle until the sync at the end, which would then
 * wait for all of it. Makes nothing durable that anybody may count on.
 */

import type { Bytes } from '../model.ts'
import type { Bridge } from './bridge.ts'

const everyBytes = 256 * 2 ** 20

export class EarlySync {
  readonly #bridge: Bridge
  readonly #args: readonly string[]
  #written: Bytes = 0
  #running = false

  /** @param args of the program `sync` */
  constructor(bridge: Bridge, args: readonly string[]) {
    this.#bridge = bridge
    this.#args = args
  }

  /** So much more has been written. */
  add(bytes: Bytes): void {
    this.#written += bytes
    if (this.#running || this.#written < everyBytes) return
    this.#written = 0
    this.#running = true
    this.#bridge.post('exec', { program: 'sync', args: this.#args, timeoutMs: 0 }, () => {
      this.#running = false
    })
  }

  /** Syncs what is left, and waits until that is done. */
  finish(): void {
    this.#bridge.pumpUntil(() => !this.#running)
    this.#written = 0
    this.#bridge.call('exec', { program: 'sync', args: this.#args, timeoutMs: 0 })
  }
}
