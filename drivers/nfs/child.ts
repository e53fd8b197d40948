/**
 * A program of its own: everything that touches one export, for the daemon that started it (link.ts). It may hang as
 * long as the server lets it. Ends at once, with all that it has started, when its daemon is gone; the signals that
 * stop a daemon do not stop it.
 */

import { randomUUID } from 'node:crypto'
import type { DriverContext, Log, SharedNews } from '../../src/driver.ts'
import { AppError, toAppError } from '../../src/errors.ts'
import type { Volume } from '../../src/model.ts'
import { check, describe } from './check.ts'
import { type Claim, isClaim } from './claims.ts'
import { endKeeper, Keeping } from './keeping.ts'
import { Mounted } from './mounted.ts'
import { placeOf, unbind } from './mounting.ts'
import { labelOf } from './options.ts'
import { takesConnections } from './probe.ts'
import type { FromChild, SiteOptions, ToChild } from './protocol.ts'
import { Pulse } from './pulse.ts'
import { RemoteArchive } from './remote-archive.ts'
import { explained, openShare, type Share } from './share.ts'
import * as volumes from './volumes.ts'
import { Watcher } from './watcher.ts'

/** The export, open. */
interface Site extends volumes.Desk {
  readonly watcher: Watcher
  readonly pulse: Pulse
}

const retryMs = 2_000
/** An export takes less than a second to open: after so long it is asked whether the server is there at all. */
const slowMs = 3_000
const probeMs = 3_000
const progressEveryMs = 100

const session = randomUUID()
const calls = new Map<number, AbortController>()
const leases = new Map<string, Claim>()
const archive = new RemoteArchive(say)
let options: SiteOptions | undefined
let opening: Promise<Site> | undefined
let site: Site | undefined
let watched = false

for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => undefined)
// This process leads its group.
process.on('disconnect', () => process.kill(-process.pid, 'SIGKILL'))
process.on('message', (message: ToChild) => {
  if (message.type === 'open') begin(message.options)
  else if (message.type === 'call') void answer(message)
  else if (message.type === 'cancel') calls.get(message.id)?.abort(new AppError('CANCELLED', 'cancelled'))
  else if (message.type === 'watch') watch()
  else if (message.type === 'end') void end()
  else archive.hear(message)
})

function say(message: FromChild): void {
  process.send?.(message)
}

function tell(news: SharedNews): void {
  say({ type: 'news', news })
}

const log: Log = {
  debug: (fields, message) => say({ type: 'log', level: 'debug', fields, message }),
  info: (fields, message) => say({ type: 'log', level: 'info', fields, message }),
  warn: (fields, message) => say({ type: 'log', level: 'warn', fields, message }),
  error: (fields, message) => say({ type: 'log', level: 'error', fields, message }),
}

function begin(given: SiteOptions): void {
  options = given
  void opened().catch(() => undefined)
}

/** The export, opened. Who asks while that is tried shares the trial; after a failure it is tried again by itself. */
function opened(): Promise<Site> {
  opening ??= open().then(
    (open) => {
      site = open
      return open
    },
    (error: unknown) => {
      opening = undefined
      setTimeout(() => void opened().catch(() => undefined), retryMs)
      throw error
    },
  )
  return opening
}

async function open(): Promise<Site> {
  if (!options) throw new AppError('INTERNAL', 'a call came before the export was named')
  const { node, name, times, place } = options
  const storage = labelOf(place)
  const away = (reason: string) => tell({ kind: 'reach', storage, reason })
  const ending = new AbortController()
  const doubt = async () => {
    if (!(await takesConnections(place, probeMs)) && !ending.signal.aborted) away('no answer yet')
  }
  const slow = setTimeout(() => void doubt(), slowMs)
  try {
    const ctx: DriverContext = { signal: new AbortController().signal, log, progress: () => undefined }
    const share = await openShare(options, { node, name, session }, archive, ctx)
    const keeping = new Keeping({
      ...{ label: storage, local: share.local, holdfast: share.holdfast },
      node,
      name,
      session,
      times,
    })
    const mounted = new Mounted(share, () => keeping.begin())
    await endKeeper(share.local)
    await mounted.restore()
    await mounted.takeOver()
    await share.nodes.look()
    const site = { share, mounted, ...looksAt(share, mounted, options) }
    tell({ kind: 'reach', storage, reason: null })
    return site
  } catch (error) {
    away(toAppError(error).message)
    throw error
  } finally {
    clearTimeout(slow)
    ending.abort()
  }
}

function looksAt(share: Share, mounted: Mounted, { place, times }: SiteOptions): Pick<Site, 'watcher' | 'pulse'> {
  const { label, own } = share
  const isThere = (timeoutMs: number) => takesConnections(place, timeoutMs)
  const watcher = new Watcher({ share, log, tell, isThere, stale: () => process.exit(1) })
  const lost = (volumeId: string, detail: string) => tell({ kind: 'lost', storage: label, volumeId, detail })
  const pulse = new Pulse({ label, own, mounted, times, log, sign: () => own.write(), silent: forfeited, lost })
  if (watched) watcher.watch()
  watcher.start()
  pulse.start()
  return { watcher, pulse }
}

function watch(): void {
  watched = true
  site?.watcher.watch()
}

/** What others may take by now, this node does not have any more. */
function forfeited(): void {
  archive.forfeit()
  for (const key of site?.share.turns.forfeit() ?? []) say({ type: 'lost', key: `lock ${key}` })
  for (const [key, claim] of leases) {
    say({ type: 'lost', key: `lease ${key}` })
    void site?.share.claims.release(claim).catch(() => undefined)
  }
  leases.clear()
}

async function end(): Promise<void> {
  const last = site
  last?.watcher.stop()
  await last?.pulse.stop()
  await Promise.all([last?.share.work.cleaner.stop(), last?.share.data.cleaner.stop(), last?.share.archive.stop()])
  await last?.share.own.leave().catch(() => undefined)
  say({ type: 'ended' })
}

type Method = (desk: Site, ctx: DriverContext, ...args: never[]) => unknown

const methods: Readonly<Record<string, Method>> = {
  createVolume: volumes.create,
  findVolume: volumes.find,
  deleteVolume: volumes.remove,
  mount: volumes.mount,
  unmount: volumes.unmount,
  usage: volumes.usage,
  describe,
  check,
  'trash.discard': volumes.discard,
  'trash.restore': volumes.restore,
  'snapshots.create': volumes.takeSnapshot,
  'snapshots.find': volumes.findSnapshot,
  'snapshots.delete': volumes.dropSnapshot,
  'snapshots.mount': volumes.showSnapshot,
  'snapshots.unmount': volumes.hideSnapshot,
  'snapshots.isCheap': volumes.isCheap,
  'snapshots.open': volumes.openForBackup,
  'clone.create': volumes.clone,
  'revert.revert': volumes.revert,
  'replace.replace': volumes.replace,
  'resize.resize': volumes.resize,
  'trim.trim': volumes.trim,
  'shared.publish': (desk, _ctx, ...args: Tail<typeof volumes.publish>) => volumes.publish(desk, ...args),
  'shared.find': (desk, _ctx, name: string) => volumes.look(desk, name),
  'shared.takeover': volumes.takeover,
  'shared.hold': async (desk, ctx, key: string) => {
    await desk.share.turns.hold(key, ctx.signal)
    return volumes.look(desk, key)
  },
  'shared.giveBack': (desk, _ctx, key: string) => desk.share.turns.giveBack(key),
  'shared.lease': async ({ share }, _ctx, key: string) => {
    const result = await share.claims.take(`lease.${key}`, (holder) => share.nodes.isOver(holder))
    if (isClaim(result)) leases.set(key, result)
    return isClaim(result)
  },
  'shared.endLease': async ({ share }, _ctx, key: string) => {
    const claim = leases.get(key)
    leases.delete(key)
    if (claim) await share.claims.release(claim)
  },
}

type Tail<F> = F extends (first: never, ...rest: infer R) => unknown ? R : never

async function answer({ id, method, args }: Extract<ToChild, { type: 'call' }>): Promise<void> {
  const controller = new AbortController()
  calls.set(id, controller)
  const { signal } = controller
  try {
    const result = await act(method, { signal, log, progress: progressOf(id) }, args)
    say({ type: 'done', id, result })
  } catch (error) {
    const { code, message, details } = explained(toAppError(error))
    const cancelled = signal.aborted && error === signal.reason
    say({ type: 'failed', id, error: { code, message: named(message), details: plain(details) }, cancelled })
  } finally {
    calls.delete(id)
  }
}

async function act(method: string, ctx: DriverContext, args: readonly unknown[]): Promise<unknown> {
  if (method === 'unmount' && (!site || site.watcher.away !== null)) return unmountAnyway(args as [Volume, string])
  const call = Object.hasOwn(methods, method) ? methods[method] : undefined
  if (!call) throw new AppError('INTERNAL', `there is no call ${method}`)
  const desk = await opened()
  ctx.signal.throwIfAborted()
  return call(desk, ctx, ...(args as never[]))
}

/** The server is away: what is mounted goes all the same, and the others hear of it when it is back. */
async function unmountAnyway([volume, target]: [Volume, string]): Promise<void> {
  const place = await placeOf(target)
  await unbind(place)
  void opened()
    .then(
      (desk) => desk.mounted.hide(volume.id, place),
      () => undefined,
    )
    .catch(() => undefined)
}

/** Paths as the server knows them. */
function named(message: string): string {
  if (!site) return message
  const { work, data, label } = site.share
  return message.replaceAll(work.root, label).replaceAll(data.root, label)
}

/** What can be sent. */
function plain(details: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  return JSON.parse(JSON.stringify(details)) as Readonly<Record<string, unknown>>
}

function progressOf(id: number): DriverContext['progress'] {
  let saidAt = Number.NEGATIVE_INFINITY
  return (done, total, unit) => {
    if (performance.now() - saidAt < progressEveryMs) return
    saidAt = performance.now()
    say({ type: 'progress', id, done, total, unit })
  }
}
