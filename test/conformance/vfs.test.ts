/** The vfs driver keeps the driver's laws on every kind of storage that a machine without special kernel options can offer. */

import { driverSuite } from './driver.ts'
import { onBtrfs, onBtrfsWithQuota, onHost, onXfs } from './driver-vfs.ts'

const MiB = 2 ** 20
const xfs = { fs: 'xfs' }
const xfsVolume = { size: 320 * MiB, options: xfs }
const ext4Volume = { size: 64 * MiB }
const growXfs = { from: 320 * MiB, to: 480 * MiB, options: xfs, online: true }
const growExt4 = { from: 64 * MiB, to: 96 * MiB, online: false }

driverSuite("vfs: directories on the machine's file system", onHost, {
  atomic: false,
  cheap: false,
  compare: 'content',
})
driverSuite("vfs: ext4 images on the machine's file system", onHost, {
  volume: ext4Volume,
  atomic: true,
  cheap: false,
  compare: 'inode',
  grow: growExt4,
})
driverSuite("vfs: XFS images on the machine's file system", onHost, {
  volume: xfsVolume,
  atomic: true,
  cheap: false,
  compare: 'inode',
  grow: growXfs,
})
driverSuite('vfs: directories on XFS with reflink', onXfs, { atomic: false, cheap: true, compare: 'content' })
driverSuite('vfs: ext4 images on XFS with reflink', onXfs, {
  volume: ext4Volume,
  atomic: true,
  cheap: true,
  compare: 'inode',
  grow: growExt4,
})
driverSuite('vfs: subvolumes on btrfs', onBtrfs, { atomic: true, cheap: true, compare: 'inode' })
driverSuite('vfs: subvolumes on btrfs with quotas', onBtrfsWithQuota, {
  atomic: true,
  cheap: true,
  compare: 'inode',
  grow: { from: 64 * MiB, to: 96 * MiB, online: true },
})
