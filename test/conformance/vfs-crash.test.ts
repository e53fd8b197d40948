/**
 * The vfs driver's daemon is killed (SIGKILL) in the middle of a call, on each kind of storage; the next one starts and makes the
 * same call again, as recovery does, and everything is as if nothing had happened. HOLDFAST_STORM_ROUNDS sets how often.
 */

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, describe, expect, test } from 'vitest'
import type { Driver } from '../../src/driver.ts'
import type { Snapshot, Volume } from '../../src/model.ts'
import type { Act } from './driver-actor.ts'
import { context, type DriverBed, newSnapshot, newVolume, sh, targetIn } from './driver-bed.ts'
import { onBtrfs, onHost, onXfs } from './driver-vfs.ts'

const rounds = Number(process.env.HOLDFAST_STORM_ROUNDS ?? 2)
const MiB = 2 ** 20

let bed: DriverBed
let driver: Required<Driver>
let actor: ChildProcess | undefined

async function start(known: readonly Volume[]): Promise<void> {
  driver = bed.driver() as Required<Driver>
  await driver.start(context(), known, [])
}

afterEach(async () => {
  actor?.kill('SIGKILL')
  await driver.stop()
  await bed.dispose()
})

/** Runs an actor and kills it `delayMs` after it has begun its call; at 0, at once. @returns whether it was at work still */
async function killDuring(act: Act, delayMs: number): Promise<boolean> {
  const program = join(import.meta.dirname, 'driver-actor.ts')
  const flags = ['--wasm-wrapper-tiering-budget=2000000000', program, JSON.stringify(act)]
  const child = spawn(process.execPath, flags, { stdio: ['ignore', 'pipe', 'inherit'] })
  actor = child
  let said = ''
  const ended = once(child, 'close')
  const ready = new Promise<void>((resolve) => {
    child.stdout.on('data', (chunk) => {
      said += chunk
      if (said.includes('ready')) resolve()
    })
  })
  await Promise.race([ready, ended])
  if (delayMs > 0) await Promise.race([delay(delayMs), ended])
  child.kill('SIGKILL')
  await ended
  expect(said).toContain('ready')
  return !said.includes('done')
}

/** Content that takes a moment to copy, and says which it is. */
async function fill(root: string, text: string): Promise<void> {
  await mkdir(join(root, 'many'), { recursive: true })
  for (let i = 0; i < 300; i++) await writeFile(join(root, 'many', `f${i}`), `${text} ${i} `.repeat(400))
  await sh('dd', 'if=/dev/urandom', `of=${join(root, 'large')}`, 'bs=1M', 'count=8')
  await writeFile(join(root, 'text'), text)
}

async function expectFilled(root: string, text: string): Promise<void> {
  expect(await readFile(join(root, 'text'), 'utf8')).toBe(text)
  expect((await readdir(join(root, 'many'))).length).toBe(300)
  expect(await readFile(join(root, 'many', 'f299'), 'utf8')).toBe(`${text} 299 `.repeat(400))
}

/** Calls `use` with the directory of a mounted volume. */
async function inside<T>(volume: Volume, use: (root: string) => Promise<T>): Promise<T> {
  const target = targetIn(bed)
  await driver.mount(context(), volume, target)
  try {
    return await use(driver.mountpoint(volume, target))
  } finally {
    await driver.unmount(context(), volume, target)
  }
}

async function expectSnapshot(volume: Volume, snapshot: Snapshot, text: string): Promise<void> {
  const target = targetIn(bed)
  await driver.snapshots.mount(context(), volume, snapshot, target)
  await expectFilled(target, text)
  await driver.snapshots.unmount(context(), volume, snapshot, target)
}

interface Stage {
  readonly volume: Volume
  /** Of the content `then`; the volume holds `now`. */
  readonly snapshot: Snapshot
}

async function create(name: string, given: Partial<Volume>, text?: string): Promise<Volume> {
  const volume = newVolume(name, given)
  const made = { ...volume, state: await driver.createVolume(context(), volume) }
  if (text !== undefined) await inside(made, (root) => fill(root, text))
  return made
}

async function stage(given: Partial<Volume>): Promise<Stage> {
  const volume = await create('v', given, 'then')
  const snapshot = newSnapshot(volume, 's')
  const { state } = await driver.snapshots.create(context(), volume, { ...snapshot, frozen: true })
  await inside(volume, (root) => fill(root, 'now'))
  return { volume, snapshot: { ...snapshot, state } }
}

/** A call may end before the blow falls: those rounds test less, and are made up for by others, up to this many. */
const mostRounds = rounds + 20

/** Kills the call at its very beginning and then at later moments up to `longestMs`, and lets `recover` make it again each time. */
async function storm(longestMs: number, act: (round: number) => Promise<Act>, recover: (act: Act) => Promise<void>) {
  let met = 0
  for (let round = 0; round < rounds || (met === 0 && round < mostRounds); round++) {
    const told = await act(round)
    await driver.stop()
    const moment = (round % rounds) / rounds
    if (await killDuring(told, longestMs * moment ** 2 * Math.random())) met++
    await start([told.volume])
    await recover(told)
    await expect.poll(() => bed.leftovers(), { timeout: 10_000 }).toEqual([])
  }
  expect(met).toBeGreaterThan(0)
}

describe.each([
  ['directories on ext4, whose snapshots are archived', onHost, {}],
  ['directories on XFS with reflink', onXfs, {}],
  ['subvolumes on btrfs', onBtrfs, {}],
  ['images', onXfs, { size: 64 * MiB }],
] as const)('%s', (_, factory, given) => {
  async function open(): Promise<Stage> {
    bed = await factory()
    await start([])
    return stage(given)
  }

  const plain = ({ volume, snapshot }: Stage, call: Act['call'], changes: Partial<Act> = {}): Act => {
    const common = { directory: bed.directory, other: volume, target: targetIn(bed) }
    return { call, volume, snapshot, ...common, ...changes }
  }

  test('a snapshot is made, or not there', async () => {
    const first = await open()
    const act = async (round: number) => plain(first, 'snapshot', { snapshot: newSnapshot(first.volume, `n${round}`) })
    await storm(1500, act, async ({ volume, snapshot }) => {
      const found = await driver.snapshots.find(context(), volume, snapshot)
      if (found) await expectSnapshot(volume, { ...snapshot, state: found.state }, 'now')
      await driver.snapshots.delete(context(), volume, snapshot)
      expect(await driver.snapshots.find(context(), volume, snapshot)).toBeNull()
      await expectSnapshot(volume, first.snapshot, 'then')
    })
  })

  test('a snapshot that is being removed is gone, and the others stay', async () => {
    const first = await open()
    const act = async (round: number) => {
      const snapshot = newSnapshot(first.volume, `n${round}`)
      const { state } = await driver.snapshots.create(context(), first.volume, { ...snapshot, frozen: true })
      return plain(first, 'forget', { snapshot: { ...snapshot, state } })
    }
    await storm(300, act, async ({ volume, snapshot }) => {
      await driver.snapshots.delete(context(), volume, snapshot)
      expect(await driver.snapshots.find(context(), volume, snapshot)).toBeNull()
      await expectSnapshot(volume, first.snapshot, 'then')
    })
  })

  test('a revert is finished', async () => {
    const first = await open()
    const act = async () => {
      await inside(first.volume, (root) => fill(root, 'now'))
      return plain(first, 'revert')
    }
    await storm(1500, act, async ({ volume, snapshot }) => {
      await driver.revert.revert(context(), volume, snapshot)
      await inside(volume, (root) => expectFilled(root, 'then'))
    })
  })

  test('a replacement is finished', async () => {
    const first = await open()
    const act = async (round: number) =>
      plain(first, 'replace', { other: await create(`other${round}`, given, `new ${round}`) })
    await storm(60, act, async ({ volume, other }) => {
      await driver.replace.replace(context(), volume, other)
      await inside(volume, (root) => expectFilled(root, `new ${other.name.slice(5)}`))
      await expectSnapshot(volume, first.snapshot, 'then')
    })
  })
})

test('an archived snapshot that was being mounted can be mounted, and leaves nothing', async () => {
  bed = await onHost()
  await start([])
  const { volume, snapshot } = await stage({})
  const target = targetIn(bed)
  const act = async (): Promise<Act> => ({
    directory: bed.directory,
    call: 'mount',
    volume,
    snapshot,
    other: volume,
    target,
  })
  await storm(1500, act, async () => {
    await driver.snapshots.mount(context(), volume, snapshot, target)
    await expectFilled(target, 'then')
    await driver.snapshots.unmount(context(), volume, snapshot, target)
    await expect.poll(() => readdir(join(bed.directory, 'vfs', 'views'))).toEqual([])
  })
})
