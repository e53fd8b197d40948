/**
 * The device-mapper driver on a real thin pool. Few build machines have device-mapper in their kernel, so this runs in the kernel
 * lab (scripts/lab), on disks that are given to it: HOLDFAST_LAB=1.
 */

import { driverSuite } from './driver.ts'
import { poolBed } from './driver-devicemapper.ts'

const inLab = process.env.HOLDFAST_LAB === '1'
const MiB = 2 ** 20

if (inLab) {
  driverSuite('devicemapper: ext4', () => poolBed(), {
    volume: { driver: 'devicemapper', size: 64 * MiB },
    ...{ atomic: true, cheap: true, compare: 'block' },
    grow: { from: 64 * MiB, to: 96 * MiB, online: true },
  })
}
