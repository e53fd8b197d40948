/** Rights that one node at a time has: to mount a volume with `access=single`, and to run a schedule; and what doctor says of them. */

import { setTimeout as pause } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { putVolume } from '../../../../src/catalog/changes.ts'
import { examine } from '../../../../src/services/node/doctor.ts'
import type { ScheduleTiming } from '../../../../src/services/schedules/schedule-plan.ts'
import { Schedules } from '../../../../src/services/schedules/schedules.ts'
import { DockerApi } from '../../../../src/system/docker.ts'
import { openCore, type TestCore } from '../../../support/core.ts'
import { FakeShare } from '../../../support/fake-share.ts'
import { aVolume } from '../../../support/nouns.ts'

interface Bed {
  readonly share: FakeShare
  readonly a: TestCore
  readonly b: TestCore
}

async function openBed(): Promise<Bed> {
  const share = new FakeShare()
  const node = (name: string) => openCore({ share: { at: share, node: name } })
  const bed = { share, a: await node('a'), b: await node('b') }
  await bed.a.volumes.create({ name: 'db', options: { access: 'single' } })
  await vi.waitUntil(() => bed.b.core.catalog.volume('db') !== undefined)
  return bed
}

/** Only the checks that shared storage is about. */
async function findings({ core }: TestCore) {
  const found = await examine(core, new DockerApi('/nowhere'))
  return found.filter(({ check }) => ['impostor', 'right-lost'].includes(check))
}

const refuses = (code: string, message: RegExp) =>
  expect.objectContaining({ code, message: expect.stringMatching(message) })

describe('takeover', () => {
  test('is refused while the other node is alive; forced, it says what is at risk', async () => {
    const { a, b } = await openBed()
    await a.mounts.mount('db', 'id')
    await expect(b.volumes.takeover('db', { force: false })).rejects.toEqual(refuses('IN_USE', /node a/))
    const taken = await b.volumes.takeover('db', { force: true })
    expect(taken).toEqual({
      name: 'db',
      from: 'a',
      risk: expect.stringMatching(/node a is alive.*mixes with what is written here.*stop them now/),
    })
    await b.mounts.mount('db', 'id')
    expect(await b.volumes.takeover('db', { force: false })).toEqual({ name: 'db', from: null, risk: null })
  })

  test('from a node that is gone: what it had not synced is lost', async () => {
    const { a, b, share } = await openBed()
    await a.mounts.mount('db', 'id')
    share.die('a')
    expect(b.mounts.get('db')?.status).toMatchObject({ nodes: ['a'] })
    expect((await b.volumes.inspect('db')).nodes).toEqual([{ name: 'a', alive: false }])
    const { from, risk } = await b.volumes.takeover('db', { force: false })
    expect([from, risk]).toEqual([
      'a',
      expect.stringMatching(/node a had not synced is lost.*make sure that it is off/),
    ])
    expect(b.logged).toContainEqual(expect.stringMatching(/taken over.*"from":"a"/))
  })

  test('of what no other node has, or every node may mount, there is none', async () => {
    const { a, b } = await openBed()
    await a.volumes.create({ name: 'web' })
    await expect(b.volumes.takeover('web', { force: true })).rejects.toEqual(refuses('NOT_SUPPORTED', /every node/))
    await expect(b.volumes.takeover('none', { force: true })).rejects.toEqual(refuses('NOT_FOUND', /no such volume/))
    await using alone = await openCore()
    await alone.volumes.create({ name: 'own' })
    await expect(alone.volumes.takeover('own', { force: true })).rejects.toEqual(
      refuses('NOT_SUPPORTED', /on this node alone/),
    )
  })

  test('the node that has lost it says so, until it has unmounted it', async () => {
    const { a, share } = await openBed()
    await a.mounts.mount('db', 'id')
    const id = a.core.catalog.volume('db')?.id ?? ''
    share.fence('a', id, 'node b has taken it over; it has been made read-only here')
    expect(a.mounts.get('db')?.status).toMatchObject({ status: 'degraded' })
    expect(await findings(a)).toEqual([
      expect.objectContaining({
        check: 'right-lost',
        subject: 'db',
        message: expect.stringMatching(/node b has taken/),
      }),
    ])
    await a.mounts.unmount('db', 'id')
    expect([a.mounts.get('db')?.status['status'], await findings(a)]).toEqual(['ok', []])
  })
})

describe('a volume of this node alone with the name of a shared one', () => {
  test('is found by doctor, and gives way when it is removed', async () => {
    const { a, b } = await openBed()
    const own = aVolume({ name: 'web', driver: 'vfs' })
    await b.core.catalog.write(putVolume(own))
    await a.volumes.create({ name: 'web' })
    await vi.waitUntil(() => b.logged.some((line) => line.includes('this node has a volume web of its own')))
    expect(b.core.catalog.volume('web')?.id).toBe(own.id)
    expect(await findings(b)).toEqual([
      expect.objectContaining({
        check: 'impostor',
        subject: 'web',
        message: expect.stringMatching(/driver vfs.*instead of the one on nas:\/data/),
        remedy: expect.stringMatching(/holdfast volume rm web/),
      }),
    ])
    await b.core.catalog.write({ sql: 'DELETE FROM volumes WHERE id = ?', params: [own.id] })
    expect(await findings(b)).toEqual([])
    expect(await b.mounts.find('web')).toMatchObject({ name: 'web' })
  })
})

describe('schedules of a shared volume', () => {
  const hour = 3_600_000
  const timing: ScheduleTiming = { lookEveryMs: 5, catchUpMs: 0, retryMs: [60_000] }
  beforeEach(() => void vi.useFakeTimers({ toFake: ['Date'], now: Date.parse('2026-11-23T10:00:30.000Z') }))
  afterEach(() => void vi.useRealTimers())

  /** By the test's own clock, which does not stand still. */
  async function until(holds: () => boolean): Promise<void> {
    for (const deadline = performance.now() + 5_000; !holds(); await pause(5)) {
      if (performance.now() > deadline) throw new Error('in vain waited for a schedule')
    }
  }

  async function schedulesOf(t: TestCore): Promise<Schedules> {
    const schedules = new Schedules({ core: t.core, snapshots: t.snapshots, backups: t.backups }, timing)
    await schedules.create({ volume: 'db', cron: '0 * * * *', timeZone: 'UTC', name: 'hourly', snapshot: true })
    schedules.start()
    return schedules
  }

  const pass = () => void vi.setSystemTime(Date.now() + hour)
  const madeOn = (t: TestCore) => t.driver.calls.filter((call) => call.startsWith('snapshots.create')).length
  const isPlanned = (...all: Schedules[]) =>
    all.every((schedules) => {
      const { nextRunAt, status } = schedules.inspect('hourly')
      return status !== 'running' && (nextRunAt ?? '') > new Date().toISOString()
    })

  test('run on one node at a time, and on the other when that is gone', async () => {
    const { a, b, share } = await openBed()
    const [one, other] = [await schedulesOf(a), await schedulesOf(b)]
    try {
      pass()
      await until(() => isPlanned(one, other) && madeOn(a) + madeOn(b) === 1)
      const [runs, waits] = madeOn(a) === 1 ? [a, b] : [b, a]
      pass()
      await until(() => isPlanned(one, other) && madeOn(runs) === 2)
      expect(madeOn(waits)).toBe(0)
      const idle = waits === a ? one : other
      expect(idle.inspect('hourly')).toMatchObject({ status: 'ok', failures: 0, lastError: null, lastRunAt: null })
      const ended = waits === a ? other : one
      ended.stop()
      share.die(runs === a ? 'a' : 'b')
      pass()
      await until(() => madeOn(waits) === 1)
      expect([madeOn(runs), share.records.size]).toEqual([2, 1])
    } finally {
      one.stop()
      other.stop()
    }
  })

  test('storage that is away is a failed run, tried again; asked for by hand, it runs anywhere', async () => {
    const { a, b, share } = await openBed()
    const [one, other] = [await schedulesOf(a), await schedulesOf(b)]
    try {
      pass()
      await until(() => isPlanned(one, other) && madeOn(a) + madeOn(b) === 1)
      await one.run('hourly')
      await other.run('hourly')
      expect(madeOn(a) + madeOn(b)).toBe(3)
      share.setAway('no route to host')
      share.lose([...share.leases.keys()][0] ?? '')
      pass()
      await until(() => [one, other].every((schedules) => schedules.inspect('hourly').failures === 1))
      expect(one.inspect('hourly').lastError).toMatchObject({ code: 'UNAVAILABLE' })
    } finally {
      one.stop()
      other.stop()
    }
  })
})
