/**
 * Services in memory for the tests of the doors: no storage, no catalog. Volumes whose names begin with `slow` take until
 * they are cancelled, and report progress; those that begin with `lag` take a second.
 */

import { AppError } from '../../src/errors.ts'
import type { Services } from '../../src/services/contract.ts'
import type { CallOptions, OperationView } from '../../src/services/journal/contract.ts'
import type { SnapshotView } from '../../src/services/snapshots/contract.ts'
import type { TrashView, VolumeFilter, VolumeView } from '../../src/services/volumes/contract.ts'
import { parseSize, parseVolumeName } from '../../src/units.ts'
import { fakeBackups, fakeSchedules, fakeTargets } from './fake-backup-services.ts'

type Writable<T> = { -readonly [K in keyof T]: T[K] }

/** The services, with the calls that were made, `noun.verb` and the arguments. */
export interface FakeServices extends Services {
  readonly calls: readonly (readonly unknown[])[]
}

const time = '2026-11-23T10:00:00.000Z'

function newVolume(name: string): VolumeView {
  return {
    name,
    driver: 'vfs',
    size: null,
    used: null,
    createdAt: time,
    labels: {},
    options: {},
    mountpoint: null,
    mounts: [],
    onRemove: 'trash',
    origin: null,
    hooks: {},
    scope: 'local',
    nodes: [],
    status: 'ok',
    snapshots: [],
    lastBackup: null,
  }
}

/** Fresh services with the volumes `db` (mounted, with the snapshot `s1`) and `web`, and `old` in the trash. */
export function fakeServices(): FakeServices {
  const calls: unknown[][] = []
  const volumes = new Map<string, Writable<VolumeView>>()
  const snapshots = new Map<string, Writable<SnapshotView>>()
  const trash: TrashView[] = []
  const operations = new Map<string, Writable<OperationView> & { stop: AbortController }>()

  volumes.set('db', {
    ...newVolume('db'),
    size: 10 * 2 ** 30,
    used: 500 * 2 ** 20,
    labels: { env: 'prod' },
    options: { uid: '7' },
    mountpoint: '/var/lib/holdfast/mounts/db',
    mounts: [{ id: '4f', since: time, stale: false }],
    snapshots: [{ name: 's1', createdAt: time }],
    hooks: { pre: 'sync', timeoutMs: 60_000 },
    lastBackup: { url: 'file:///srv/nas?backup=3f2a', createdAt: time },
  })
  volumes.set('web', newVolume('web'))
  const s1 = {
    volume: 'db',
    name: 's1',
    createdAt: time,
    size: null,
    used: 4096,
    labels: {},
    atomic: true,
    mountpoint: null,
  }
  snapshots.set('db@s1', s1)
  trash.push({
    name: 'old',
    id: 'id-old',
    driver: 'vfs',
    size: null,
    createdAt: time,
    deletedAt: time,
    purgeAt: time,
    snapshots: 0,
  })

  function volume(name: string): Writable<VolumeView> {
    const found = volumes.get(name)
    if (!found)
      throw new AppError('NOT_FOUND', `volume ${name} does not exist; 'holdfast volume ls' lists those that do`)
    return found
  }
  function snapshot(name: string, of: string): Writable<SnapshotView> {
    const found = snapshots.get(`${name}@${of}`)
    if (!found) throw new AppError('NOT_FOUND', `snapshot ${name}@${of} does not exist`)
    return found
  }
  function operation(id: string): Writable<OperationView> & { stop: AbortController } {
    const found = operations.get(id)
    if (!found) throw new AppError('NOT_FOUND', `operation ${id} does not exist`)
    return found
  }
  const shown = ({ stop: _, ...view }: OperationView & { stop: AbortController }): OperationView => view

  async function run(kind: string, subject: string, call: CallOptions = {}): Promise<void> {
    if (!/^(slow|lag)/.test(subject)) return
    const stop = new AbortController()
    const progress = { done: 2 ** 20, total: 4 * 2 ** 20, unit: 'bytes', rate: 2 ** 20, secondsLeft: 3 }
    const entry = { id: call.operationId ?? crypto.randomUUID(), kind, subject, startedAt: time, stop }
    operations.set(entry.id, { ...entry, state: 'running', progress, finishedAt: null, error: null })
    call.onStarted?.(entry.id)
    const cancelled = new AppError('CANCELLED', `${kind} of ${subject} was cancelled`)
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(resolve, subject.startsWith('lag') ? 1000 : 60_000)
      stop.signal.addEventListener('abort', () => {
        clearTimeout(timer)
        Object.assign(operation(entry.id), {
          state: 'cancelled',
          finishedAt: time,
          error: { code: cancelled.code, message: cancelled.message },
        })
        reject(cancelled)
      })
    })
    Object.assign(operation(entry.id), { state: 'done', finishedAt: time })
  }

  const log = (...call: unknown[]): void => void calls.push(call)

  const ground = { log, run, newVolume }
  const targets = fakeTargets(ground)

  return {
    calls,
    version: '9.9.9',
    volumes: {
      async create(request, call) {
        log('volumes.create', request, call)
        parseVolumeName(request.name)
        if (request.driver === 'broken') throw new TypeError('a defect')
        const before = volumes.get(request.name)
        if (before) return { volume: before, existed: true }
        await run('volume.create', request.name, call)
        const size = request.size === undefined ? null : parseSize(request.size)
        const made = { ...newVolume(request.name), size, labels: request.labels ?? {}, options: request.options ?? {} }
        volumes.set(request.name, made)
        return { volume: made, existed: false }
      },
      list(filter: VolumeFilter = {}) {
        log('volumes.list', filter)
        return [...volumes.values()].filter(
          (one) =>
            (filter.driver ?? one.driver) === one.driver &&
            (filter.dangling ?? one.mounts.length === 0) === (one.mounts.length === 0),
        )
      },
      inspect: async (name) => volume(name),
      async remove(name, options) {
        log('volumes.remove', name, options)
        if (volume(name).mounts.length > 0)
          throw new AppError('IN_USE', `volume ${name} is mounted by 1 container; stop it`)
        volumes.delete(name)
      },
      async resize(name, size) {
        return Object.assign(volume(name), { size: parseSize(size) })
      },
      async update(name, request) {
        log('volumes.update', name, request)
        return volume(name)
      },
      async takeover(name, options) {
        log('volumes.takeover', name, options)
        const from = volume(name).nodes[0]?.name ?? null
        return { name, from, risk: from && `what node ${from} had not synced is lost` }
      },
      trim: async (names) => names.map((name) => ({ name: volume(name).name, trimmed: 1024 })),
      usage: async (names) =>
        (names.length > 0 ? names : [...volumes.keys()]).map((name) => ({
          name,
          used: volume(name).used,
          size: volume(name).size,
        })),
    },
    mounts: {
      get: () => undefined,
      find: async () => undefined,
      list: () => [],
      generation: 0,
      async mount(name, mountId) {
        log('mounts.mount', name, mountId)
        return `/var/lib/holdfast/mounts/${volume(name).name}`
      },
      async bind(name, at) {
        log('mounts.bind', name, at)
        if (at === '/missing') throw new AppError('NOT_FOUND', `${at} does not exist`)
      },
      async unmount(name, mountId) {
        log('mounts.unmount', name, mountId)
      },
      resetCounts: async () => undefined,
    },
    snapshots: {
      async create(name, request, call) {
        log('snapshots.create', name, request, call)
        await run('snapshot.create', volume(name).name, call)
        const made = { ...s1, volume: name, name: request.name ?? 'auto-20261123-100000', labels: request.labels ?? {} }
        snapshots.set(`${name}@${made.name}`, made)
        return made
      },
      list: (name) => [...snapshots.values()].filter((one) => (name ?? one.volume) === one.volume),
      inspect: snapshot,
      async remove(name, of) {
        snapshot(name, of)
        snapshots.delete(`${name}@${of}`)
      },
      async revert(name, of) {
        log('snapshots.revert', name, of)
        snapshot(name, of)
      },
      async mount(name, of, at) {
        snapshot(name, of)
        return at ?? `/var/lib/holdfast/mounts/${name}@${of}`
      },
      async unmount(name, of) {
        log('snapshots.unmount', name, of)
      },
      diff: async () => [
        { path: 'a', change: 'added' },
        { path: 'b\nc', change: 'modified' },
        { path: 'd', change: 'removed' },
      ],
    },
    trash: {
      list: () => trash,
      async restore(ref, as) {
        log('trash.restore', ref, as)
        return newVolume(as ?? ref)
      },
      async empty(refs) {
        log('trash.empty', refs)
        const unknown = refs.find((ref) => !trash.some((one) => one.name === ref || one.id === ref))
        if (unknown) throw new AppError('NOT_FOUND', `${unknown} is not in the trash`)
        return trash.map((one) => one.name)
      },
    },
    targets,
    backups: fakeBackups(ground),
    schedules: fakeSchedules(ground),
    operations: {
      list: (all) => [...operations.values()].filter((one) => all || one.state === 'running').map(shown),
      inspect: (id) => shown(operation(id)),
      cancel(id) {
        log('operations.cancel', id)
        operation(id).stop.abort()
        return shown(operation(id))
      },
    },
    node: {
      info: async () => ({
        version: '9.9.9',
        node: 'v24.0.0',
        pid: 1,
        startedAt: time,
        root: '/var/lib/holdfast',
        socket: '/run/holdfast/holdfast.sock',
        pluginSocket: '/run/docker/plugins/holdfast.sock',
        defaultDriver: 'vfs',
        drivers: [
          {
            name: 'vfs',
            scope: 'local',
            state: 'ready',
            volumes: volumes.size,
            capabilities: ['snapshots', 'clone'],
            facts: { filesystem: 'btrfs' },
            storage: { size: 2 ** 40, free: 2 ** 39 },
          },
          {
            name: 'nfs',
            scope: 'global',
            state: 'failed',
            error: 'no server',
            volumes: 0,
            capabilities: [],
            facts: {},
            storage: null,
          },
        ],
        counts: { volumes: volumes.size, mounted: 1, snapshots: snapshots.size, trash: trash.length, schedules: 1 },
        targets: targets.list(),
        trashKeepMs: 86_400_000,
      }),
      metrics: async () => '# TYPE holdfast_volumes gauge\nholdfast_volumes{driver="vfs"} 2\n',
      doctor: async () =>
        volumes.has('web')
          ? [
              {
                severity: 'error',
                check: 'data-without-record',
                subject: 'x',
                message: 'x has no record',
                remedy: 'remove it',
              },
            ]
          : [],
    },
  }
}
