/**
 * A kernel NFS server in a machine of the lab, versions 3 to 4.2. Its exports lie below /var/tmp/nfs, which is the root for its
 * clients: hostfs, the real one, cannot be exported.
 */

import type { LabHost } from './lab-host.ts'

/** Where an export `/data` lies as `data`. Mount another file system there first, to export that. */
export const nfsRoot = '/var/tmp/nfs'

export interface NfsServerOptions {
  /** Path of an export, like `/data`, to its options. Default: `/data` for everybody, root included. */
  readonly exports?: Readonly<Record<string, string>>
  /** Seconds that clients have to reclaim locks and opens after a restart; nobody gets new ones before. Default: none. */
  readonly graceSeconds?: number
}

/** The options of an export that lets root be root. */
export const plainExport = 'rw,sync,no_subtree_check,no_root_squash'

/** Starts it, also after a crash of the machine, when its clients go on with their mounts. They mount `ADDRESS:/data`. */
export async function serveNfs(host: LabHost, options: NfsServerOptions = {}): Promise<void> {
  const exports = Object.entries(options.exports ?? { '/data': plainExport })
  const lines = exports.map(([path, rules], index) => `${path} *(fsid=${index + 1},${rules})`)
  const grace = options.graceSeconds ?? 0
  await host.sh(`
    mkdir -p ${exports.map(([path]) => nfsRoot + path).join(' ')}
    printf '[exports]\\nrootdir=${nfsRoot}\\n' >/etc/nfs.conf.d/lab.conf
    printf '%s\\n' ${lines.map((line) => `'${line}'`).join(' ')} >/etc/exports
    mount -t nfsd nfsd /proc/fs/nfsd
    echo ${grace || 10} >/proc/fs/nfsd/nfsv4leasetime
    echo ${grace || 10} >/proc/fs/nfsd/nfsv4gracetime
    # Version 3 has its grace from lockd, 50 s if nothing is said, and at least 3.
    echo 3 >/proc/sys/fs/nfs/nlm_timeout
    echo ${Math.max(grace, 3)} >/proc/sys/fs/nfs/nlm_grace_period
    rpcbind -w
    rpc.statd
    exportfs -ra
    rpc.mountd
    rpc.nfsd 4
    ${grace ? '' : 'echo Y >/proc/fs/nfsd/v4_end_grace'}
  `)
}
