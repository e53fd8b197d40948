/**
 * The nfs driver on machines of their own, with a server on another: links that are cut in the middle, a server that dies, clocks that
 * differ, and a volume for one node at a time that is never written to by two.
 */

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import type { SharedNews } from '../../src/driver.ts'
import type { Volume } from '../../src/model.ts'
import { newVolume } from '../conformance/driver-bed.ts'
import { LabNetwork } from '../support/lab.ts'
import type { LabHost } from '../support/lab-host.ts'
import { serveNfs } from '../support/lab-nfs.ts'
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

  async start(server: LabHost): Promise<void> {
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
    writeFileSync(`${base}.request`, readFileSync(`${base}.part`))
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
  return { server, a, b }
}

/** Whether the node was last told that the server answers. */
function answers({ news }: Node): boolean {
  const last = news.findLast(({ kind }) => kind === 'reach')
  return last?.kind === 'reach' && last.reason === null
}

const target = (name: string) => `/var/lib/holdfast/mounts/${name}`

/** Writes a line every 100 ms in a mount namespace of its own, as a container would, and opens the file each time; ends when it cannot. */
function writer(at: string): string {
  return `mount --bind ${at} /mnt; while date +%s.%N >>/mnt/lines; do sleep 0.1; done`
}

test('a volume for one node at a time: who is cut off stops writing before another may begin', async () => {
  const { a, b } = await makeBed()
  const volume = await a.make('db', { access: 'single' })
  await until('the other node hears of it', 10_000, () =>
    b.news.some((news) => 'volume' in news && news.volume.volume.id === volume.id),
  )
  await a.call('mount', volume, target('db'))
  const writing = await a.host.start('unshare', [
    '--mount',
    '--propagation',
    'private',
    'bash',
    '-c',
    writer(target('db')),
  ])
  const refused = await b.ask('mount', volume, target('db'))
  expect(refused.error).toMatchObject({ code: 'IN_USE', message: expect.stringMatching(/is mounted on node a/) })
  const cutAt = performance.now()
  await a.host.cut()
  await until('the node that was cut off gives up', 60_000, () => a.news.some(({ kind }) => kind === 'lost'))
  const gaveUpAfter = performance.now() - cutAt
  let taken = await b.ask('mount', volume, target('db'))
  while (taken.error) {
    expect(taken.error.code).toBe('IN_USE')
    taken = await b.ask('mount', volume, target('db'))
  }
  const takenAfter = performance.now() - cutAt
  expect(gaveUpAfter).toBeLessThan(takenAfter)
  await b.host.sh(`echo b >${target('db')}/owner; sync ${target('db')}/owner`)
  await a.host.plug()
  await until('the server answers again', 60_000, () => answers(a))
  const { stderr } = await writing.wait(60_000)
  expect(stderr).toMatch(/Read-only file system|Input\/output error|Stale/)
  const late = await a.host.run('bash', ['-c', `echo a >${target('db')}/owner`], 60_000)
  expect(late.stderr).toMatch(/Read-only file system/)
  expect(await b.host.sh(`cat ${target('db')}/owner`)).toBe('b')
  const findings = JSON.stringify(await a.call('check', [volume]))
  expect(findings).toMatch(/right-lost/)
})

test('a server that is away: calls fail with its name, unmounts work, and all goes on when it is back', async () => {
  const { server, a } = await makeBed()
  const [one, two] = [await a.make('one'), await a.make('two')]
  await a.call('mount', one, target('one'))
  const writing = await a.host.start('bash', [
    '-c',
    `for i in $(seq 300); do echo $i >>${target('one')}/lines; sync ${target('one')}/lines; sleep 0.1; done`,
  ])
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
  expect((await writing.wait(120_000)).code).toBe(0)
  expect(await a.host.sh(`wc -l <${target('one')}/lines`)).toBe('300')
  expect(await a.host.sh(`tail -n 1 ${target('one')}/lines`)).toBe('300')
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
