/** The nfs driver keeps the driver's laws over a real NFS server: HOLDFAST_LAB=1, in the kernel lab (scripts/lab). */

import { driverSuite } from './driver.ts'
import { nfsBed } from './driver-nfs.ts'

const inLab = process.env.HOLDFAST_LAB === '1'

if (inLab) {
  driverSuite('nfs: directories on a server with reflink', () => nfsBed({ reflink: true }), {
    volume: { driver: 'nfs' },
    atomic: false,
    cheap: true,
    compare: 'content',
  })
}
