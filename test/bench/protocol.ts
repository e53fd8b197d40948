/**
 * The VolumeDriver protocol over the socket, as dockerd speaks it: requests a second and how long one takes, with 1 and 8
 * connections at 1, 100, 1,000 and 5,000 volumes.
 */

import { startHoldfast } from '../support/holdfast.ts'
import { RawConnection } from '../support/raw-http.ts'
import { openSandbox } from '../support/sandbox.ts'
import { ms, quantile, report } from './measure.ts'

const levels = [1, 100, 1000, 5000]
const connectionCounts = [1, 8]
/** Each measurement ends after this long, or after `enough` requests. */
const longestMs = 2_000
const enough = 20_000

interface Rate {
  readonly count: number
  readonly perSecond: number
  readonly p50: number
  readonly p99: number
}

type Call = (connection: RawConnection, turn: number) => Promise<{ body: string }>

/** Every connection sends its next request when it has the answer to the last one. */
async function load(connections: readonly RawConnection[], call: Call, limit = enough): Promise<Rate> {
  const samples: number[] = []
  const begun = performance.now()
  let turn = 0
  const worker = async (connection: RawConnection): Promise<void> => {
    while (turn < limit && performance.now() - begun < longestMs) {
      const sent = performance.now()
      const { body } = await call(connection, turn++)
      samples.push(performance.now() - sent)
      if (body.includes('"Err":"') && !body.includes('"Err":""')) throw new Error(body)
    }
  }
  await Promise.all(connections.map(worker))
  const seconds = (performance.now() - begun) / 1000
  return {
    count: samples.length,
    perSecond: samples.length / seconds,
    p50: quantile(samples, 0.5),
    p99: quantile(samples, 0.99),
  }
}

const name = (number: number): string => `bench-${String(number).padStart(5, '0')}`
const cell = (rate: Rate): string => `${Math.round(rate.perSecond)} (${ms(rate.p50)} / ${ms(rate.p99)})`

function calls(count: number): Readonly<Record<string, Call>> {
  return {
    Activate: (connection) => connection.request('/VolumeDriver.Capabilities', {}),
    Get: (connection, turn) => connection.request('/VolumeDriver.Get', { Name: name(turn % count) }),
    List: (connection) => connection.request('/VolumeDriver.List', {}),
    Mount: (connection, turn) =>
      connection.request('/VolumeDriver.Mount', { Name: name(turn % count), ID: `m${turn}` }),
    Unmount: (connection, turn) =>
      connection.request('/VolumeDriver.Unmount', { Name: name(turn % count), ID: `m${turn}` }),
  }
}

async function measureLevel(connections: readonly RawConnection[], count: number): Promise<string[]> {
  const { Get, List, Mount, Unmount, Activate } = calls(count) as Record<string, Call>
  const cells: string[] = []
  for (const call of [Activate, Get, List] as Call[]) cells.push(cell(await load(connections, call)))
  const mounts = await load(connections, Mount as Call, 2_000)
  const unmounts = await load(connections, Unmount as Call, mounts.count)
  // Holds that are left would slow down what is measured next.
  for (let turn = unmounts.count; turn < mounts.count; turn++) await Unmount?.(connections[0] as RawConnection, turn)
  cells.push(cell(mounts), cell(unmounts))
  let next = 0
  const extra = (turn: number): string => `extra-${count}-${connections.length}-${turn}`
  const created = await load(
    connections,
    (connection) => connection.request('/VolumeDriver.Create', { Name: extra(next++) }),
    1_000,
  )
  let gone = 0
  const removed = await load(
    connections,
    (connection) => connection.request('/VolumeDriver.Remove', { Name: extra(gone++) }),
    next,
  )
  while (gone < next) await connections[0]?.request('/VolumeDriver.Remove', { Name: extra(gone++) })
  return [...cells, cell(created), cell(removed)]
}

async function open(socket: string, count: number): Promise<RawConnection[]> {
  return Promise.all(Array.from({ length: count }, () => RawConnection.open(socket)))
}

const sandbox = await openSandbox()
try {
  const holdfast = await startHoldfast(sandbox, ['--trash-keep', '0s', '--log-level', 'warn'])
  const fill = await open(holdfast.pluginSocket, 8)
  const rows: string[][] = []
  let made = 0
  for (const count of levels) {
    await load(fill, (connection) => connection.request('/VolumeDriver.Create', { Name: name(made++) }), count - made)
    while (made < count) await fill[0]?.request('/VolumeDriver.Create', { Name: name(made++) })
    for (const width of connectionCounts) {
      const connections = await open(holdfast.pluginSocket, width)
      rows.push([String(count), String(width), ...(await measureLevel(connections, count))])
      for (const connection of connections) connection.close()
    }
  }
  for (const connection of fill) connection.close()
  const header = ['volumes', 'connections', 'Capabilities', 'Get', 'List', 'Mount', 'Unmount', 'Create', 'Remove']
  report('Protocol: requests a second (p50 / p99 in ms)', header, rows)
} finally {
  await sandbox.close()
}
