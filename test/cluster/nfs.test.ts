/**
 * The nfs driver on machines of their own, with a server on another: links that are cut in the middle, a server that
 * dies, clocks that differ, and a volume for one node at a time that is never written to by two.
 */

import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import type { SharedNews } from '../../src/driver.ts'
import type { Volume } from '../../src/model.ts'
import { newVolume } from '../conformance/driver-bed.ts'
import { LabNetwork } from '../support/lab.ts'
import type { LabHost } from '../support/lab-host.ts'
import { nfsRoot, serveNfs } from '../support/lab-nfs.ts'
import type { LabProcess } from '../support/lab-process.ts'
import { until } from '../support/processes.ts'

const times = { beatMs: 1_000, ttlMs: 20_000, fenceMs: 12_000 }
const program = join(import.meta.dirname, 'nfs-node.ts')
const nodeArgs = ['--wasm-wrapper-tiering-budget=2000000000', program]

interface Answer {
  readonly value?: unknown
  readonly error?: { readonly code: string; readonly message: string }
  readonly ms: number
}

/** A driver in a machine. */
class Node {
  readonly host: LabHost
  private readonly directory: string
  private count = 0

  constructor(host: LabHost, directory: string) {
    this.host = host
    this.directory = directory
    mkdirSync(directory, { recursive: true })
  }

  /** Starts the driver, also after the machine was. */
  async start(server: LabHost): Promise<void> {
    for (const name of readdirSync(this.directory)) rmSync(join(this.directory, name))
    const settings = JSON.stringify({ server: server.address, export: '/data' })
    await this.host.start(process.execPath, [
      ...nodeArgs,
      this.directory,
      '/var/lib/holdfast',
      settings,
      JSON.stringify(times),
    ])
    await until('the node starts', 60_000, () => existsSync(join(this.directory, 'ready')))
  }

  async ask(method: string, ...args: unknown[]): Promise<Answer> {
    const base = join(this.directory, String(++this.count))
    writeFileSync(`${base}.part`, JSON.stringify({ method, args }))
    renameSync(`${base}.part`, `${base}.request`)
    await until(`${method} is answered`, 120_000, () => existsSync(`${base}.answer`))
    return JSON.parse(readFileSync(`${base}.answer`, 'utf8')) as Answer
  }

  /** @throws what the call failed with */
  async call(method: string, ...args: unknown[]): Promise<unknown> {
    const { value, error } = await this.ask(method, ...args)
    if (error) throw new Error(`${method}: ${error.code} ${error.message}`)
    return value
  }

  get news(): SharedNews[] {
    if (!existsSync(join(this.directory, 'news'))) return []
    const lines = readFileSync(join(this.directory, 'news'), 'utf8').split('\n').slice(0, -1)
    return lines.map((line) => JSON.parse(line) as SharedNews)
  }

  async make(name: string, options: Record<string, string> = {}): Promise<Volume> {
    const draft = newVolume(name, { driver: 'nfs', options })
    const volume = { ...draft, state: (await this.call('createVolume', draft)) as Volume['state'] }
    await this.call('shared.publish', volume, [])
    return volume
  }
}

interface Bed {
  readonly server: LabHost
  readonly a: Node
  readonly b: Node
}

/** A server and two nodes; the clock of one is two minutes ahead. */
async function makeBed(): Promise<Bed> {
  const net = await LabNetwork.open()
  onTestFinished(() => net[Symbol.asyncDispose]())
  const hosts = [await net.host('s'), await net.host('a'), await net.host('b', { clockSeconds: 120 })] as const
  await Promise.all(hosts.map((host) => host.boot()))
  const [server, one, other] = hosts
  await serveNfs(server)
  const [a, b] = [new Node(one, join(net.shared, 'a')), new Node(other, join(net.shared, 'b'))]
  await Promise.all([a.start(server), b.start(server)])
  await until('both have opened the export', 90_000, () => answers(a) && answers(b))
  return { server, a, b }
}

/** Whether the node was last told that the server answers. */
function answers({ news }: Node): boolean {
  const last = news.findLast(({ kind }) => kind === 'reach')
  return last?.kind === 'reach' && last.reason === null
}

const target = (name: string) => `/var/lib/holdfast/mounts/${name}`

/**
 * Writes a line every 100 ms in a mount namespace of its own, as a container would, and opens the file each time; ends
 * when it cannot.
 */
async function startWriter({ host }: Node, at: string): Promise<LabProcess> {
  const script = `mount --bind ${at} /mnt; while date +%s.%N >>/mnt/lines; do sleep 0.1; done`
  const writing = await host.start('unshare', ['--mount', '--propagation', 'private', 'bash', '-c', script])
  await until('it writes', 30_000, async () => (await host.run('test', ['-s', `${at}/lines`])).code === 0)
  return writing
}

/** Waits until a program in a machine is stopped, or sees its volume read-only. */
async function untilHalted({ host }: Node, pid: number): Promise<void> {
  const isStopped = `grep -q '^State:.T' /proc/${pid}/status`
  const isReadOnly = `grep -q ' /mnt ro' /proc/${pid}/mountinfo`
  await until('who is cut off stops writing', 60_000, async () => {
    return (await host.run('bash', ['-c', `${isStopped} || ${isReadOnly}`])).code === 0
  })
}

const linesOf = async ({ host }: Node, name: string) => Number(await host.sh(`wc -l <${target(name)}/lines`))

/** Mounts a volume as soon as another node has lost it. */
async function mountInTheEnd(node: Node, volume: Volume): Promise<void> {
  for (;;) {
    const { error } = await node.ask('mount', volume, target(volume.name))
    if (!error) return
    expect(error.code).toBe('IN_USE')
  }
}

test('a volume for one node at a time: who is cut off stops writing before another may begin', async () => {
  const { a, b, server } = await makeBed()
  const volume = await a.make('db', { access: 'single' })
  await a.call('mount', volume, target('db'))
  const writing = await startWriter(a, target('db'))
  const refused = await b.ask('mount', volume, target('db'))
  expect(refused.error).toMatchObject({ code: 'IN_USE', message: expect.stringMatching(/is mounted on node a/) })

  await a.host.cut()
  await untilHalted(a, writing.pid)
  await a.host.plug()
  await until('the server answers again', 60_000, () => answers(a))
  const before = await linesOf(a, 'db')
  await until('the writer goes on', 60_000, async () => (await linesOf(a, 'db')) > before + 5)
  expect(a.news.filter(({ kind }) => kind === 'lost')).toEqual([])

  await a.host.cut()
  const taking = mountInTheEnd(b, volume).then(() => performance.now())
  await untilHalted(a, writing.pid)
  expect(performance.now()).toBeLessThan(await taking)
  const taken = await linesOf(b, 'db')
  await b.host.sh(`echo b >${target('db')}/owner; sync ${target('db')}/owner`)
  await a.host.plug()
  await until('the node hears of its loss', 60_000, () => a.news.some(({ kind }) => kind === 'lost'))
  await writing.wait(60_000)
  const late = await a.host.run('bash', ['-c', `echo a >${target('db')}/owner`], 60_000)
  expect(late.stderr).toMatch(/Read-only file system/)
  expect(await b.host.sh(`cat ${target('db')}/owner`)).toBe('b')
  expect(await linesOf(b, 'db')).toBeLessThanOrEqual(taken + 1) // What the kernel had taken already.
  expect(JSON.stringify(await a.call('check', [volume]))).toMatch(/right-lost/)
  await a.call('unmount', volume, target('db'))

  await b.host.kill()
  await mountInTheEnd(a, volume)
  await b.host.boot()
  await b.start(server)
  const back = await b.ask('mount', volume, target('db'))
  expect(back.error).toMatchObject({ code: 'IN_USE', message: expect.stringMatching(/is mounted on node a/) })
})

test('a server that is away: calls fail with its name, unmounts work, and all goes on when it is back', async () => {
  const { server, a } = await makeBed()
  const [one, two] = [await a.make('one'), await a.make('two')]
  await a.call('mount', one, target('one'))
  const write = `echo $((++i)) >>${target('one')}/lines; sync ${target('one')}/lines; sleep 0.1`
  const writing = await a.host.start('bash', ['-c', `while [ ! -e /tmp/enough ]; do ${write}; done; echo $i`])
  await until('it writes', 30_000, async () => (await linesOf(a, 'one')) > 3)
  await server.kill()
  const first = await a.ask('mount', two, target('two'))
  expect(first.error).toMatchObject({ code: 'UNAVAILABLE', message: expect.stringContaining(server.address) })
  expect(first.ms).toBeLessThan(20_000)
  const second = await a.ask('mount', two, target('two'))
  expect(second.ms).toBeLessThan(20_000)
  const snapshot = await a.ask('snapshots.create', one, { id: crypto.randomUUID(), name: 's', frozen: false })
  expect(snapshot.error).toMatchObject({ code: 'UNAVAILABLE' })
  const other = await a.ask('unmount', two, target('two'))
  expect(other.error).toBeUndefined()
  await server.boot()
  await serveNfs(server)
  await until('the server answers again', 60_000, () => answers(a))
  await a.call('mount', two, target('two'))
  await a.call('snapshots.create', one, { id: crypto.randomUUID(), name: 'after', frozen: false })
  await a.host.sh('touch /tmp/enough')
  const { stdout: written } = await writing.wait(60_000)
  expect(await a.host.sh(`seq ${written.trim()} | cmp - ${target('one')}/lines && echo all`)).toBe('all')

  await a.call('unmount', one, target('one'))
  await a.call('unmount', two, target('two'))
  await server.sh(`exportfs -ua; rm -rf ${nfsRoot}/data; mkdir ${nfsRoot}/data; exportfs -ra`)
  const draft = newVolume('three', { driver: 'nfs' })
  await until('an empty disk is not taken for the share', 60_000, async () => {
    const { error } = await a.ask('createVolume', draft)
    return error?.message.includes('is not the share that this node knows')
  })
  expect(a.news.findLast(({ kind }) => kind === 'listing')).toMatchObject({ volumes: [{}, {}] })
  await a.host.sh('rm /var/lib/holdfast/nfs/*/share.json')
  await until('what the server does not know any more is mounted anew', 60_000, async () => {
    await a.call('createVolume', draft)
    return true
  })
  expect(await server.sh(`ls ${nfsRoot}/data/volumes`)).toBe('three')
})

test('two nodes that make, snapshot and remove the same names in a storm agree in the end', async () => {
  const { a, b } = await makeBed()
  await Promise.all([a, b].map((node) => storm(node)))
  const listed = async (node: Node) =>
    await Promise.all(['x', 'y'].map((key) => node.call('shared.find', { key, options: {} })))
  expect(await listed(a)).toEqual(await listed(b))
})

async function storm(node: Node): Promise<void> {
  for (let round = 0; round < 10; round++) {
    const name = round % 2 === 0 ? 'x' : 'y'
    const draft = newVolume(name, { driver: 'nfs' })
    const made = await node.ask('createVolume', draft)
    if (made.error) {
      expect(made.error.code).toMatch(/ALREADY_EXISTS|ABORTED/)
      continue
    }
    const volume = { ...draft, state: made.value as Volume['state'] }
    await node.call('shared.publish', volume, [])
    await node.call('mount', volume, target(name))
    await node.host.sh(`echo ${volume.id} >${target(name)}/mine`)
    await node.call('snapshots.create', volume, { id: crypto.randomUUID(), name: 's', frozen: true })
    expect(await node.host.sh(`cat ${target(name)}/mine`)).toBe(volume.id)
    await node.call('unmount', volume, target(name))
    await node.call('deleteVolume', { ...volume, state: await node.call('trash.discard', volume) })
  }
}
