/**
 * Targets, backups and schedules in memory, for the tests of the doors: the target `nas` with a backup of `db` and one whose
 * words are hostile; the repository `broken` has damage, the backup `nas/torn` cannot be read to its end.
 */

import { AppError } from '../../src/errors.ts'
import type {
  BackupFileView,
  BackupService,
  BackupView,
  PruneView,
  TargetService,
  TargetView,
} from '../../src/services/backups/contract.ts'
import type { CallOptions } from '../../src/services/journal/contract.ts'
import type { ScheduleService, ScheduleView } from '../../src/services/schedules/contract.ts'
import type { VolumeView } from '../../src/services/volumes/contract.ts'

/** What the fakes share: the log of calls, and work that may be slow. */
export interface FakeGround {
  log(...call: unknown[]): void
  run(kind: string, subject: string, call: CallOptions | undefined): Promise<void>
  newVolume(name: string): VolumeView
}

const time = '2026-11-23T10:00:00.000Z'

/** What nobody may send to a terminal. */
export const hostile = 'a\u001b[2J\u009bb\nc'

function aTarget(name: string, url: string, access: TargetView['access'] = {}): TargetView {
  return { name, url, access, encrypted: access.passphraseFile !== undefined, repositoryId: 'r1', createdAt: time }
}

export function fakeTargets({ log }: FakeGround): TargetService {
  const targets = new Map([
    ['nas', aTarget('nas', 'file:///srv/nas', { passphraseFile: '/etc/pass', uploadLimit: 1024 })],
  ])
  const passphrases = [{ id: 'p1', label: 'first', createdAt: time, inUse: true }]
  const find = (name: string): TargetView => {
    const found = targets.get(name)
    if (!found) throw new AppError('NOT_FOUND', `target ${name} does not exist; see: holdfast target ls`)
    return found
  }
  return {
    async add(name, url, access) {
      log('targets.add', name, url, access)
      const made = aTarget(name, url, access)
      targets.set(name, made)
      return made
    },
    list: () => [...targets.values()],
    inspect: (name) => ({ ...find(name), passphrases }),
    async remove(name) {
      log('targets.remove', find(name).name)
    },
    async check(name) {
      const { url } = find(name)
      const store = { kind: 'dir', ifAbsent: 'kept', listing: 'at once', details: { free: '1T' } } as const
      return { name, url, store, backups: 2 }
    },
    passphrases: async () => passphrases,
    async addPassphrase(name, file, label) {
      log('targets.addPassphrase', name, file, label)
      return { id: 'p2', label: 'second', createdAt: time, inUse: false }
    },
    async removePassphrase(name, id) {
      log('targets.removePassphrase', name, id)
    },
  }
}

const db: BackupView = {
  id: '3f2a'.repeat(8),
  url: `file:///srv/nas?backup=${'3f2a'.repeat(8)}`,
  volume: 'db',
  snapshot: null,
  createdAt: time,
  size: 10 * 2 ** 20,
  added: 2 ** 20,
  kind: 'tree',
  host: 'node1',
  labels: { env: 'prod' },
  parent: null,
  files: 3,
  changed: 0,
}

const evil: BackupView = { ...db, id: 'e'.repeat(32), volume: hostile, host: hostile, labels: { [hostile]: hostile } }

const pruned: PruneView = {
  deleted: { packs: 2, bytes: 2 ** 20 },
  condemned: { packs: 1, bytes: 2 ** 10 },
  copied: 0,
  remaining: 2 ** 30,
}

function file(path: string, changes: Partial<BackupFileView> = {}): BackupFileView {
  return { path, type: 'file', mode: 0o644, uid: 0, gid: 0, size: 7, modifiedAt: time, target: null, ...changes }
}

const pages: BackupFileView[][] = [
  [file('bin', { type: 'directory', mode: 0o1755 }), file('bin/su', { mode: 0o6755, uid: 1000, gid: 100_000 })],
  [file('ä', { type: 'symlink', mode: 0o777, size: 0, target: hostile }), file(hostile, { mode: 0o4000 })],
]

export function fakeBackups({ log, run, newVolume }: FakeGround): BackupService {
  return {
    async create(request, call) {
      log('backups.create', request, call)
      if (request.volume === 'nope') throw new AppError('NOT_FOUND', 'volume nope does not exist')
      await run('backup.create', request.volume, call)
      return { ...db, volume: request.volume, snapshot: request.snapshot ?? null }
    },
    async list(where, volume) {
      log('backups.list', where, volume)
      return [db, evil].filter((one) => volume === undefined || one.volume === volume)
    },
    async inspect(ref) {
      log('backups.inspect', ref)
      if (ref.backup.endsWith('gone')) throw new AppError('NOT_FOUND', `backup ${ref.backup} does not exist`)
      return ref.backup.endsWith('evil') ? evil : db
    },
    async listFiles(ref, path, take) {
      log('backups.listFiles', ref, path)
      if (ref.backup.endsWith('gone')) throw new AppError('NOT_FOUND', `backup ${ref.backup} does not exist`)
      for (const page of ref.backup.endsWith('empty') ? [[]] : pages) await take(page)
      if (ref.backup.endsWith('torn')) throw new AppError('CORRUPT', 'a chunk is damaged')
    },
    async restore(request, call) {
      log('backups.restore', request, call)
      await run('backup.restore', request.to, call)
      const restoredFrom = request.from.backup.endsWith('evil') ? evil : db
      return { ...newVolume(request.to), snapshots: [{ name: 'before-restore-1', createdAt: time }], restoredFrom }
    },
    async remove(refs) {
      log('backups.remove', refs)
      if (refs.some(({ backup }) => backup.endsWith('gone'))) throw new AppError('NOT_FOUND', 'no such backup')
      return refs.map(() => db.url)
    },
    async verify(where, options, call) {
      log('backups.verify', where, options, call)
      const damage = 'at' in where && where.at === 'broken'
      return {
        backups: 2,
        packs: 3,
        chunks: 4,
        bytesRead: 2 ** 20,
        problems: damage ? [{ object: 'packs/aa', fact: hostile }] : [],
        damaged: damage ? [{ url: db.url, volume: 'db', paths: ['etc/motd', hostile] }] : [],
      }
    },
    async repair(where, options, call) {
      log('backups.repair', where, options, call)
      const damage = where.at === 'broken'
      return { packs: 3, leftOut: damage ? [{ object: 'packs/aa', fact: 'torn' }] : [], lostChunks: damage ? 4 : 0 }
    },
    async forget(where, rules, call) {
      log('backups.forget', where, rules, call)
      await run('backup.forget', rules.volume, call)
      const decisions = [
        { backup: db, keep: true, reasons: ['last', 'daily'] },
        { backup: evil, keep: false, reasons: [] },
      ]
      return { decisions, prune: rules.prune ? pruned : null }
    },
    async prune(where, options, call) {
      log('backups.prune', where, options, call)
      return pruned
    },
  }
}

export function fakeSchedules({ log, run }: FakeGround): ScheduleService {
  const nightly: ScheduleView = {
    name: 'nightly',
    volume: 'db',
    cron: '0 3 * * *',
    timeZone: 'UTC',
    snapshot: true,
    target: 'nas',
    trim: true,
    keep: 'last=3',
    keepSnapshots: null,
    jitterMs: 0,
    createdAt: time,
    status: 'failing',
    nextRunAt: '2999-01-01T00:00:00.000Z',
    lastRunAt: time,
    lastSuccessAt: null,
    failures: 2,
    lastError: { code: 'UNAVAILABLE', message: 'the store does not answer' },
  }
  const find = (name: string): ScheduleView => {
    if (name === 'nightly') return nightly
    throw new AppError('NOT_FOUND', `schedule ${name} does not exist; see: holdfast schedule ls`)
  }
  return {
    async create(request) {
      log('schedules.create', request)
      return { ...nightly, name: request.name ?? request.volume }
    },
    list: (volume) => [nightly].filter((one) => (volume ?? one.volume) === one.volume),
    inspect: find,
    async remove(name) {
      log('schedules.remove', find(name).name)
    },
    async run(name, call) {
      log('schedules.run', name, call)
      if (name === 'failing') throw new AppError('UNAVAILABLE', 'the store does not answer')
      await run('schedule.run', find(name).name, call)
      return nightly
    },
    pause: async (name) => ({ ...find(name), status: 'paused', nextRunAt: null }),
    resume: async (name) => find(name),
  }
}
