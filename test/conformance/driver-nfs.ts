/** Beds for the nfs driver: a kernel NFS server on this machine, which has to be one of the kernel lab, and nodes that use it. */

import { existsSync } from 'node:fs'
import { mkdir, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createNfs } from '../../drivers/nfs/nfs.ts'
import type { LeaseTimes } from '../../drivers/nfs/nodes.ts'
import { parseSettings } from '../../drivers/nfs/options.ts'
import type { Driver } from '../../src/driver.ts'
import { createEngine } from '../../src/engine/engine.ts'
import { Archive } from '../../src/services/backups/archive.ts'
import { isWithin, readMounts } from '../../src/system/mount.ts'
import { type DriverBed, makeScratch, sh, silent } from './driver-bed.ts'

const root = '/var/tmp/nfs'

/** Serves what lies below `root`, once; the machine ends with the tests. */
async function serve(): Promise<void> {
  if (existsSync('/proc/fs/nfsd/threads')) return
  await mkdir(root, { recursive: true })
  const script = `
    mkdir -p /etc/nfs.conf.d /run/rpcbind
    printf '[exports]\\nrootdir=${root}\\n' >/etc/nfs.conf.d/lab.conf
    : >/etc/exports
    ip link set lo up
    mount -t nfsd nfsd /proc/fs/nfsd
    echo 10 >/proc/fs/nfsd/nfsv4leasetime
    echo 10 >/proc/fs/nfsd/nfsv4gracetime
    rpcbind -w
    rpc.statd
    rpc.mountd
    rpc.nfsd 4
    echo Y >/proc/fs/nfsd/v4_end_grace`
  await sh('bash', '-euc', script)
}

let count = 0

/** What is exported for one bed. */
export interface ExportOptions {
  /** Its file system: one that copies files by reference, or the machine's own. */
  readonly reflink?: boolean
  readonly rules?: string
  readonly settings?: Readonly<Record<string, string>>
  readonly times?: LeaseTimes
}

export interface NfsBed extends DriverBed {
  /** Where the export lies on the server. */
  readonly exported: string
  /** A driver as another node has it, with a root directory of its own. */
  node(name: string): Driver
}

/** A new export and a node that uses it. */
export async function nfsBed({
  reflink = false,
  rules = 'no_root_squash',
  settings = {},
  times,
}: ExportOptions = {}): Promise<NfsBed> {
  await serve()
  const number = ++count
  const exported = join(root, `e${number}`)
  await mkdir(exported)
  const disk = join(tmpdir(), `disk${number}`)
  if (reflink) {
    await sh('truncate', '-s', '1G', disk)
    await sh('mkfs.xfs', '-q', '-m', 'reflink=1', disk)
    await sh('mount', '-o', 'loop', disk, exported)
  }
  await sh(
    'exportfs',
    '-o',
    `rw,async,no_subtree_check,fsid=${number},${rules}`,
    `127.0.0.1:${exported.slice(root.length)}`,
  )
  const scratch = await makeScratch()
  const parsed = parseSettings({ server: '127.0.0.1', export: exported.slice(root.length), ...settings })
  const engine = createEngine({ log: silent })
  const archive = (at: string) => new Archive(engine, at)
  const node = (name: string) => createNfs(parsed, { root: join(scratch, name), archive }, times)
  return {
    directory: scratch,
    exported,
    node,
    driver: () => node('node'),
    leftovers: () => leftoversIn(exported),
    dispose: async () => {
      await engine.stop()
      for (const { mountpoint } of readMounts()
        .filter((entry) => isWithin(entry.mountpoint, scratch))
        .reverse()) {
        await sh('umount', '--lazy', mountpoint)
      }
      await sh('exportfs', '-u', `127.0.0.1:${exported.slice(root.length)}`)
      await rm(scratch, { recursive: true, force: true })
      if (reflink) await sh('umount', '--lazy', exported)
      await rm(disk, { force: true })
    },
  }
}

async function leftoversIn(exported: string): Promise<string[]> {
  const tmp = join(exported, '.holdfast/tmp')
  if (!existsSync(tmp)) return []
  return (await Promise.all((await readdir(tmp)).map((node) => readdir(join(tmp, node))))).flat()
}
