/**
 * A real S3 server for tests: Ceph's RADOS Gateway from Debian's packages, with one monitor and one OSD that keeps
 * everything in memory, on loopback. Its processes and files are in a sandbox, which ends and removes them whatever
 * happens to the test. Needs root.
 */

import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, mkdirSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { until } from './processes.ts'
import { openSandbox, type Sandbox } from './sandbox.ts'

export interface Rgw {
  readonly endpoint: string
  readonly accessKey: string
  readonly secretKey: string
  close(): Promise<void>
}

const programs = ['ceph', 'ceph-mon', 'ceph-osd', 'monmaptool', 'radosgw', 'radosgw-admin']
const keys = { accessKey: 'testak', secretKey: 'testsk' }
const run = promisify(execFile)

/** Why it cannot be started here; undefined when it can. */
export function rgwMissing(): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root'
  const missing = programs.filter((program) => {
    try {
      accessSync(join('/usr/bin', program))
      return false
    } catch {
      return true
    }
  })
  return missing.length === 0 ? undefined : `${missing.join(', ')} not installed`
}

/** Takes about 15 s. */
export async function startRgw(): Promise<Rgw> {
  const sandbox = await openSandbox()
  try {
    const port = await startCluster(sandbox)
    return { endpoint: `http://127.0.0.1:${port}`, ...keys, close: () => sandbox.close() }
  } catch (error) {
    await sandbox.close()
    throw error
  }
}

/** @returns the gateway's port */
async function startCluster(sandbox: Sandbox): Promise<number> {
  const { directory } = sandbox
  const [monitorPort, port] = await freePorts(2)
  const fsid = crypto.randomUUID()
  for (const name of ['mon', 'osd', 'rgw', 'run', 'log']) mkdirSync(join(directory, name))
  const path = join(directory, 'ceph.conf')
  writeFileSync(path, configuration(directory, fsid, monitorPort, port))
  const tool = (program: string, ...args: string[]) => run(program, ['-c', path, ...args], { timeout: 60_000 })

  const map = join(directory, 'monmap')
  await run('monmaptool', [
    '--create',
    '--clobber',
    '--fsid',
    fsid,
    '--addv',
    'a',
    `[v1:127.0.0.1:${monitorPort}]`,
    map,
  ])
  await tool('ceph-mon', '-i', 'a', '--mkfs', '--monmap', map)
  await sandbox.start('mon', 'ceph-mon', ['-c', path, '-i', 'a', '-f'])
  const osd = crypto.randomUUID()
  // A monitor that is not ready yet refuses, now and then also when it has answered before; the same again is success.
  await until('a monitor that takes an OSD', 60_000, async () => await tool('ceph', 'osd', 'new', osd))
  await tool('ceph-osd', '-i', '0', '--mkfs', '--osd-uuid', osd)
  // An OSD that places itself asks before it knows the cluster's id, and ends now and then for that.
  const place = ['osd', 'crush', 'add', 'osd.0', '1.0', 'root=default', 'host=test']
  await until('a monitor that places an OSD', 60_000, async () => await tool('ceph', ...place))
  await sandbox.start('osd', 'ceph-osd', ['-c', path, '-i', '0', '-f'])
  await until('an OSD that is up', 60_000, async () => (await tool('ceph', 'osd', 'stat')).stdout.includes('1 up'))
  await sandbox.start('rgw', 'radosgw', ['-c', path, '-n', 'client.rgw', '-f'])
  await until('an answer of the gateway', 90_000, async () => (await fetch(`http://127.0.0.1:${port}/`)).ok)
  const user = ['user', 'create', '--uid=test', '--display-name=test']
  await tool(
    'radosgw-admin',
    '-n',
    'client.rgw',
    ...user,
    `--access-key=${keys.accessKey}`,
    `--secret-key=${keys.secretKey}`,
  )
  return port
}

function configuration(directory: string, fsid: string, monitorPort: number, port: number): string {
  return `[global]
fsid = ${fsid}
mon_host = v1:127.0.0.1:${monitorPort}/0
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_ipv6 = false
ms_bind_msgr2 = false
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
auth_supported = none
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pgp_num = 1
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
osd_crush_update_on_start = false
osd_class_update_on_start = false
mon_warn_on_pool_no_redundancy = false
mon_allow_pool_size_one = true
mon_data_avail_crit = 1
mon_max_pg_per_osd = 2000
run_dir = ${directory}/run
admin_socket = ${directory}/run/$cluster-$name.$pid.asok
pid_file = ${directory}/run/$name.pid
log_file = ${directory}/log/$name.log
mon_cluster_log_file = ${directory}/log/cluster.log
crash_dir = ${directory}/run
[mon.a]
mon_data = ${directory}/mon
[osd.0]
osd_data = ${directory}/osd
osd_objectstore = memstore
memstore_device_bytes = 4294967296
osd_class_load_list = *
osd_class_default_list = *
[client.rgw]
rgw_data = ${directory}/rgw
rgw_frontends = beast endpoint=127.0.0.1:${port}
rgw_enable_usage_log = false
rgw_crypt_require_ssl = false
`
}

async function freePorts(count: 2): Promise<[number, number]>
async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'))
  await Promise.all(servers.map((it) => once(it, 'listening')))
  const ports = servers.map((it) => (it.address() as AddressInfo).port)
  for (const server of servers) server.close()
  return ports
}
