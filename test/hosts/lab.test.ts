/** The kernel lab itself (scripts/lab): what tests of drivers rely on in one machine, and in several on one network. */

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { run } from '../../src/system/exec.ts'
import { busyboxImage } from '../support/images.ts'
import { LabNetwork } from '../support/lab.ts'
import { makeSwarm, startDocker } from '../support/lab-docker.ts'
import { type LabHost, labScripts } from '../support/lab-host.ts'
import { nfsRoot, plainExport, serveNfs } from '../support/lab-nfs.ts'
import { until } from '../support/processes.ts'

const minute = 60_000
const MiB = 2 ** 20

/** scripts/lab/run, to its end. */
async function lab(...args: string[]) {
  return await run(join(labScripts, 'run'), args, { timeoutMs: 2 * minute })
}

describe('one machine', () => {
  test('gives a command its own output, exit code, name, clock and disks', async () => {
    const script = 'echo out; echo err >&2; hostname; date +%s; blockdev --getsize64 $HOLDFAST_LAB_DISKS; exit 7'
    const before = Date.now() / 1000
    const { exitCode, stdout, stderr } = await lab(
      '--name',
      'n1',
      '--clock',
      '-7200',
      '--disk',
      '3M',
      'bash',
      '-c',
      script,
    )
    const [out, name, clock, size] = stdout.trim().split('\n')
    expect({ exitCode, out, stderr, name, size: Number(size) }).toEqual({
      ...{ exitCode: 7, out: 'out', stderr: 'err', name: 'n1', size: 3 * MiB },
    })
    expect(Number(clock) - (before - 7200)).toBeGreaterThan(-2)
    expect(Number(clock) - (before - 7200)).toBeLessThan(120)
  })

  test('keeps what it changes in /etc and /var/lib from the host', async () => {
    const name = `holdfast-lab-${process.pid}`
    const files = [`/etc/${name}`, `/var/lib/${name}`, `/var/lib/docker/${name}`, `/var/lib/holdfast/${name}`]
    const { exitCode, stdout } = await lab('bash', '-ec', `for f in ${files.join(' ')}; do echo x >$f; cat $f; done`)
    expect({ exitCode, stdout }).toEqual({ exitCode: 0, stdout: files.map(() => 'x').join('\n') })
    expect(files.filter(existsSync)).toEqual([])
  })

  test.each([
    [['--disk', '/nowhere/disk'], 'there is no disk /nowhere/disk'],
    [['--disk', 'big'], 'cannot make a disk of the size big'],
    [['--clock', 'noon'], '--clock takes seconds'],
    [['--nic', 't1'], '--nic takes TAP,ADDRESS'],
    [['--nic', 't1,10.77.0.1/24'], 'there is no tap device t1'],
    [['--module', 'nosuch'], 'this kernel has no module nosuch'],
  ])('refuses %j', async (options, message) => {
    const { exitCode, stderr } = await lab(...options, 'true')
    expect({ exitCode, stderr }).toEqual({ exitCode: 125, stderr: expect.stringContaining(message) })
  })
})

describe('device-mapper', () => {
  test('has a thin pool that a crash of the machine leaves whole', async () => {
    await using network = await LabNetwork.open()
    const host = await network.host('dm', { disks: [256 * MiB, 16 * MiB], modules: ['dm-thin-pool'] })
    const pool = 'dmsetup create pool --table "0 524288 thin-pool /dev/ubdb /dev/ubda 128 0 1 error_if_no_space"'
    const thin = 'dmsetup create thin --table "0 204800 thin /dev/mapper/pool 0"; mkdir -p /tmp/m'
    await host.boot()
    await host.sh(`${pool}; dmsetup message pool 0 create_thin 0; ${thin}`)
    await host.sh('mkfs.ext4 -q /dev/mapper/thin; mount /dev/mapper/thin /tmp/m; echo kept >/tmp/m/file; sync')
    const writer = await host.start('dd', ['if=/dev/zero', 'of=/tmp/m/fill', 'bs=64k', 'count=1000', 'oflag=direct'])
    await host.kill()
    await expect(writer.wait()).rejects.toThrow('the machine died')
    await host.boot()
    await host.sh(`thin_check /dev/ubdb; ${pool}; ${thin}; mount /dev/mapper/thin /tmp/m`)
    expect(await host.sh('cat /tmp/m/file')).toBe('kept')
    await host.sh('echo not yet synced >/var/lib/holdfast/file')
    await host.shutDown()
    await host.boot()
    expect(await host.sh('cat /var/lib/holdfast/file')).toBe('not yet synced')
  })

  test('has the targets that tests plant faults with', async () => {
    const targets = ['snapshot', 'flakey', 'log-writes', 'dust', 'delay', 'clone', 'crypt']
    const { stdout } = await lab(...targets.flatMap((target) => ['--module', `dm-${target}`]), 'dmsetup', 'targets')
    expect(stdout.split('\n').map((line) => line.split(' ')[0])).toEqual(expect.arrayContaining(targets))
  })
})

describe('two machines', () => {
  let network: LabNetwork
  let server: LabHost
  let client: LabHost

  beforeAll(async () => {
    network = await LabNetwork.open()
    ;[server, client] = [await network.host('server'), await network.host('client')]
    await Promise.all([server.boot(), client.boot()])
  })
  afterAll(async () => await network[Symbol.asyncDispose]())

  test('have one NFS share, over cut links and a crash of the server', async () => {
    await serveNfs(server)
    const mount = `mount -t nfs -o vers=4.2,soft,timeo=5,retrans=1 ${server.address}:/data`
    await client.sh(`mkdir /tmp/share; ${mount} /tmp/share; echo one >/tmp/share/file`)
    expect(await server.sh(`cat ${nfsRoot}/data/file`)).toBe('one')

    await client.cut()
    const soft = await client.run('bash', ['-c', 'echo two >/tmp/share/file'], 2 * minute)
    expect(soft).toEqual({ code: 1, stdout: '', stderr: expect.stringContaining('Input/output error') })
    await client.plug()
    await client.sh('echo three >/tmp/share/file; sync /tmp/share/file')
    expect(await server.sh(`cat ${nfsRoot}/data/file`)).toBe('three')

    await client.sh(`mkdir /tmp/hard; ${mount.replace('soft', 'hard,nosharecache')} /tmp/hard; cat /tmp/hard/file`)
    await server.kill()
    const hard = await client.start('bash', [
      '-c',
      'echo four >>/tmp/hard/file; sync /tmp/hard/file; cat /tmp/hard/file',
    ])
    await expect(hard.wait(3000)).rejects.toThrow('not within 3000 ms')
    await server.boot()
    await serveNfs(server, { exports: { '/data': plainExport }, graceSeconds: 10 })
    expect(await hard.wait(2 * minute)).toEqual({ code: 0, stdout: 'three\nfour\n', stderr: '' })
  })

  test('have Docker engines of their own that make a Swarm', async () => {
    const image = await busyboxImage(network.shared)
    await Promise.all([server, client].map((host) => startDocker(host, image)))
    await client.sh('docker run --rm --network none busybox cat /seed/hello')
    await makeSwarm(server, client)
    const service = '--detach --no-resolve-image --mode global --name s busybox sleep 1000'
    await server.sh(`docker service create ${service}`)
    for (const host of [server, client]) {
      await until(`a task in ${host.name}`, minute, async () => await host.sh('docker ps -q --filter name=s.'))
    }
  })
})

test('machines and all that they had end with a test that is killed', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'holdfast-lab-killed-'))
  const script = `
    const { LabNetwork } = await import(${JSON.stringify(join(import.meta.dirname, '../support/lab.ts'))})
    const host = await (await LabNetwork.open()).host('orphan')
    await host.boot()
    console.log('booted')
    setInterval(() => undefined, 1000)`
  const orphaned: ChildProcess = spawn(process.execPath, ['--input-type=module-typescript', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, TMPDIR: directory },
  })
  const first = await Promise.race([
    once(orphaned.stdout as NonNullable<ChildProcess['stdout']>, 'data'),
    once(orphaned, 'exit'),
  ])
  expect(String(first[0])).toBe('booted\n')
  expect(processesWith(directory).length).toBeGreaterThan(3)
  orphaned.kill('SIGKILL')
  await until(
    'the end of all',
    10_000,
    () => processesWith(directory).length === 0 && readdirSync(directory).length === 0,
  )
  rmSync(directory, { recursive: true })
})

/** Processes that were started with the text in an argument. */
function processesWith(text: string): string[] {
  return readdirSync('/proc').filter((name) => {
    try {
      return /^\d+$/.test(name) && name !== String(process.pid) && commandOf(name).includes(text)
    } catch {
      return false // It has ended.
    }
  })
}

function commandOf(pid: string): string {
  return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
}
