/**
 * A program of its own that speaks for this node on a share while nobody else does: the daemon may stop or die, and
 * containers go on with what it has mounted for them. Until then it only waits for the end of its stdin, which is that
 * of the process of the export (child.ts), its starter; a later one ends it (keeping.ts). Ends by itself when nothing
 * is mounted any more. Its argument is `KeeperOptions` as JSON.
 */

import { randomUUID } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import type { Log } from '../../src/driver.ts'
import { Claims } from './claims.ts'
import { writeJson } from './json-file.ts'
import { type KeeperOptions, keeperFile } from './keeping.ts'
import { Mounted } from './mounted.ts'
import { Nodes, OwnNode } from './nodes.ts'
import { Pulse } from './pulse.ts'

/** A server that answers does so by then; who could not speak before is silent from the first moment. */
const firstMs = 3_000
const lookMs = 1_000

const nothing = (): void => undefined
const silentLog: Log = { debug: nothing, info: nothing, warn: nothing, error: nothing }
const { label, local, holdfast, node, name, session, times } = JSON.parse(process.argv[2] ?? '{}') as KeeperOptions
const me = { node, name, session: randomUUID() }
let pulse: Pulse | undefined

for (const signal of ['SIGINT', 'SIGHUP'] as const) process.on(signal, nothing)
process.on('SIGTERM', () => void end())
for (const stream of [process.stdout, process.stderr]) stream.on('error', nothing) // Nobody reads them any more.
await writeJson(keeperFile(local), { pid: process.pid })
for (const event of ['end', 'error'] as const) process.stdin.once(event, () => void speak())
process.stdin.resume()

async function speak(): Promise<void> {
  const own = new OwnNode(`${holdfast}/nodes`, me)
  const nodes = new Nodes(`${holdfast}/nodes`, me, times)
  const mounted = new Mounted({ local, own, nodes, claims: new Claims(`${holdfast}/claims`, me) }, nothing)
  await mounted.restore()
  if (!mounted.isShowing) process.exit()
  let began = false
  const sign = async () => {
    const speaker = await own.speaker()
    if (speaker !== undefined && speaker !== (began ? me.session : session)) process.exit() // A later process was faster.
    if (began) return own.write()
    await mounted.takeOver()
    began = true
  }
  await Promise.race([sign().catch(nothing), pause(firstMs)])
  pulse = new Pulse({ label, own, mounted, times, log: silentLog, sign, silent: nothing, lost: nothing })
  pulse.start()
  while (mounted.isShowing) await pause(lookMs)
  await end()
}

async function end(): Promise<void> {
  await pulse?.stop()
  process.exit()
}
