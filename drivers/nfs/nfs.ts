/**
 * The nfs driver: volumes that every node may mount, as directories (or images) in an export of an NFS server. Here, in
 * the daemon, nothing touches an export: each has a process of its own (link.ts, child.ts), in which vfs works on the
 * mounted export (volumes.ts). What the nodes share lies there too (share.ts).
 */

import { randomUUID } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import type {
  Driver,
  DriverContext,
  DriverDescription,
  DriverEnvironment,
  DriverModule,
  Log,
  SharedCapability,
  SharedLease,
  SharedNews,
  SharedVolume,
} from '../../src/driver.ts'
import { AppError } from '../../src/errors.ts'
import type { DriverState, Finding, Volume, VolumeSpec } from '../../src/model.ts'
import { ignoring } from '../../src/system/files.ts'
import { Link, type Patience } from './link.ts'
import { type LeaseTimes, usualTimes } from './nodes.ts'
import {
  archiveOf,
  exportOf,
  hashOf,
  type NfsSettings,
  parseOptions,
  parseSettings,
  settings,
  volumeOptions,
} from './options.ts'

/** The module that `drivers/index.ts` loads. */
export const nfs: DriverModule = {
  name: 'nfs',
  summary: 'directories on an NFS server that every node of a Swarm mounts',
  settings,
  create: (given, environment) => createNfs(parseSettings(given), environment),
}

/** @param times of leases, shorter in tests */
export function createNfs(given: NfsSettings, environment: DriverEnvironment, times: LeaseTimes = usualTimes): Driver {
  const links = new Links(given, environment, times)
  const on = (volume: Pick<VolumeSpec, 'options'>) => links.of(volume)
  type Call = <T>(
    ctx: DriverContext,
    patience: Patience,
    method: string,
    volume: Pick<VolumeSpec, 'options'>,
    ...rest: readonly unknown[]
  ) => Promise<T>
  const call: Call = async (ctx, patience, method, volume, ...rest) =>
    (await on(volume)).call(ctx, patience, method, volume, ...rest)
  return {
    name: 'nfs',
    scope: 'global',
    volumeOptions,
    start: (ctx, known) => links.start(ctx.log, known),
    stop: () => links.stop(),
    describe: (ctx) => describe(ctx, links),
    check: (ctx, known) => check(ctx, links, known),
    createVolume: async (ctx, spec) => {
      parseOptions(spec)
      return call<DriverState>(ctx, spec.size === null ? 'short' : 'long', 'createVolume', spec)
    },
    findVolume: (ctx, volume) => call(ctx, 'look', 'findVolume', volume),
    deleteVolume: (ctx, volume) => call(ctx, 'long', 'deleteVolume', volume),
    mountpoint: (_volume, target) => target,
    mount: (ctx, volume, target) => call(ctx, 'short', 'mount', volume, target),
    unmount: (ctx, volume, target) => call(ctx, 'local', 'unmount', volume, target),
    usage: (ctx, volume, exact) => call(ctx, exact ? 'long' : 'look', 'usage', volume, exact),
    trash: {
      discard: (ctx, volume) => call(ctx, 'short', 'trash.discard', volume),
      restore: (ctx, volume, name) => call(ctx, 'short', 'trash.restore', volume, name),
    },
    snapshots: {
      create: (ctx, volume, snapshot) => call(ctx, 'long', 'snapshots.create', volume, snapshot),
      find: (ctx, volume, snapshot) => call(ctx, 'look', 'snapshots.find', volume, snapshot),
      delete: (ctx, volume, snapshot) => call(ctx, 'long', 'snapshots.delete', volume, snapshot),
      mountpoint: (_volume, _snapshot, target) => target,
      mount: (ctx, volume, snapshot, target) => call(ctx, 'short', 'snapshots.mount', volume, snapshot, target),
      unmount: (ctx, volume, snapshot, target) => call(ctx, 'local', 'snapshots.unmount', volume, snapshot, target),
      isCheap: (ctx, volume) => call(ctx, 'look', 'snapshots.isCheap', volume),
      open: (ctx, volume, snapshot, target) => call(ctx, 'short', 'snapshots.open', volume, snapshot, target),
    },
    clone: {
      create: async (ctx, spec, source, snapshot) => {
        await links.requireSame(spec, source)
        return call(ctx, 'long', 'clone.create', spec, source, snapshot)
      },
    },
    revert: { revert: (ctx, volume, snapshot) => call(ctx, 'long', 'revert.revert', volume, snapshot) },
    replace: { replace: (ctx, volume, from) => call(ctx, 'long', 'replace.replace', volume, from) },
    resize: { resize: (ctx, volume, size) => call(ctx, 'long', 'resize.resize', volume, size) },
    trim: { trim: (ctx, volume) => call(ctx, 'long', 'trim.trim', volume) },
    shared: sharedOn(links, call),
  }
}

/** The processes of the exports that this node knows of. */
class Links {
  readonly given: NfsSettings
  readonly #root: string
  readonly #archive: DriverEnvironment['archive']
  readonly #times: LeaseTimes
  readonly #links = new Map<string, Link>()
  readonly #listeners = new Set<(news: SharedNews) => void>()
  #opened: { readonly node: string; readonly log: Log } | undefined

  constructor(given: NfsSettings, { root, archive }: DriverEnvironment, times: LeaseTimes) {
    this.given = given
    this.#root = root
    this.#archive = archive
    this.#times = times
  }

  /** Asks no server: an export is mounted when it is first needed. */
  async start(log: Log, known: readonly Volume[]): Promise<void> {
    this.#opened ??= { node: await nodeId(this.#root), log }
    if (this.given.server !== null && this.given.export !== null) this.default()
    for (const volume of known) await this.of(volume).catch(() => undefined)
  }

  async stop(): Promise<void> {
    this.#opened = undefined
    const links = [...this.#links.values()]
    this.#links.clear()
    await Promise.all(links.map((link) => link.stop()))
  }

  all(): readonly Link[] {
    return [...this.#links.values()]
  }

  /** @throws INVALID_ARGUMENT when the settings name no export */
  default(): Link {
    return this.#at({ server: null, export: null })
  }

  async of({ options }: Pick<VolumeSpec, 'options'>): Promise<Link> {
    const { server, export: path } = parseOptions({ id: '', name: '', size: null, options })
    return this.#at({ server, export: path })
  }

  async requireSame(one: VolumeSpec, other: Volume): Promise<void> {
    const [here, there] = [await this.of(one), await this.of(other)]
    if (here === there) return
    throw new AppError(
      'NOT_SUPPORTED',
      `volume ${one.name} would be on ${here.label}, and ${other.name} is on ${there.label}; a clone stays on its server: ` +
        'leave server and export out, or restore a backup there',
    )
  }

  async listen(listener: (news: SharedNews) => void): Promise<() => void> {
    this.#listeners.add(listener)
    for (const link of this.all()) link.watch()
    return () => void this.#listeners.delete(listener)
  }

  #at(options: { readonly server: string | null; readonly export: string | null }): Link {
    const place = exportOf(this.given, options)
    const hash = hashOf(place)
    const known = this.#links.get(hash)
    if (known) return known
    if (!this.#opened) throw new AppError('UNAVAILABLE', 'the nfs driver is not started yet; try again in a moment')
    const { node, log } = this.#opened
    const site = { place, root: this.#root, node, name: hostname(), times: this.#times }
    const tell = (news: SharedNews) => {
      for (const listener of this.#listeners) listener(news)
    }
    const link = new Link(site, log, tell, this.#archive(archiveOf(this.#root, place)))
    this.#links.set(hash, link)
    if (this.#listeners.size > 0) link.watch()
    return link
  }
}

/** Names this node to the others; made once. */
async function nodeId(root: string): Promise<string> {
  const path = `${root}/nfs/node`
  await mkdir(`${root}/nfs`, { recursive: true, mode: 0o700 })
  await ignoring(writeFile(path, randomUUID(), { flag: 'wx', mode: 0o600 }), 'EEXIST')
  const id = (await readFile(path, 'utf8')).trim()
  if (/^[0-9a-f-]{36}$/.test(id)) return id
  throw new AppError('CORRUPT', `${path} does not hold this node's id; remove it, and a new one is made`)
}

async function describe(ctx: DriverContext, links: Links): Promise<DriverDescription> {
  const described = await Promise.all(links.all().map((link) => link.call<DriverDescription>(ctx, 'look', 'describe')))
  const [only] = described
  if (only && described.length === 1) return only
  const facts = described.flatMap((one) =>
    Object.entries(one.facts).map(([key, value]) => [`${one.facts.export} ${key}`, value] as const),
  )
  return { facts: { exports: String(described.length), ...Object.fromEntries(facts) }, storage: null }
}

async function check(ctx: DriverContext, links: Links, known: readonly Volume[]): Promise<readonly Finding[]> {
  const placed = await Promise.all(known.map(async (volume) => ({ volume, link: await links.of(volume) })))
  const found = links.all().map(async (link) => {
    const own = placed.filter((one) => one.link === link).map(({ volume }) => volume)
    try {
      return await link.call<Finding[]>(ctx, 'long', 'check', own)
    } catch (error) {
      ctx.signal.throwIfAborted()
      return [unreachable(link, error as Error)]
    }
  })
  return (await Promise.all(found)).flat()
}

function unreachable({ label }: Link, { message }: Error): Finding {
  return {
    severity: 'error',
    check: 'share-away',
    subject: label,
    message,
    remedy: 'see to the NFS server and the network',
  }
}

type VolumeCall = <T>(
  ctx: DriverContext,
  patience: Patience,
  method: string,
  volume: Pick<VolumeSpec, 'options'>,
  ...rest: readonly unknown[]
) => Promise<T>

function sharedOn(links: Links, call: VolumeCall): SharedCapability {
  return {
    exclusive: async (ctx, what, work) => exclusive(await links.of(what), ctx, what.key, work),
    publish: (ctx, volume, snapshots) => call(ctx, 'short', 'shared.publish', volume, snapshots),
    find: async (ctx, what) => (await links.of(what)).call(ctx, 'look', 'shared.find', what.key),
    watch: async (signal, tell) => {
      if (signal.aborted) return
      const stopListening = await links.listen(tell)
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
      stopListening()
    },
    takeover: (ctx, volume, force) => call(ctx, 'long', 'shared.takeover', volume, force),
    lease: async (ctx, what) => lease(await links.of(what), ctx, what.key),
  }
}

async function exclusive<T>(
  link: Link,
  ctx: DriverContext,
  key: string,
  work: (ctx: DriverContext, now: SharedVolume | null) => Promise<T>,
): Promise<T> {
  const now = await link.call<SharedVolume | null>(ctx, 'short', 'shared.hold', key)
  const lost = new AbortController()
  const forget = link.onLost(`lock ${key}`, (reason) => lost.abort(reason))
  try {
    return await work({ ...ctx, signal: AbortSignal.any([ctx.signal, lost.signal]) }, now)
  } finally {
    forget()
    // Lost, it is given back already; what cannot be said now is over when the process has ended.
    const after = { ...ctx, signal: new AbortController().signal }
    if (!lost.signal.aborted) await link.call(after, 'short', 'shared.giveBack', key).catch(() => undefined)
  }
}

async function lease(link: Link, ctx: DriverContext, key: string): Promise<SharedLease | null> {
  if (!/^[a-zA-Z0-9_.-]{1,127}$/.test(key)) throw new AppError('INVALID_ARGUMENT', `'${key}' is no key of a lease`)
  if (!(await link.call<boolean>(ctx, 'short', 'shared.lease', key))) return null
  const lost = new AbortController()
  const forget = link.onLost(`lease ${key}`, (reason) => lost.abort(reason))
  return {
    signal: lost.signal,
    release: async () => {
      forget()
      const after = { ...ctx, signal: new AbortController().signal }
      if (!lost.signal.aborted) await link.call(after, 'short', 'shared.endLease', key)
    },
  }
}
