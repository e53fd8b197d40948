/** The daemon itself: its start, and its memory idle, with many volumes and after many cycles. */

import { readFileSync } from 'node:fs'
import { type Holdfast, startHoldfast } from '../support/holdfast.ts'
import { RawConnection } from '../support/raw-http.ts'
import { openSandbox } from '../support/sandbox.ts'
import { median, ms, report, timed } from './measure.ts'

const volumes = 10_000
const cycles = 10_000
const restarts = 5

/** Resident memory, in MB of 10^6 bytes. */
function resident(pid: number): string {
  const kib = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
  return `${Math.round((Number(kib) * 1024) / 1e6)} MB`
}

async function startTime(holdfast: Holdfast): Promise<string> {
  const times: number[] = []
  for (let turn = 0; turn < restarts; turn++) {
    await holdfast.stop()
    times.push(await timed(() => holdfast.start()))
  }
  return `${ms(median(times))} ms`
}

async function each(
  connections: readonly RawConnection[],
  count: number,
  work: (it: RawConnection, n: number) => Promise<unknown>,
) {
  let next = 0
  await Promise.all(
    connections.map(async (connection) => {
      while (next < count) await work(connection, next++)
    }),
  )
}

async function cycle(connection: RawConnection, number: number): Promise<void> {
  const volume = { Name: `cycle-${number}` }
  for (const [path, body] of [
    ['Create', volume],
    ['Mount', { ...volume, ID: 'id' }],
    ['Unmount', { ...volume, ID: 'id' }],
    ['Remove', volume],
  ] as const) {
    const answer = await connection.request(`/VolumeDriver.${path}`, body)
    if (!answer.body.includes('"Err":""')) throw new Error(answer.body)
  }
}

const sandbox = await openSandbox()
try {
  const holdfast = await startHoldfast(sandbox, ['--trash-keep', '0s', '--log-level', 'warn'])
  const rows: string[][] = [['start to first answer, no volumes', await startTime(holdfast)]]
  const pid = holdfast.pid
  rows.push(['resident, idle', resident(pid)])
  const connections = await Promise.all(Array.from({ length: 4 }, () => RawConnection.open(holdfast.pluginSocket)))
  await each(connections, volumes / 2, (it, n) => it.request('/VolumeDriver.Create', { Name: `v-${n}` }))
  await connections[0]?.request('/VolumeDriver.List', {})
  rows.push([`resident, ${volumes / 2} volumes, listed`, resident(pid)])
  for (const part of [1, 2, 3, 4]) {
    await each(connections, cycles / 4, (it, n) => cycle(it, part * cycles + n))
    rows.push([`resident, after ${(part * cycles) / 4} create, mount, unmount, remove cycles`, resident(pid)])
  }
  await each(connections, volumes / 2, (it, n) => it.request('/VolumeDriver.Create', { Name: `w-${n}` }))
  for (const connection of connections) connection.close()
  rows.push([`start to first answer, ${volumes} volumes`, await startTime(holdfast)])
  rows.push([`resident, ${volumes} volumes, just started`, resident(holdfast.pid)])
  report('The daemon', ['what', 'figure'], rows)
} finally {
  await sandbox.close()
}
