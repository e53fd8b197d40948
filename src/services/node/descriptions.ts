/** What drivers say of their storage, in good time: one that hangs is asked once, however many want to know, and holds up nobody. */

import type { Driver, DriverContext, DriverDescription } from '../../driver.ts'
import { AppError } from '../../errors.ts'

/** So long a driver may look before it is told to stop. */
const longestMs = 5_000

export class Descriptions {
  readonly #context: (signal: AbortSignal) => DriverContext
  readonly #asked = new Map<Driver, Promise<DriverDescription>>()

  constructor(context: (signal: AbortSignal) => DriverContext) {
    this.#context = context
  }

  /** @param withinMs at most 5 s @throws TIMEOUT, whatever the driver does; what it throws */
  async of(driver: Driver, withinMs = longestMs): Promise<DriverDescription> {
    const late = Promise.withResolvers<never>()
    const error = new AppError('TIMEOUT', `driver ${driver.name} did not answer within ${withinMs / 1000} s`)
    const timer = setTimeout(() => late.reject(error), withinMs)
    try {
      return await Promise.race([this.#asked.get(driver) ?? this.#ask(driver), late.promise])
    } finally {
      clearTimeout(timer)
    }
  }

  #ask(driver: Driver): Promise<DriverDescription> {
    const answer = driver.describe(this.#context(AbortSignal.timeout(longestMs)))
    this.#asked.set(driver, answer)
    const forget = (): void => void this.#asked.delete(driver)
    answer.then(forget, forget)
    return answer
  }
}
