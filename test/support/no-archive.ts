/** The environment of a driver that needs no archive, or is never started. */

import type { DriverEnvironment } from '../../src/driver.ts'

/** As `DriverEnvironment.archive`, for a driver that never uses what it asks for. */
export const noArchive: DriverEnvironment['archive'] = (directory) => {
  const fail = async (): Promise<never> => {
    throw new Error(`this test has no archive for ${directory}`)
  }
  return { save: fail, find: fail, restore: fail, delete: fail, prune: fail }
}
