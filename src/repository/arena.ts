/** Memory that is handed out piece by piece and taken back all at once, so that contents that pass through are no work for the garbage collector. */

export class Arena {
  readonly #length: number
  #room: Buffer | undefined
  #used = 0

  /** @param length bytes; taken when they are first asked for */
  constructor(length: number) {
    this.#length = length
  }

  /** Memory that is good until `clear`; of its own when there is no more room. */
  readonly allocate = (length: number): Buffer => {
    this.#room ??= Buffer.allocUnsafeSlow(this.#length)
    const start = this.#used
    if (start + length > this.#length) return Buffer.allocUnsafeSlow(length)
    this.#used += length
    return this.#room.subarray(start, this.#used)
  }

  /** Takes back all of it: nobody must use it any more. */
  clear(): void {
    this.#used = 0
  }
}
