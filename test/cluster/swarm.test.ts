/**
 * A Swarm of three machines with an NFS server on a fourth: services whose tasks share a volume, tasks that move, a node that dies, a
 * server that is away. All that Holdfast is started with is what a user would say; the tests come one after the other, on one Swarm.
 */

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { busyboxImage } from '../support/images.ts'
import { LabNetwork } from '../support/lab.ts'
import { makeSwarm, startDocker } from '../support/lab-docker.ts'
import type { LabHost } from '../support/lab-host.ts'
import { serveNfs } from '../support/lab-nfs.ts'
import { until } from '../support/processes.ts'

const main = join(import.meta.dirname, '../../dist/src/cli/main.js')
const pluginSocket = '/run/docker/plugins/holdfast.sock'
const minute = 60_000

let net: LabNetwork
let server: LabHost
/** The first is the manager. */
let nodes: readonly [LabHost, LabHost, LabHost]
/** Those that have not been killed. */
let alive: readonly LabHost[] = []

/** Asks machines, which have enough to do, not too often. */
async function eventually(what: string, timeoutMs: number, probe: () => Promise<boolean>): Promise<void> {
  await until(what, timeoutMs, async () => (await probe()) || (await pause(400, false)))
}

async function startHoldfast(host: LabHost): Promise<void> {
  const settings = [`nfs.server=${server.address}`, 'nfs.export=/data']
  const options = settings.flatMap((setting) => ['--driver-opt', setting])
  const daemon = await host.start(process.execPath, [main, 'daemon', '--driver', 'nfs', ...options])
  const isUp = async () => daemon.ended || (await host.run('test', ['-S', pluginSocket])).code === 0
  await eventually(`Holdfast in ${host.name}`, minute, isUp)
  if (daemon.ended) throw new Error(`the daemon in ${host.name} ended:\n${daemon.stdout}${daemon.stderr}`)
}

/** Docker learns of a plugin when it is asked for something of it: only then a Swarm places tasks that use it. */
async function startNode(host: LabHost, image: string): Promise<void> {
  await startHoldfast(host)
  await startDocker(host, image)
  await host.sh('docker volume ls')
}

beforeAll(async () => {
  if (!existsSync(main)) throw new Error(`${main} is not there: run scripts/build first`)
  net = await LabNetwork.open()
  server = await net.host('s')
  nodes = [await net.host('a'), await net.host('b'), await net.host('c')]
  await Promise.all([server, ...nodes].map((host) => host.boot()))
  await serveNfs(server)
  const image = await busyboxImage(net.shared)
  await Promise.all(nodes.map((host) => startNode(host, image)))
  alive = nodes
  const [manager, ...workers] = nodes
  await makeSwarm(manager, ...workers)
  await manager.sh('docker swarm update --dispatcher-heartbeat 2s')
}, 3 * minute)
afterAll(() => net[Symbol.asyncDispose]())

interface Service {
  readonly name: string
  readonly volume: string
  readonly options?: readonly string[]
  readonly volumeOptions?: readonly string[]
}

/** Each task leaves a file with the name of its node in the volume, and stays. */
async function serve({ name, volume, options = [], volumeOptions = [] }: Service): Promise<void> {
  const mount = `type=volume,source=${volume},target=/data,volume-driver=holdfast`
  const given = volumeOptions.map((option) => `,volume-opt=${option}`).join('')
  const script = 'touch /data/$NODE; while true; do sleep 1; done'
  await nodes[0].sh(
    `docker service create --detach --no-resolve-image --name ${name} --stop-grace-period 1s --restart-delay 1s ` +
      `--env NODE={{.Node.Hostname}} ${options.join(' ')} --mount '${mount}${given}' busybox sh -c '${script}'`,
  )
}

/** Asks an engine as its CLI would, whose own start takes a second in these machines. @returns the answer, and after how many seconds it came */
async function ask(host: LabHost, path: string): Promise<{ answer: unknown; seconds: number }> {
  const args = ['-sS', '-g', '--max-time', '30', '-w', '\n%{time_total}', '--unix-socket', '/run/docker.sock']
  const { code, stdout, stderr } = await host.run('curl', [...args, `http://docker${path}`])
  if (code !== 0) throw new Error(`${host.name}: GET ${path}: ${stderr}`)
  const [text = '', seconds] = stdout.split(/\n(?=[\d.]+$)/)
  return { answer: JSON.parse(text), seconds: Number(seconds) }
}

/** Ids of a service's containers on a node. */
async function tasksOn(host: LabHost, service: string): Promise<string[]> {
  const filters = JSON.stringify({ name: [`^/${service}\\.`] })
  const { answer } = await ask(host, `/containers/json?filters=${encodeURIComponent(filters)}`)
  return (answer as { Id: string }[]).map(({ Id }) => Id)
}

async function untilRunsOn(hosts: readonly LabHost[], service: string): Promise<void> {
  for (const host of hosts) {
    await eventually(`${service} on ${host.name}`, 2 * minute, async () => (await tasksOn(host, service)).length > 0)
  }
}

/** What the first task of a service on a node sees in its volume. */
async function seenBy(host: LabHost, service: string): Promise<string[]> {
  const [task] = await tasksOn(host, service)
  const { answer } = await ask(host, `/containers/${task}/json`)
  return (await host.sh(`ls /proc/${(answer as { State: { Pid: number } }).State.Pid}/root/data`)).split('\n')
}

async function volumesOn(host: LabHost): Promise<string[]> {
  const { answer } = await ask(host, '/volumes')
  const { Volumes } = answer as { Volumes: { Name: string; Driver: string }[] }
  return Volumes.flatMap(({ Name, Driver }) => (Driver === 'holdfast' ? [Name] : [])).sort()
}

async function statusOf(host: LabHost, volume: string): Promise<unknown> {
  const { answer } = await ask(host, `/volumes/${volume}`)
  return (answer as { Status: { status: unknown } }).Status.status
}

describe('tasks on every node', () => {
  const services = ['web', 'all', 'shard']
  beforeAll(async () => {
    await serve({ name: 'web', volume: 'data', options: ['--replicas 3'] })
    await serve({ name: 'all', volume: 'global', options: ['--mode global'] })
    await serve({ name: 'shard', volume: 'shard-{{.Task.Slot}}', options: ['--replicas 3'] })
    await Promise.all(services.map((service) => untilRunsOn(nodes, service)))
  }, 3 * minute)
  afterAll(() => nodes[0].sh('docker service rm all shard'))

  test('share a volume, three replicas as well as a global service: each sees what the others write', async () => {
    for (const service of ['web', 'all']) {
      for (const host of nodes) {
        await eventually(`${service} on ${host.name} sees all files`, 20_000, async () => {
          return (await seenBy(host, service)).join() === 'a,b,c'
        })
      }
    }
  })

  test('have a volume each, by the slot in its name, which every node lists', async () => {
    for (const host of nodes) expect(await seenBy(host, 'shard')).toEqual([host.name])
    for (const host of nodes) {
      await eventually(`${host.name} lists all`, 5_000, async () => {
        return (await volumesOn(host)).join() === 'data,global,shard-1,shard-2,shard-3'
      })
    }
  })

  test('an impostor of a shared volume on one node is found there', async () => {
    const node = nodes[1]
    await node.sh('docker volume create --driver local early')
    await nodes[0].sh('docker volume create --driver holdfast early')
    await eventually('doctor finds it', 20_000, async () => {
      const { stdout } = await node.run(process.execPath, [main, 'doctor'])
      return /early \(impostor\)/.test(stdout)
    })
    await node.sh('docker volume rm early')
  })
})

/** Writes ten times a second whether the volume `only` is mounted; without starting a program each time. */
const sampler = `
  exec 3<> <(:)
  while true; do
    is=0
    while read -r line; do [[ $line != *' /var/lib/holdfast/mounts/only '* ]] || is=1; done </proc/self/mountinfo
    echo "$EPOCHREALTIME $is" >>"$1/samples-$0"
    read -rt 0.1 -u 3
  done`

/** Times, in seconds, at which a node had the volume mounted, as samples of its mount table say. */
function timesOf(host: LabHost): { samples: number; mounted: number[] } {
  const lines = readFileSync(join(net.shared, `samples-${host.name}`), 'utf8')
    .split('\n')
    .slice(0, -1)
  const all = lines.map((line) => line.split(' '))
  return { samples: all.length, mounted: all.filter(([, is]) => is === '1').map(([time]) => Number(time)) }
}

/** Runs of samples without a gap: from when to when a node had it. */
function spansOf(times: readonly number[]): { from: number; to: number }[] {
  const spans: { from: number; to: number }[] = []
  for (const time of times) {
    const last = spans.at(-1)
    if (last && time - last.to < 2) last.to = time
    else spans.push({ from: time, to: time })
  }
  return spans
}

describe('a volume for one node at a time', () => {
  /** The node that has it. */
  let holder: LabHost
  afterAll(() => nodes[0].sh('docker service rm one'))

  test('moves with its task when a node is drained and when one dies, and is never on two nodes at once', async () => {
    const [manager, ...workers] = nodes
    for (const host of nodes) await host.start('bash', ['-c', sampler, host.name, net.shared])
    const begunAt = performance.now()
    const options = ['--replicas 1', '--constraint node.role==worker']
    await serve({ name: 'one', volume: 'only', options, volumeOptions: ['access=single'] })
    const onNode = async () => {
      for (const host of workers) if ((await tasksOn(host, 'one')).length > 0) return host
      return undefined
    }
    await eventually('the task', minute, async () => (await onNode()) !== undefined)
    const first = (await onNode()) as LabHost
    const other = workers.find((host) => host !== first) as LabHost

    await manager.sh(`docker node update --availability drain ${first.name}`)
    await untilRunsOn([other], 'one')
    expect(await seenBy(other, 'one')).toEqual([first.name, other.name].sort())
    await manager.sh(`docker node update --availability active ${first.name}`)

    await other.kill()
    alive = nodes.filter((host) => host !== other)
    await untilRunsOn([first], 'one')
    expect(await seenBy(first, 'one')).toEqual(['b', 'c'])
    const seconds = (performance.now() - begunAt) / 1000

    const [one, two] = [timesOf(first), timesOf(other)]
    expect(one.samples).toBeGreaterThan(5 * seconds)
    expect([spansOf(one.mounted).length, spansOf(two.mounted).length]).toEqual([2, 1])
    const [there] = spansOf(two.mounted) as [{ from: number; to: number }]
    expect(one.mounted.filter((time) => time >= there.from && time <= there.to)).toEqual([])
    expect(timesOf(manager).mounted).toEqual([])
    holder = first
  })

  test('is taken over from a node that is alive by force only, which says what is at risk; that node notices', async () => {
    const takeover = (...options: string[]) =>
      nodes[0].run(process.execPath, [main, 'volume', 'takeover', 'only', ...options])
    const refused = await takeover()
    expect(refused).toMatchObject({ code: 6, stderr: expect.stringContaining(`node ${holder.name} is alive`) })
    const forced = await takeover('--force')
    expect(forced).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(`which node ${holder.name} had; at risk: node ${holder.name} is alive`),
    })
    await eventually('doctor on the other node says so', minute, async () => {
      return /only \(right-lost\)/.test((await holder.run(process.execPath, [main, 'doctor'])).stdout)
    })
  })
})

describe('while the server is away', () => {
  test('Docker answers within 2 s, and all goes on when it is back', async () => {
    await server.kill()
    const begunAt = performance.now()
    while (performance.now() - begunAt < 10_000) {
      for (const host of alive) {
        for (const path of ['/containers/json', '/volumes', '/volumes/data']) {
          expect((await ask(host, path)).seconds).toBeLessThan(2)
        }
      }
      await pause(500)
    }
    for (const host of alive) expect(await statusOf(host, 'data')).toBe('degraded')
    await server.boot()
    await serveNfs(server)
    for (const host of alive) {
      await eventually('the volume is well again', minute, async () => (await statusOf(host, 'data')) === 'ok')
    }
    expect(await seenBy(nodes[0], 'web')).toContain('a')
  })
})
