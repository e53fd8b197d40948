/**
 * A driver in memory for the tests of the services. Its storage outlives it, as a disk does, so that a second core can be
 * started on what a crash has left. Every call is recorded; a test can make one fail, or wait at a gate. A volume's content is one
 * text; while it is mounted that is the file `data.txt`, and on a device the bytes at its beginning.
 */

import { existsSync, mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { DeviceCapability, Driver, DriverContext, DriverModule } from '../../src/driver.ts'
import { AppError } from '../../src/errors.ts'
import type { DriverState, Finding, Snapshot, Volume, VolumeSpec } from '../../src/model.ts'
import type { FakeShare } from './fake-share.ts'

interface StoredVolume {
  name: string
  size: number | null
  trashed: boolean
  content: string
  readonly snapshots: Map<string, string>
}

/** What the fake disk holds, by the volumes' ids. */
export type FakeStorage = Map<string, StoredVolume>

/** A call that waits. */
export interface Gate {
  /** Resolves when a call has come. */
  readonly reached: Promise<void>
  /** Lets this call and later ones go on. */
  open(): void
}

export interface FakeDriver extends Driver {
  readonly module: DriverModule
  readonly storage: FakeStorage
  /** `createVolume db`, `snapshots.create db@s1`, in the order they came. */
  readonly calls: readonly string[]
  /** Targets that are mounted, or hold a snapshot's device. */
  readonly mounted: ReadonlySet<string>
  /** What its last start was told of. */
  readonly known: { readonly volumes: readonly Volume[]; readonly snapshots: readonly Snapshot[] }
  /** The next call of this name fails, after its work when `late`. */
  fail(call: string, error: AppError, late?: boolean): void
  /** Calls of this name wait, before their work, until the gate opens or their signal aborts. */
  block(call: string): Gate
}

export interface FakeDriverOptions {
  readonly name?: string
  readonly storage?: FakeStorage
  /** Capabilities that it lacks. */
  readonly without?: readonly ('trash' | 'snapshots' | 'clone' | 'revert' | 'replace' | 'resize' | 'trim')[]
  readonly defaultSize?: number
  /** What is wrong with its storage. */
  readonly findings?: readonly Finding[]
  /** Whether a snapshot costs next to nothing; default true. */
  readonly cheap?: boolean
  /** What a backup of a snapshot reads; default a tree. */
  readonly source?: 'tree' | 'block'
  /** Its volumes are devices: files in this directory, by id, while they are open; they outlive it as its storage does. */
  readonly devices?: string
  /** Its storage is this one, which other nodes use too; with the name that this node has there. */
  readonly share?: { readonly at: FakeShare; readonly node: string }
}

/** Where a mounted volume has its content. */
const dataFile = 'data.txt'

interface Barrier extends Gate {
  readonly opened: Promise<void>
  arrive(): void
}

function barrier(): Barrier {
  const opened = Promise.withResolvers<void>()
  const reached = Promise.withResolvers<void>()
  return { opened: opened.promise, reached: reached.promise, open: opened.resolve, arrive: reached.resolve }
}

async function pass(gate: Barrier | undefined, signal: AbortSignal): Promise<void> {
  if (!gate) return
  gate.arrive()
  const aborted = Promise.withResolvers<never>()
  signal.addEventListener('abort', () => aborted.reject(signal.reason), { once: true })
  await Promise.race([gate.opened, aborted.promise])
}

/** A file that reads as `content`, and then zeros to `size`. */
function writeDevice(file: string, content: string, size: number): void {
  writeFileSync(file, content)
  truncateSync(file, size)
}

/** What the driver keeps of a volume; its place is not part of it, so that undoing may start from an old record. */
const state: DriverState = { kind: 'memory' }

/** A started or startable driver; its options are `colour` and `adopt`. */
export function fakeDriver(options: FakeDriverOptions = {}): FakeDriver {
  const { name = 'fake', without = [], cheap = true, devices, share } = options
  const storage = share?.at.storage ?? options.storage ?? new Map()
  const source = options.source ?? (devices === undefined ? 'tree' : 'block')
  const calls: string[] = []
  const mounted = new Set<string>()
  const known = { volumes: [] as readonly Volume[], snapshots: [] as readonly Snapshot[] }
  const failures = new Map<string, { error: AppError; late: boolean }>()
  const gates = new Map<string, Barrier>()

  async function call<T>(what: string, subject: string, ctx: DriverContext, work: () => T): Promise<T> {
    calls.push(`${what} ${subject}`)
    await pass(gates.get(what), ctx.signal)
    ctx.signal.throwIfAborted()
    const failure = failures.get(what)
    if (failure) failures.delete(what)
    if (failure && !failure.late) throw failure.error
    if (what !== 'start' && what !== 'unmount') share?.at.requireReach()
    const result = work()
    if (failure) throw failure.error
    return result
  }

  function stored({ id, name: wanted }: Pick<Volume, 'id' | 'name'>): StoredVolume {
    const found = storage.get(id)
    if (found) return found
    throw new AppError('NOT_FOUND', `the data of volume ${wanted} is gone`)
  }

  function make(spec: VolumeSpec, content: string, size: number | null): DriverState {
    const other = [...storage].find(([id, volume]) => id !== spec.id && volume.name === spec.name && !volume.trashed)
    if (other && share && !share.at.records.has(other[0])) storage.delete(other[0])
    else if (other) throw new AppError('ALREADY_EXISTS', `data of another volume stands at the place of ${spec.name}`)
    if (!storage.has(spec.id)) {
      storage.set(spec.id, { name: spec.name, size, trashed: false, content, snapshots: new Map() })
    }
    return state
  }

  function contentOf(volume: Volume, snapshot: Snapshot): string {
    const content = stored(volume).snapshots.get(snapshot.id)
    if (content === undefined) throw new AppError('NOT_FOUND', `the data of ${volume.name}@${snapshot.name} is gone`)
    return content
  }

  function show(target: string, content: string): void {
    mkdirSync(target, { recursive: true })
    mounted.add(target)
    if (content !== '' && !existsSync(join(target, dataFile))) writeFileSync(join(target, dataFile), content)
  }

  /** What containers, or a restore, have made of it meanwhile. */
  function readBack({ id }: Volume, target: string): void {
    const volume = storage.get(id)
    if (volume && existsSync(join(target, dataFile))) volume.content = readFileSync(join(target, dataFile), 'utf8')
  }

  function hide(target: string): void {
    rmSync(target, { recursive: true, force: true })
    mounted.delete(target)
  }

  const deviceOf = ({ id }: Pick<Volume, 'id'>): string => join(devices ?? '', id)

  function drop(id: string): void {
    storage.delete(id)
    if (devices !== undefined) rmSync(deviceOf({ id }), { force: true })
  }

  const ref = (volume: Volume, snapshot: { readonly name: string }): string => `${volume.name}@${snapshot.name}`

  const capabilities = {
    trash: {
      discard: (ctx, volume) =>
        call('trash.discard', volume.name, ctx, () => {
          share?.at.requireUnused(share.node, volume)
          stored(volume).trashed = true
          share?.at.moved(volume.id)
          return state
        }),
      restore: (ctx, volume, as) =>
        call('trash.restore', as, ctx, () => {
          Object.assign(stored(volume), { trashed: false, name: as })
          share?.at.moved(volume.id)
          return state
        }),
    },
    snapshots: {
      create: (ctx, volume, snapshot) =>
        call('snapshots.create', ref(volume, snapshot), ctx, () => {
          const { content, snapshots } = stored(volume)
          snapshots.set(snapshot.id, content)
          return { state, atomic: snapshot.frozen, used: 7 }
        }),
      find: async (_ctx, volume, snapshot) =>
        storage.get(volume.id)?.snapshots.has(snapshot.id) ? { state, atomic: false, used: 7 } : null,
      delete: (ctx, volume, snapshot) =>
        call('snapshots.delete', ref(volume, snapshot), ctx, () => {
          storage.get(volume.id)?.snapshots.delete(snapshot.id)
          share?.at.moved(volume.id)
        }),
      mountpoint: (_volume, _snapshot, target) => target,
      mount: (ctx, volume, snapshot, target) =>
        call('snapshots.mount', ref(volume, snapshot), ctx, () => {
          show(target, contentOf(volume, snapshot))
        }),
      unmount: (ctx, volume, snapshot, target) =>
        call('snapshots.unmount', ref(volume, snapshot), ctx, () => hide(target)),
      isCheap: async () => cheap,
      open: (ctx, volume, snapshot, target, base) =>
        call('snapshots.open', `${ref(volume, snapshot)} since ${base?.name}`, ctx, () => {
          const content = contentOf(volume, snapshot)
          show(target, content)
          if (source === 'tree') return { kind: 'tree', root: target, compare: 'content' } as const
          const device = join(target, 'device')
          const size = snapshot.size ?? content.length
          if (!existsSync(device)) writeDevice(device, content, size)
          const allocated = content === '' ? [] : [{ start: 0, end: content.length }]
          const isSame = base && contentOf(volume, base) === content
          return { kind: 'block', device, size, allocated, changed: isSame ? [] : base && allocated } as const
        }),
    },
    clone: {
      create: (ctx, spec, source, snapshot) =>
        call('clone.create', spec.name, ctx, () =>
          make(spec, contentOf(source, snapshot), spec.size ?? stored(source).size),
        ),
    },
    revert: {
      revert: (ctx, volume, snapshot) =>
        call('revert.revert', ref(volume, snapshot), ctx, () => {
          stored(volume).content = contentOf(volume, snapshot)
          return state
        }),
    },
    replace: {
      replace: (ctx, volume, from) =>
        call('replace.replace', volume.name, ctx, () => {
          const { content, size } = storage.get(from.id) ?? stored(volume)
          Object.assign(stored(volume), { content, ...(devices !== undefined && { size }) })
          drop(from.id)
          return state
        }),
    },
    resize: {
      resize: (ctx, volume, size) =>
        call('resize.resize', volume.name, ctx, () => {
          stored(volume).size = size
          return state
        }),
    },
    trim: { trim: (ctx, volume) => call('trim.trim', volume.name, ctx, () => 1024) },
  } satisfies Partial<Driver>

  const device: DeviceCapability = {
    create: (ctx, spec, size) =>
      call('device.create', spec.name, ctx, () => {
        mkdirSync(devices ?? '', { recursive: true })
        if (!storage.has(spec.id)) writeDevice(deviceOf(spec), '', size)
        return make(spec, '', size)
      }),
    open: (ctx, volume) => call('device.open', volume.name, ctx, () => deviceOf(volume)),
    close: (ctx, volume) =>
      call('device.close', volume.name, ctx, () => {
        if (!existsSync(deviceOf(volume))) return state
        const content = readFileSync(deviceOf(volume), 'latin1').replace(/\0*$/, '')
        if (content === '') throw new AppError('FAILED_PRECONDITION', `volume ${volume.name} holds no file system`)
        stored(volume).content = content
        return state
      }),
  }

  const driver: Driver = {
    name,
    scope: share ? 'global' : 'local',
    ...(options.defaultSize !== undefined && { defaultSize: options.defaultSize }),
    volumeOptions: {
      colour: { description: 'means nothing' },
      adopt: { description: 'means nothing' },
      access: { description: 'single: one node at a time' },
    },
    start: (ctx, volumes, snapshots) =>
      call('start', name, ctx, () => void Object.assign(known, { volumes, snapshots })),
    stop: async () => undefined,
    describe: (ctx) =>
      call('describe', name, ctx, () => ({
        facts: { kind: 'memory' },
        storage: { size: 100, free: 40 },
        gauges: { data_used_ratio: 0.6 },
      })),
    check: (ctx) => call('check', name, ctx, () => options.findings ?? []),
    createVolume: (ctx, spec) => call('createVolume', spec.name, ctx, () => make(spec, '', spec.size)),
    findVolume: async (_ctx, { id }) => (storage.get(id)?.trashed === false ? state : null),
    deleteVolume: (ctx, volume) =>
      call('deleteVolume', volume.name, ctx, () => {
        drop(volume.id)
        share?.at.moved(volume.id)
      }),
    mountpoint: (volume, target) => {
      if (volume.state?.['kind'] === 'memory') return target
      throw new AppError('CORRUPT', `the record of volume ${volume.name} does not say how it is kept`)
    },
    mount: (ctx, volume, target) =>
      call('mount', volume.name, ctx, () => {
        const { content } = stored(volume)
        if (share && volume.options['access'] === 'single') share.at.claim(share.node, volume)
        show(target, content)
        share?.at.mounted(share.node, volume.id, true)
      }),
    unmount: (ctx, volume, target) =>
      call('unmount', volume.name, ctx, () => {
        readBack(volume, target)
        hide(target)
        share?.at.mounted(share.node, volume.id, false)
      }),
    usage: (ctx, volume) => call('usage', volume.name, ctx, () => ({ used: 1, size: stored(volume).size })),
    ...(devices !== undefined && { device }),
    ...(share && { shared: share.at.join(share.node) }),
    ...Object.fromEntries(Object.entries(capabilities).filter(([key]) => !without.some((it) => it === key))),
  }
  const module: DriverModule = {
    name,
    summary: 'in memory',
    settings: { path: { description: 'means nothing', example: join('/', 'srv') } },
    create: () => driver,
  }
  return Object.assign(driver, {
    module,
    storage,
    calls,
    mounted,
    known,
    fail: (what: string, error: AppError, late = false) => void failures.set(what, { error, late }),
    block: (what: string): Gate => {
      const gate = barrier()
      gates.set(what, gate)
      const open = (): void => {
        gates.delete(what)
        gate.open()
      }
      return { reached: gate.reached, open }
    },
  })
}
