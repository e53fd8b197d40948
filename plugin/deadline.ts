/** An answer in good time to a caller that gives up, while the work goes on. */

import { AppError } from '../src/errors.ts'

/**
 * The result of `work`, if it ends within `limitMs`; the work itself is never stopped.
 * @param doing what it is, as in `volume db is still being created`
 * @throws TIMEOUT when it takes longer; else what `work` throws
 */
export async function within<T>(limitMs: number, work: Promise<T>, doing: string): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(() => {
    const seconds = Math.round(limitMs / 1000)
    reject(new AppError('TIMEOUT', `${doing} after ${seconds} s, and the work goes on; try again in a while`))
  }, limitMs)
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}
