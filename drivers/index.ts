/**
 * The drivers that there are, each loaded when it is first asked for. The only file that names them all; it registers
 * nothing by side effect.
 */

import type { DriverModule } from '../src/driver.ts'

/** Driver name -> its module. */
export const driverModules: Readonly<Record<string, () => Promise<DriverModule>>> = {
  nfs: async () => (await import('./nfs/nfs.ts')).nfs,
  vfs: async () => (await import('./vfs/vfs.ts')).vfs,
  devicemapper: async () => (await import('./devicemapper/devicemapper.ts')).devicemapper,
}
