/**
 * Schedules, on a real catalog and journal: what they plan, what a run makes and removes, and what becomes of it after failures, stops of the
 * daemon and changes of the clock. The wall clock is the test's; timers are real and short.
 */

import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { setTimeout as pause } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { insertTarget } from '../../../../src/catalog/changes.ts'
import { AppError } from '../../../../src/errors.ts'
import type { Operation } from '../../../../src/model.ts'
import type { BackupService, CreateBackupRequest } from '../../../../src/services/backups/contract.ts'
import { examine } from '../../../../src/services/node/doctor.ts'
import type { ScheduleTiming } from '../../../../src/services/schedules/schedule-plan.ts'
import { Schedules } from '../../../../src/services/schedules/schedules.ts'
import { DockerApi } from '../../../../src/system/docker.ts'
import { type CoreOptions, openCore, type TestCore } from '../../../support/core.ts'

const begun = Date.parse('2026-11-23T10:00:30.000Z')
const minute = 60_000
const hour = 60 * minute

beforeEach(() => void vi.useFakeTimers({ toFake: ['Date'], now: begun }))
afterEach(() => void vi.useRealTimers())

/** By the test's own clock, which does not stand still. */
async function until(what: string, holds: () => boolean): Promise<void> {
  for (const deadline = performance.now() + 5_000; !holds(); await pause(2)) {
    if (performance.now() > deadline) throw new Error(`in vain waited for ${what}`)
  }
}

/** Long enough for some looks at the clock. */
const aWhile = (): Promise<void> => pause(60)

const pass = (ms: number): void => void vi.setSystemTime(Date.now() + ms)

type Forget = Parameters<BackupService['forget']>

/** Backups that are journalled as real ones are, and stored nowhere. */
class FakeBackups {
  readonly made: CreateBackupRequest[] = []
  readonly forgotten: Forget[] = []
  readonly pruned: string[] = []
  /** Thrown by each of these calls until it is taken away. */
  failure: AppError | undefined
  forgetFailure: AppError | undefined
  pruneFailure: AppError | undefined
  gate: Promise<void> = Promise.resolve()
  readonly #t: TestCore

  constructor(t: TestCore) {
    this.#t = t
  }

  create: BackupService['create'] = async (request, call = {}) => {
    const payload = { volumeId: this.#t.core.catalog.volume(request.volume)?.id ?? '', labels: { ...request.labels } }
    const work = { kind: 'backup.create', subject: request.volume, payload, id: call.operationId, resumable: true }
    return await this.#t.core.operations.run({ ...work, onStarted: call.onStarted }, async ({ signal }) => {
      const aborted = Promise.withResolvers<never>()
      signal.addEventListener('abort', () => aborted.reject(signal.reason))
      signal.throwIfAborted()
      await Promise.race([this.gate, aborted.promise])
      if (this.failure) throw this.failure
      this.made.push(request)
      return { result: {} as never, changes: [] }
    })
  }

  forget: BackupService['forget'] = async (...args) => {
    this.forgotten.push(args)
    if (this.forgetFailure) throw this.forgetFailure
    return { decisions: [], prune: null }
  }

  prune: BackupService['prune'] = async ({ at }) => {
    this.pruned.push(at)
    if (this.pruneFailure) throw this.pruneFailure
    return {} as never
  }
}

interface Bed extends AsyncDisposable {
  readonly t: TestCore
  readonly schedules: Schedules
  readonly backups: FakeBackups
  /** Ends the daemon, in the middle of what runs, and gives the next life, in which nothing is started yet. */
  nextLife(): Promise<Bed>
}

const timing: ScheduleTiming = { lookEveryMs: 5, catchUpMs: 0, retryMs: [minute, 5 * minute, 15 * minute] }

function bed(t: TestCore, changes: Partial<ScheduleTiming> = {}): Bed {
  const backups = new FakeBackups(t)
  const schedules = new Schedules({ core: t.core, snapshots: t.snapshots, backups }, { ...timing, ...changes })
  return {
    t,
    schedules,
    backups,
    async nextLife() {
      schedules.stop()
      await t.core.operations.stop(1_000)
      await aWhile()
      return bed(await t.restart(), changes)
    },
    async [Symbol.asyncDispose]() {
      schedules.stop()
      await t[Symbol.asyncDispose]()
    },
  }
}

/** A volume `db` and a target `nas`. */
async function open(options: CoreOptions = {}, changes: Partial<ScheduleTiming> = {}): Promise<Bed> {
  const t = await openCore(options)
  await t.volumes.create({ name: 'db' })
  const createdAt = new Date().toISOString()
  await t.core.catalog.write(
    insertTarget({ name: 'nas', url: 'file:///nas', access: {}, repositoryId: 'r', encrypted: false, createdAt }),
  )
  return bed(t, changes)
}

const hourly = { volume: 'db', cron: '0 * * * *', timeZone: 'UTC' }
const snapshotNames = ({ t }: Bed): string[] => t.snapshots.list('db').map(({ name }) => name)
const hasRun = ({ schedules }: Bed, name: string): boolean => {
  const { status, lastSuccessAt } = schedules.inspect(name)
  return status !== 'running' && lastSuccessAt !== null
}
const hasFailed = ({ schedules }: Bed, name: string, times: number): boolean => {
  const { status, failures } = schedules.inspect(name)
  return status !== 'running' && failures === times
}
/** The open entry of a backup in the journal. */
const openBackup = ({ t }: Bed): Operation | undefined =>
  t.core.catalog.runningOperations().find(({ kind }) => kind === 'backup.create')
const refuses = (code: string, message: RegExp) =>
  expect.objectContaining({ code, message: expect.stringMatching(message) })

describe('create', () => {
  test('keeps what was asked for, and plans', async () => {
    await using b = await open()
    const request = {
      ...hourly,
      name: 'n',
      snapshot: true,
      target: 'nas',
      trim: true,
      keep: 'last=2',
      keepSnapshots: 'daily=3',
    }
    expect(await b.schedules.create(request)).toEqual({
      name: 'n',
      volume: 'db',
      cron: '0 * * * *',
      timeZone: 'UTC',
      snapshot: true,
      target: 'nas',
      trim: true,
      keep: 'last=2',
      keepSnapshots: 'daily=3',
      jitterMs: 0,
      createdAt: '2026-11-23T10:00:30.000Z',
      status: 'ok',
      nextRunAt: '2026-11-23T11:00:00.000Z',
      lastRunAt: null,
      lastSuccessAt: null,
      failures: 0,
      lastError: null,
    })
  })

  test('names it after the volume, with a number when that is taken, and lists it', async () => {
    await using b = await open()
    await b.t.volumes.create({ name: 'web' })
    for (const volume of ['db', 'web']) await b.schedules.create({ ...hourly, volume, snapshot: true })
    await b.schedules.create({ ...hourly, cron: '30 * * * *', snapshot: true })
    expect(b.schedules.list().map(({ name }) => name)).toEqual(['db', 'web', 'db-2'])
    expect(b.schedules.list('db').map(({ name }) => name)).toEqual(['db', 'db-2'])
    expect(() => b.schedules.list('nobody')).toThrow(refuses('NOT_FOUND', /no such volume/))
  })

  test("the time zone is the daemon's own when none is given", async () => {
    await using b = await open()
    const { timeZone } = await b.schedules.create({ volume: 'db', cron: '@daily', snapshot: true })
    expect(timeZone).toBe(Intl.DateTimeFormat().resolvedOptions().timeZone)
  })

  test('a run comes up to the jitter later', async () => {
    await using b = await open()
    for (let i = 0; i < 20; i++) {
      const { nextRunAt } = await b.schedules.create({ ...hourly, snapshot: true, jitter: '10m' })
      const late = Date.parse(nextRunAt ?? '') - Date.parse('2026-11-23T11:00:00Z')
      expect(late).toBeGreaterThanOrEqual(0)
      expect(late).toBeLessThanOrEqual(10 * minute)
    }
  })

  test.each([
    [{ cron: 'x', snapshot: true }, 'INVALID_ARGUMENT', /is not a cron expression/],
    [{ timeZone: 'X', snapshot: true }, 'INVALID_ARGUMENT', /'X' is not a time zone/],
    [{}, 'INVALID_ARGUMENT', /would do nothing/],
    [{ snapshot: true, keep: 'last=1' }, 'INVALID_ARGUMENT', /--keep is for backups/],
    [{ target: 'nas', keepSnapshots: 'last=1' }, 'INVALID_ARGUMENT', /--keep-snapshots is for snapshots/],
    [{ target: 'nas', keep: 'last=0' }, 'INVALID_ARGUMENT', /would keep nothing/],
    [{ snapshot: true, keepSnapshots: 'some' }, 'INVALID_ARGUMENT', /is no retention rule/],
    [{ snapshot: true, jitter: 'much' }, 'INVALID_ARGUMENT', /is not a duration/],
    [{ snapshot: true, name: '../x' }, 'INVALID_ARGUMENT', /is not a schedule name/],
    [{ snapshot: true, name: 'x'.repeat(112) }, 'INVALID_ARGUMENT', /is not a schedule name/],
    [{ target: 'nowhere' }, 'NOT_FOUND', /no such target: nowhere/],
    [{ snapshot: true, volume: 'nobody' }, 'NOT_FOUND', /no such volume: nobody/],
    [{ snapshot: true, name: 'taken', jitter: '5' }, 'INVALID_ARGUMENT', /'5' has no unit/],
  ])('refuses %j', async (request, code, message) => {
    await using b = await open()
    await b.schedules.create({ ...hourly, name: 'taken', snapshot: true })
    await expect(b.schedules.create({ ...hourly, ...request })).rejects.toEqual(refuses(code, message))
    expect(b.schedules.list()).toHaveLength(1)
  })
})

describe('a trim', () => {
  test('is done after snapshot and backup, or alone', async () => {
    await using b = await open()
    await b.schedules.create({ ...hourly, name: 'all', snapshot: true, target: 'nas', trim: true })
    await b.schedules.run('all')
    expect([b.backups.made.length, b.t.driver.calls.at(-1)]).toEqual([1, 'trim.trim db'])
    await b.schedules.create({ ...hourly, name: 'alone', trim: true })
    expect(await b.schedules.run('alone')).toMatchObject({ status: 'ok', failures: 0, snapshot: false, target: null })
    expect(b.t.driver.calls.filter((call) => call === 'trim.trim db')).toHaveLength(2)
    expect(snapshotNames(b)).toHaveLength(1)
  })

  test('that fails is a failed run, and tried again', async () => {
    await using b = await open()
    await b.schedules.create({ ...hourly, name: 'n', trim: true })
    b.t.driver.fail('trim.trim', new AppError('UNAVAILABLE', 'the pool does not answer'))
    await expect(b.schedules.run('n')).rejects.toEqual(refuses('UNAVAILABLE', /the pool/))
    expect(b.schedules.inspect('n')).toMatchObject({
      status: 'failing',
      failures: 1,
      lastError: { code: 'UNAVAILABLE' },
      nextRunAt: new Date(Date.now() + minute).toISOString(),
    })
  })

  test('can be cancelled, and is caught up when the daemon ended in its middle', async () => {
    await using b = await open()
    await b.schedules.create({ ...hourly, name: 'n', trim: true })
    b.t.driver.block('trim.trim')
    const id = randomUUID()
    const running = b.schedules.run('n', { operationId: id })
    await until('the trim', () => b.t.driver.calls.at(-1) === 'trim.trim db')
    b.t.core.operations.cancel(id)
    await expect(running).rejects.toEqual(refuses('CANCELLED', /cancelled/))
    const again = b.schedules.run('n')
    await until('another trim', () => b.t.driver.calls.filter((call) => call === 'trim.trim db').length === 2)
    await using next = await Promise.all([b.nextLife(), again.catch(() => undefined)]).then(([life]) => life)
    next.schedules.start()
    await until('it is caught up', () => hasRun(next, 'n'))
    expect(next.t.driver.calls).toContain('trim.trim db')
  })

  test('is refused where the driver has none', async () => {
    await using b = await open({ without: ['trim'] })
    await expect(b.schedules.create({ ...hourly, trim: true })).rejects.toEqual(
      refuses('NOT_SUPPORTED', /driver fake has nothing to trim/),
    )
    expect(b.schedules.list()).toEqual([])
  })
})

describe('create of what is there already', () => {
  const all = { ...hourly, snapshot: true, target: 'nas', keep: 'last=2', keepSnapshots: 'daily=3', jitter: '0' }

  test.each([{}, { name: 'n' }])('the same again, with %j, makes nothing', async (naming) => {
    await using b = await open()
    const made = await b.schedules.create({ ...all, name: 'n' })
    await b.schedules.pause('n')
    expect(await b.schedules.create({ ...all, ...naming })).toEqual({ ...made, status: 'paused', nextRunAt: null })
    expect(b.schedules.list()).toHaveLength(1)
  })

  test('two at once make one', async () => {
    await using b = await open()
    const both = await Promise.all([b.schedules.create(all), b.schedules.create(all)])
    expect(both.map(({ name }) => name)).toEqual(['db', 'db'])
  })

  test('another one of the name is refused, with all that differs', async () => {
    await using b = await open()
    await b.t.volumes.create({ name: 'web' })
    await b.schedules.create({ ...all, name: 'n' })
    const other = { volume: 'web', cron: '5 * * * *', timeZone: 'Asia/Tokyo', target: 'nas', jitter: '5m', name: 'n' }
    const found = [
      'volume is db, asked for web',
      'cron is 0 \\* \\* \\* \\*, asked for 5 \\* \\* \\* \\*',
      'timezone is UTC, asked for Asia/Tokyo',
      'snapshot is yes, asked for no',
      'keep is last=2, asked for all',
      'keep-snapshots is daily=3, asked for all',
      'jitter is 0s, asked for 5m',
    ]
    const message = new RegExp(`^schedule n exists, but not as asked for: ${found.join('; ')}; take another name`)
    await expect(b.schedules.create(other)).rejects.toEqual(refuses('ALREADY_EXISTS', message))
  })

  test('one that differs, without a name, is another one', async () => {
    await using b = await open()
    await b.schedules.create(all)
    expect(await b.schedules.create({ ...all, keep: 'last=3' })).toMatchObject({ name: 'db-2' })
  })
})

describe('a run that is due', () => {
  test('makes a snapshot, named after schedule and time, and plans the next', async () => {
    await using b = await open()
    await b.schedules.create({ ...hourly, name: 'n', snapshot: true })
    b.schedules.start()
    pass(hour)
    await until('the run', () => hasRun(b, 'n'))
    expect(b.t.snapshots.list('db')).toEqual([
      expect.objectContaining({ name: 'n-20261123-110030', labels: { 'holdfast.schedule': 'n' } }),
    ])
    expect(b.schedules.inspect('n')).toMatchObject({
      status: 'ok',
      nextRunAt: '2026-11-23T12:00:00.000Z',
      lastRunAt: '2026-11-23T11:00:30.000Z',
      failures: 0,
    })
    pass(hour)
    await until('the next run', () => snapshotNames(b).length === 2)
  })

  test('a backup alone is made without a snapshot of the schedule’s', async () => {
    await using b = await open()
    await b.schedules.create({ ...hourly, name: 'n', target: 'nas' })
    await b.schedules.run('n')
    expect(b.backups.made).toEqual([{ volume: 'db', to: { at: 'nas' }, labels: { 'holdfast.schedule': 'n' } }])
    expect(snapshotNames(b)).toEqual([])
  })

  test('with both, the backup is of the snapshot', async () => {
    await using b = await open()
    await b.schedules.create({ ...hourly, name: 'n', snapshot: true, target: 'nas' })
    await b.schedules.run('n')
    expect(b.backups.made).toEqual([
      { volume: 'db', snapshot: 'n-20261123-100030', to: { at: 'nas' }, labels: { 'holdfast.schedule': 'n' } },
    ])
    expect(snapshotNames(b)).toEqual(['n-20261123-100030'])
  })

  test('nothing is begun before it is due, nor after a stop', async () => {
    await using b = await open()
    await b.schedules.create({ ...hourly, snapshot: true })
    b.schedules.start()
    pass(hour - minute)
    await aWhile()
    expect(snapshotNames(b)).toEqual([])
    b.schedules.stop()
    pass(hour)
    await aWhile()
    expect(snapshotNames(b)).toEqual([])
  })

  test('one that is due while the last one runs is left out, and logged', async () => {
    await using b = await open()
    const { promise, resolve } = Promise.withResolvers<void>()
    b.backups.gate = promise
    await b.schedules.create({ ...hourly, name: 'n', target: 'nas' })
    b.schedules.start()
    pass(hour)
    await until('the run', () => b.schedules.inspect('n').status === 'running')
    await until('its plan', () => b.schedules.inspect('n').nextRunAt === '2026-11-23T12:00:00.000Z')
    pass(hour)
    await until('the next plan', () => b.schedules.inspect('n').nextRunAt === '2026-11-23T13:00:00.000Z')
    expect(b.t.logged).toContainEqual(expect.stringMatching(/left out: the last one still runs.*11-23T12:00:00/))
    resolve()
    await until('its end', () => b.schedules.inspect('n').status === 'ok')
    await aWhile()
    expect(b.backups.made).toHaveLength(1)
  })

  test('a clock that was ahead while it was planned does not make it sleep', async () => {
    await using b = await open()
    pass(365 * 24 * hour)
    await b.schedules.create({ ...hourly, name: 'n', snapshot: true })
    vi.setSystemTime(begun)
    b.schedules.start()
    await until('a new plan', () => b.schedules.inspect('n').nextRunAt === '2026-11-23T11:00:00.000Z')
  })

  test('one schedule that cannot be read does not stop the others', async () => {
    await using b = await open()
    await b.schedules.create({ ...hourly, name: 'broken', snapshot: true })
    await b.t.core.catalog.write({ sql: "UPDATE schedules SET cron = 'x' WHERE name = ?", params: ['broken'] })
    await b.schedules.create({ ...hourly, name: 'n', snapshot: true })
    b.schedules.start()
    pass(hour)
    await until('the run', () => b.schedules.inspect('n').lastSuccessAt !== null)
  })
})

describe('run', () => {
  test('joins a run under way', async () => {
    await using b = await open()
    const { promise, resolve } = Promise.withResolvers<void>()
    b.backups.gate = promise
    await b.schedules.create({ ...hourly, name: 'n', target: 'nas' })
    const both = [b.schedules.run('n'), b.schedules.run('n')]
    await until('it', () => b.schedules.inspect('n').status === 'running')
    resolve()
    for (const view of await Promise.all(both)) expect(view).toMatchObject({ status: 'ok', failures: 0 })
    expect(b.backups.made).toHaveLength(1)
  })

  test('can be followed and cancelled by its id; what was cancelled is not tried again', async () => {
    await using b = await open()
    b.backups.gate = new Promise(() => undefined)
    await b.schedules.create({ ...hourly, name: 'n', target: 'nas' })
    const started = Promise.withResolvers<string>()
    const operationId = '00000000-0000-0000-0000-000000000001'
    const running = b.schedules.run('n', { operationId, onStarted: started.resolve })
    expect(await started.promise).toBe(operationId)
    await until('the backup', () => openBackup(b) !== undefined)
    b.t.core.operations.cancel(operationId)
    await expect(running).rejects.toEqual(refuses('CANCELLED', /was cancelled/))
    expect(b.schedules.inspect('n')).toMatchObject({ status: 'failing', nextRunAt: '2026-11-23T11:00:00.000Z' })
    expect(openBackup(b)).toBeUndefined()
  })

  test('a joined one is followed by the id of the first', async () => {
    await using b = await open()
    b.backups.gate = new Promise(() => undefined)
    await b.schedules.create({ ...hourly, name: 'n', target: 'nas' })
    const [first, second] = [Promise.withResolvers<string>(), Promise.withResolvers<string>()]
    const both = [first, second].map(({ resolve }) => b.schedules.run('n', { onStarted: resolve }))
    const id = await first.promise
    expect(await second.promise).toBe(id)
    expect(b.t.core.operations.inspect(id)).toMatchObject({ kind: 'schedule.run', subject: 'n', state: 'running' })
    b.t.core.operations.cancel(id)
    for (const run of both) await expect(run).rejects.toEqual(refuses('CANCELLED', /was cancelled/))
  })

  test('can be cancelled while its snapshot is made, also when a backup is to come', async () => {
    await using b = await open()
    await b.schedules.create({ ...hourly, name: 'n', snapshot: true, target: 'nas' })
    const gate = b.t.driver.block('snapshots.create')
    const started = Promise.withResolvers<string>()
    const running = b.schedules.run('n', { onStarted: started.resolve })
    await gate.reached
    b.t.core.operations.cancel(await started.promise)
    await expect(running).rejects.toEqual(refuses('CANCELLED', /was cancelled/))
    expect(snapshotNames(b)).toEqual([])
    expect(b.backups.made).toEqual([])
  })

  test('can be cancelled while retention is applied: what was made stays, and that is said', async () => {
    await using b = await open()
    await b.schedules.create({ ...hourly, name: 'n', snapshot: true, keepSnapshots: 'last=1' })
    await b.schedules.run('n')
    pass(minute)
    const gate = b.t.driver.block('snapshots.delete')
    const started = Promise.withResolvers<string>()
    const running = b.schedules.run('n', { onStarted: started.resolve })
    await gate.reached
    b.t.core.operations.cancel(await started.promise)
    await expect(running).rejects.toEqual(refuses('CANCELLED', /was cancelled/))
    expect(snapshotNames(b)).toContain('n-20261123-100130')
    expect(b.schedules.inspect('n')).toMatchObject({
      status: 'ok',
      failures: 0,
      lastError: { code: 'CANCELLED', message: expect.stringMatching(/^retention could not be applied/) },
    })
  })

  test.each([
    ['whole copies: two at a time, the others wait, and can be cancelled', false, 2],
    ['snapshots that cost nothing do not wait', true, 3],
  ])('%s', async (_, cheap, atOnce) => {
    await using b = await open({ cheap })
    for (const name of ['w1', 'w2', 'w3']) {
      await b.t.volumes.create({ name })
      await b.schedules.create({ ...hourly, volume: name, snapshot: true })
    }
    const gate = b.t.driver.block('snapshots.create')
    const runs = ['w1', 'w2', 'w3'].map((name) => b.schedules.run(name))
    const ended = Promise.allSettled(runs)
    const making = (): number => b.t.core.operations.list().filter(({ kind }) => kind === 'snapshot.create').length
    await until('those that may', () => making() === atOnce)
    await aWhile()
    expect(making()).toBe(atOnce)
    const third = b.t.core.operations.list().find(({ kind, subject }) => kind === 'schedule.run' && subject === 'w3')
    b.t.core.operations.cancel(third?.id ?? '')
    await expect(runs[2]).rejects.toEqual(refuses('CANCELLED', /schedule.run of w3 was cancelled/))
    gate.open()
    expect((await ended).map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'rejected'])
  })

  test('tells why it failed', async () => {
    await using b = await open()
    b.backups.failure = new AppError('UNAVAILABLE', 'the store is away')
    await b.schedules.create({ ...hourly, name: 'n', target: 'nas' })
    await expect(b.schedules.run('n')).rejects.toEqual(refuses('UNAVAILABLE', /the store is away/))
    await expect(b.schedules.run('nobody')).rejects.toEqual(refuses('NOT_FOUND', /no such schedule: nobody/))
  })

  test('twice in one second makes two snapshots', async () => {
    await using b = await open()
    await b.schedules.create({ ...hourly, name: 'n', snapshot: true })
    await b.schedules.run('n')
    await b.schedules.run('n')
    expect(snapshotNames(b)).toEqual(['n-20261123-100030', 'n-20261123-100031'])
  })
})

describe('a run that fails', () => {
  test('is tried again after 1, 5 and 15 minutes, then waits for its turn, and forgets all that when it succeeds', async () => {
    await using b = await open()
    b.backups.failure = new AppError('UNAVAILABLE', 'the store is away')
    await b.schedules.create({ ...hourly, name: 'n', target: 'nas', cron: '0 3 * * *' })
    b.schedules.start()
    vi.setSystemTime(Date.parse('2026-11-24T03:00:00Z'))
    for (const [failures, wait] of [1, 5, 15].map((minutes, i) => [i + 1, minutes * minute] as const)) {
      await until(`failure ${failures}`, () => hasFailed(b, 'n', failures))
      expect(b.schedules.inspect('n')).toMatchObject({
        status: 'failing',
        nextRunAt: new Date(Date.now() + wait).toISOString(),
        lastError: { code: 'UNAVAILABLE', message: 'the store is away' },
      })
      pass(wait)
    }
    await until('failure 4', () => hasFailed(b, 'n', 4))
    expect(b.schedules.inspect('n')).toMatchObject({ nextRunAt: '2026-11-25T03:00:00.000Z' })
    b.backups.failure = undefined
    vi.setSystemTime(Date.parse('2026-11-25T03:00:00Z'))
    await until('success', () => hasRun(b, 'n'))
    expect(b.schedules.inspect('n').lastSuccessAt).toBe('2026-11-25T03:00:00.000Z')
    expect(b.schedules.inspect('n')).toMatchObject({ status: 'ok', failures: 0, lastError: null })
  })

  test('a retry never comes later than the next run', async () => {
    await using b = await open()
    b.backups.failure = new AppError('UNAVAILABLE', 'the store is away')
    await b.schedules.create({ ...hourly, name: 'n', target: 'nas', cron: '* * * * *' })
    await expect(b.schedules.run('n')).rejects.toThrow()
    expect(b.schedules.inspect('n').nextRunAt).toBe('2026-11-23T10:01:00.000Z')
  })

  test('applies no retention', async () => {
    await using b = await open()
    const request = { ...hourly, name: 'n', snapshot: true, target: 'nas', keep: 'last=1', keepSnapshots: 'last=1' }
    await b.schedules.create(request)
    await b.schedules.run('n')
    b.backups.failure = new AppError('UNAVAILABLE', 'the store is away')
    pass(minute)
    await expect(b.schedules.run('n')).rejects.toThrow()
    expect(snapshotNames(b)).toHaveLength(2)
    expect(b.backups.forgotten).toHaveLength(1)
  })

  test.each([
    [0, []],
    [1, ['warning schedule-failing']],
    [2, ['warning schedule-failing']],
    [3, ['error schedule-failing']],
  ])('after %i failures doctor says %j', async (failures, findings) => {
    await using b = await open()
    b.backups.failure = new AppError('UNAVAILABLE', 'the store is away')
    await b.schedules.create({ ...hourly, name: 'n', target: 'nas' })
    for (let i = 0; i < failures; i++) await expect(b.schedules.run('n')).rejects.toThrow()
    expect(await diagnose(b)).toEqual(findings)
  })
})

async function diagnose({ t }: Bed): Promise<string[]> {
  const found = await examine(t.core, new DockerApi(t.core.config.dockerSocket))
  return found.filter(({ check }) => check.startsWith('schedule')).map(({ severity, check }) => `${severity} ${check}`)
}

test('doctor sees one that was due and did not run, and one that runs for a day', async () => {
  await using b = await open()
  b.backups.gate = new Promise(() => undefined)
  await b.schedules.create({ ...hourly, name: 'n', target: 'nas' })
  pass(hour)
  expect(await diagnose(b)).toEqual([])
  pass(hour)
  expect(await diagnose(b)).toEqual(['warning schedule-overdue'])
  b.schedules.start()
  await until('the run', () => b.schedules.inspect('n').lastRunAt !== null)
  expect(await diagnose(b)).toEqual([])
  pass(25 * hour)
  await until('the plan', () => (b.schedules.inspect('n').nextRunAt ?? '') > new Date().toISOString())
  expect(await diagnose(b)).toEqual(['warning schedule-overdue'])
  await b.schedules.pause('n')
  expect(await diagnose(b)).toEqual([])
})

describe('retention', () => {
  test('of snapshots looks only at those of the schedule, by its time zone, and never removes the newest', async () => {
    await using b = await open()
    const berlin = { ...hourly, timeZone: 'Europe/Berlin' }
    await b.schedules.create({ ...berlin, name: 'n', snapshot: true, keepSnapshots: 'daily=2' })
    await b.schedules.create({ ...berlin, name: 'other', snapshot: true })
    await b.t.snapshots.create('db', { name: 'by-hand' })
    // In Berlin these are the evening of the 23rd, the first and the second hour of the 24th.
    for (const time of ['2026-11-23T22:30:00Z', '2026-11-23T23:30:00Z', '2026-11-24T00:30:00Z']) {
      vi.setSystemTime(Date.parse(time))
      await b.schedules.run('n')
      await b.schedules.run('other')
    }
    expect(snapshotNames(b)).toEqual([
      'by-hand',
      'n-20261123-223000',
      'other-20261123-223000',
      'other-20261123-233000',
      'n-20261124-003000',
      'other-20261124-003000',
    ])
  })

  test('leaves a snapshot that is mounted until the next run', async () => {
    await using b = await open()
    await b.schedules.create({ ...hourly, name: 'n', snapshot: true, keepSnapshots: 'last=1' })
    await b.schedules.run('n')
    const [first] = snapshotNames(b) as [string]
    await b.t.snapshots.mount('db', first)
    pass(minute)
    expect(await b.schedules.run('n')).toMatchObject({ status: 'ok', lastError: null })
    expect(snapshotNames(b)).toHaveLength(2)
    await b.t.snapshots.unmount('db', first)
    pass(minute)
    await b.schedules.run('n')
    expect(snapshotNames(b)).toEqual(['n-20261123-100230'])
  })

  test('of backups looks only at those of the schedule on this node, in its time zone', async () => {
    await using b = await open()
    await b.schedules.create({ ...hourly, timeZone: 'Asia/Tokyo', name: 'n', target: 'nas', keep: 'daily=7' })
    await b.schedules.run('n')
    const whose = { volume: 'db', labels: { 'holdfast.schedule': 'n' }, host: hostname() }
    const rules = { ...whose, keep: 'daily=7', timeZone: 'Asia/Tokyo' }
    expect(b.backups.forgotten).toEqual([[{ at: 'nas' }, rules, { operationId: expect.any(String) }]])
  })

  test('prunes a target once a day, whoever backs up to it; another’s prune is as good', async () => {
    await using b = await open()
    b.backups.pruneFailure = new AppError('ABORTED', 'another prune runs')
    for (const name of ['a', 'b']) await b.schedules.create({ ...hourly, name, target: 'nas', keep: 'last=3' })
    for (const name of ['a', 'b', 'a']) {
      expect(await b.schedules.run(name)).toMatchObject({ lastError: null })
      pass(hour)
    }
    expect(b.backups.pruned).toEqual(['nas'])
    pass(22 * hour)
    await b.schedules.run('a')
    expect(b.backups.pruned).toEqual(['nas', 'nas'])
  })

  test('that cannot be applied does not make the run fail, and is told', async () => {
    await using b = await open()
    b.backups.forgetFailure = new AppError('PERMISSION_DENIED', 'deleting is not allowed')
    await b.schedules.create({ ...hourly, name: 'n', target: 'nas', keep: 'last=1' })
    expect(await b.schedules.run('n')).toMatchObject({
      status: 'ok',
      failures: 0,
      lastError: {
        code: 'PERMISSION_DENIED',
        message: expect.stringMatching(/retention could not be applied: deleting/),
      },
    })
    expect(await diagnose(b)).toEqual(['warning schedule-failing'])
  })
})

describe('paused, in the trash, removed', () => {
  test('a paused one does not run by itself, and goes on when it is resumed', async () => {
    await using b = await open()
    await b.schedules.create({ ...hourly, name: 'n', snapshot: true })
    b.schedules.start()
    expect(await b.schedules.pause('n')).toMatchObject({ status: 'paused', nextRunAt: null })
    pass(3 * hour)
    await aWhile()
    expect(snapshotNames(b)).toEqual([])
    expect(await b.schedules.run('n')).toMatchObject({ status: 'paused', nextRunAt: null, failures: 0 })
    expect(snapshotNames(b)).toHaveLength(1)
    expect(await b.schedules.resume('n')).toMatchObject({ status: 'ok', nextRunAt: '2026-11-23T14:00:00.000Z' })
  })

  test('it sleeps while its volume is in the trash, goes on after, and is gone with it', async () => {
    await using b = await open()
    await b.schedules.create({ ...hourly, name: 'n', snapshot: true })
    b.schedules.start()
    await b.t.volumes.remove('db')
    expect(b.schedules.inspect('n')).toMatchObject({ volume: 'db', status: 'asleep', nextRunAt: null })
    expect(b.schedules.list('db').map(({ status }) => status)).toEqual(['asleep'])
    pass(3 * hour)
    await aWhile()
    for (const call of [() => b.schedules.run('n'), () => b.schedules.resume('n')]) {
      const message = /^schedule n is asleep: its volume db is in the trash; run: holdfast trash restore db/
      await expect(call()).rejects.toEqual(refuses('FAILED_PRECONDITION', message))
    }
    expect(await diagnose(b)).toEqual(['warning schedule-asleep'])
    await b.t.trash.restore('db')
    expect(b.schedules.inspect('n')).toMatchObject({ status: 'ok', nextRunAt: '2026-11-23T14:00:00.000Z' })
    expect(snapshotNames(b)).toEqual([])
    pass(hour)
    await until('the run', () => snapshotNames(b).length === 1)
    await b.t.volumes.remove('db', { purge: true })
    expect(b.schedules.list()).toEqual([])
    b.schedules.stop()
    expect(b.t.logged).toContainEqual(expect.stringMatching(/gone: its volume was removed for good.*"n"/))
  })

  test('one that is paused in the trash is not complained of, and one that a user has removed not told', async () => {
    await using b = await open()
    await b.schedules.create({ ...hourly, name: 'n', snapshot: true })
    b.schedules.start()
    await b.schedules.pause('n')
    await b.t.volumes.remove('db')
    expect(b.schedules.inspect('n')).toMatchObject({ status: 'asleep' })
    expect(await diagnose(b)).toEqual([])
    await b.schedules.remove('n')
    await aWhile()
    expect(b.t.logged.filter((line) => /schedule/.test(line))).toEqual([])
  })

  test('it goes on at once with a new volume of the name, and a purge of the old one does not take it away', async () => {
    await using b = await open()
    await b.schedules.create({ ...hourly, name: 'n', snapshot: true })
    await b.schedules.run('n')
    b.schedules.start()
    await aWhile()
    await b.t.volumes.remove('db')
    await b.t.volumes.create({ name: 'db' })
    expect(b.schedules.list('db')).toEqual([expect.objectContaining({ name: 'n', status: 'ok' })])
    await b.t.trash.empty(['db'])
    pass(minute)
    expect(await b.schedules.run('n')).toMatchObject({ status: 'ok', failures: 0 })
    expect(snapshotNames(b)).toEqual(['n-20261123-100130'])
    const moved = /goes on with another volume of the same name/
    await until('a word', () => b.t.logged.some((line) => moved.test(line)))
    expect(b.t.logged.filter((line) => moved.test(line))).toHaveLength(1)
  })

  test('the old volume, restored under another name, leaves it with the new one', async () => {
    await using b = await open()
    await b.schedules.create({ ...hourly, name: 'n', snapshot: true })
    await b.t.volumes.remove('db')
    await b.t.volumes.create({ name: 'db' })
    await b.t.trash.restore('db', 'old')
    expect(b.schedules.inspect('n')).toMatchObject({ volume: 'db', status: 'ok' })
  })

  test('of two that were removed one after the other, the one that is restored has it', async () => {
    await using b = await open()
    await b.schedules.create({ ...hourly, name: 'n', snapshot: true })
    await b.t.volumes.remove('db')
    pass(minute)
    await b.t.volumes.create({ name: 'db' })
    await b.t.volumes.remove('db')
    const [oldest] = b.t.trash.list()
    await b.t.trash.restore(oldest?.id ?? '')
    expect(b.schedules.inspect('n')).toMatchObject({ volume: 'db', status: 'ok' })
    await b.t.trash.empty([])
    expect(b.schedules.inspect('n')).toMatchObject({ volume: 'db', status: 'ok' })
  })

  test('a run that is under way when its volume is replaced is not taken for one that never ended', async () => {
    await using b = await open()
    const { promise, resolve } = Promise.withResolvers<void>()
    b.backups.gate = promise
    await b.schedules.create({ ...hourly, name: 'n', target: 'nas' })
    const running = b.schedules.run('n')
    await until('the backup', () => openBackup(b) !== undefined)
    await b.t.volumes.remove('db')
    await b.t.volumes.create({ name: 'db' })
    resolve()
    expect(await running).toMatchObject({ status: 'ok', failures: 0, lastSuccessAt: '2026-11-23T10:00:30.000Z' })
  })

  test('one that is removed while it runs leaves nothing behind', async () => {
    await using b = await open()
    const { promise, resolve } = Promise.withResolvers<void>()
    b.backups.gate = promise
    await b.schedules.create({ ...hourly, name: 'n', target: 'nas' })
    const running = b.schedules.run('n')
    await until('it', () => b.schedules.inspect('n').lastRunAt !== null)
    await b.schedules.remove('n')
    pass(1)
    await b.schedules.create({ ...hourly, name: 'n', target: 'nas' })
    resolve()
    await expect(running).resolves.toMatchObject({ lastRunAt: null, lastSuccessAt: null })
    await b.schedules.remove('n')
    await expect(b.schedules.remove('n')).rejects.toEqual(refuses('NOT_FOUND', /no such schedule: n/))
  })
})

describe('after the daemon was down', () => {
  test('runs that were missed are caught up once', async () => {
    await using first = await open()
    await first.schedules.create({ ...hourly, name: 'n', snapshot: true })
    await using b = await first.nextLife()
    pass(5 * hour)
    b.schedules.start()
    await until('the run', () => snapshotNames(b).length === 1)
    await aWhile()
    expect(snapshotNames(b)).toEqual(['n-20261123-150030'])
    expect(b.schedules.inspect('n').nextRunAt).toBe('2026-11-23T16:00:00.000Z')
    expect(b.t.logged).toContainEqual(expect.stringMatching(/was missed/))
  })

  test('they wait for a random part of the time that is set', async () => {
    await using first = await open({}, { catchUpMs: minute })
    await first.schedules.create({ ...hourly, name: 'n', snapshot: true })
    await using b = await first.nextLife()
    pass(5 * hour)
    vi.spyOn(Math, 'random').mockReturnValueOnce(0.5)
    b.schedules.start()
    await until('the plan', () => b.schedules.inspect('n').nextRunAt === '2026-11-23T15:01:00.000Z')
    await aWhile()
    expect(snapshotNames(b)).toEqual([])
    pass(minute)
    await until('the run', () => snapshotNames(b).length === 1)
  })

  test('a run by hand that the stop has interrupted goes on as well', async () => {
    await using first = await open()
    first.backups.gate = new Promise(() => undefined)
    await first.schedules.create({ ...hourly, name: 'n', target: 'nas' })
    first.schedules.run('n', { operationId: '00000000-0000-0000-0000-000000000001' }).catch(() => undefined)
    await until('the backup', () => openBackup(first) !== undefined)
    await using b = await first.nextLife()
    b.schedules.start()
    await aWhile()
    expect(b.schedules.inspect('n')).toMatchObject({ status: 'running', failures: 0 })
    expect(b.t.core.operations.list(true).filter(({ kind }) => kind === 'backup.create')).toHaveLength(1)
    expect(b.t.core.operations.inspect('00000000-0000-0000-0000-000000000001').state).toBe('running')
    b.t.core.operations.cancel('00000000-0000-0000-0000-000000000001')
  })

  test('a backup of before the clock was set back is not taken for that of a new run', async () => {
    await using b = await open()
    await b.schedules.create({ ...hourly, name: 'n', target: 'nas' })
    await b.schedules.run('n')
    pass(-24 * hour)
    await b.schedules.run('n')
    expect(b.backups.made).toHaveLength(2)
  })

  test('a run that the stop has interrupted is neither a failure nor begun anew: its backup goes on', async () => {
    await using first = await open()
    first.backups.gate = new Promise(() => undefined)
    await first.schedules.create({ ...hourly, name: 'n', target: 'nas', keep: 'last=1' })
    first.schedules.start()
    pass(hour)
    await until('the backup', () => openBackup(first) !== undefined)
    await using b = await first.nextLife()
    expect(b.schedules.inspect('n')).toMatchObject({ failures: 0, lastError: null, lastSuccessAt: null })
    b.schedules.start()
    await aWhile()
    expect(b.schedules.inspect('n')).toMatchObject({ status: 'running' })
    const operation = openBackup(b)
    if (!operation) throw new Error('the backup is not open any more')
    await b.t.core.operations.close(operation, 'done', [])
    await until('the end', () => hasRun(b, 'n'))
    expect(b.backups.made).toEqual([])
    expect(b.backups.forgotten).toHaveLength(1)
    expect(b.schedules.inspect('n')).toMatchObject({ status: 'ok', lastRunAt: '2026-11-23T11:00:30.000Z' })
  })

  test('a backup that went on and failed is a failure of the run', async () => {
    await using first = await open()
    first.backups.gate = new Promise(() => undefined)
    await first.schedules.create({ ...hourly, name: 'n', target: 'nas' })
    first.schedules.run('n').catch(() => undefined)
    await until('the backup', () => openBackup(first) !== undefined)
    await using b = await first.nextLife()
    const operation = openBackup(b)
    if (!operation) throw new Error('the backup is not open any more')
    await b.t.core.operations.close(operation, 'failed', [], new AppError('NO_SPACE', 'the store is full'))
    b.schedules.start()
    await until('the failure', () => b.schedules.inspect('n').failures === 1)
    expect(b.schedules.inspect('n')).toMatchObject({
      lastError: {
        code: 'NO_SPACE',
        message: expect.stringMatching(/before a restart of the daemon: the store is full/),
      },
      nextRunAt: '2026-11-23T10:01:30.000Z',
    })
  })

  test('a run with its snapshot made goes on with the backup of that', async () => {
    await using first = await open()
    first.backups.gate = new Promise(() => undefined)
    await first.schedules.create({ ...hourly, name: 'n', snapshot: true, target: 'nas' })
    first.schedules.run('n').catch(() => undefined)
    await until('the backup', () => openBackup(first) !== undefined)
    await using b = await first.nextLife()
    const operation = openBackup(b)
    // As after a crash in the moment between the two.
    await b.t.core.catalog.write({ sql: 'DELETE FROM operations WHERE id = ?', params: [operation?.id ?? ''] })
    pass(10 * minute)
    b.schedules.start()
    await until('the end', () => hasRun(b, 'n'))
    expect(b.backups.made).toEqual([expect.objectContaining({ snapshot: 'n-20261123-100030' })])
    expect(snapshotNames(b)).toEqual(['n-20261123-100030'])
  })

  test('a run that had made nothing yet is begun anew, at once and not when it is due again', async () => {
    await using first = await open()
    await first.schedules.create({ ...hourly, name: 'n', snapshot: true })
    const gate = first.t.driver.block('snapshots.create')
    first.schedules.run('n').catch(() => undefined)
    await gate.reached
    await using b = await first.nextLife()
    expect(b.schedules.inspect('n')).toMatchObject({ failures: 0, lastError: null })
    pass(minute)
    b.schedules.start()
    await until('the run', () => b.schedules.inspect('n').lastSuccessAt !== null)
    expect(snapshotNames(b)).toEqual(['n-20261123-100130'])
  })
})
