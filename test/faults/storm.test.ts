/**
 * `kill -9` of the daemon at random moments of a storm of mixed operations. What was answered is there afterwards, with its
 * content; what was not is there as a whole or not at all.
 */

import { randomUUID } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import { expect, test } from 'vitest'
import { AppError, isAppError } from '../../src/errors.ts'
import type { SnapshotView } from '../../src/services/snapshots/contract.ts'
import type { TrashView, VolumeView } from '../../src/services/volumes/contract.ts'
import { type FaultBed, openFaultBed } from '../support/fault-bed.ts'

const rounds = 60
/** Each worker has a volume of its own, so that its calls come one after the other. */
const workers = [{ name: 'one' }, { name: 'two' }, { name: 'three' }, { name: 'img', size: '20M' }] as const

type Worker = (typeof workers)[number]

/** What there is of a worker's volume: contents by name, oldest first where the order counts. */
interface World {
  readonly live: string | null
  readonly snapshots: Readonly<Record<string, string>>
  /** The volumes in the trash, oldest first. */
  readonly trash: readonly string[]
  readonly clone: string | null
}

const nothing: World = { live: null, snapshots: {}, trash: [], clone: null }

/** One call: what it does, and the world when it has. */
interface Step {
  readonly title: string
  readonly after: World
  run(bed: FaultBed): Promise<unknown>
}

/** A worker's world as far as it was answered, and what is under way. */
interface Account {
  readonly worker: Worker
  known: World
  pending: Step | undefined
}

const picked = <T>(list: readonly T[]): T => list[Math.floor(Math.random() * list.length)] as T

/** Steps that can be taken in a world. */
function stepsFrom({ worker, known }: Account): Step[] {
  const steps = known.live === null ? stepsWithout(worker, known) : stepsWith(worker.name, known, known.live)
  if (known.clone === null) return steps
  const run: Step['run'] = (bed) => bed.api('DELETE', `/v1/volumes/${worker.name}-clone?purge=true`)
  return [...steps, { title: 'clone rm --purge', after: { ...known, clone: null }, run }]
}

/** The volume is not there. */
function stepsWithout(worker: Worker, known: World): Step[] {
  const { name } = worker
  const request = { name, ...('size' in worker && { size: worker.size }) }
  const create: Step = {
    title: 'create',
    after: { ...known, live: '' },
    run: (bed) => bed.api('POST', '/v1/volumes', request),
  }
  const last = known.trash.at(-1)
  if (last === undefined) return [create]
  const after = { ...known, live: last, trash: known.trash.slice(0, -1) }
  return [create, { title: 'restore', after, run: (bed) => bed.api('POST', `/v1/trash/${name}/restore`, {}) }]
}

/** The volume is there and holds `live`. */
function stepsWith(name: string, known: World, live: string): Step[] {
  const path = `/v1/volumes/${name}`
  const token = randomUUID().slice(0, 8)
  const write: Step = { title: 'write', after: { ...known, live: token }, run: (bed) => bed.write(name, token) }
  const snapshot: Step = {
    title: 'snapshot',
    after: { ...known, snapshots: { ...known.snapshots, [token]: live } },
    run: (bed) => bed.api('POST', `${path}/snapshots`, { name: token }),
  }
  const kept = Object.keys(known.snapshots)
  const more = kept.flatMap((it) => stepsWithSnapshot(name, known, it))
  // A volume takes its snapshots with it: without, the world stays flat.
  return [
    write,
    write,
    ...(kept.length < 3 ? [snapshot] : []),
    ...more,
    ...(kept.length === 0 ? removals(path, known, live) : []),
  ]
}

function stepsWithSnapshot(name: string, known: World, snapshot: string): Step[] {
  const { [snapshot]: content = '', ...others } = known.snapshots
  const path = `/v1/volumes/${name}/snapshots/${snapshot}`
  const request = { name: `${name}-clone`, fromSnapshot: `${name}@${snapshot}` }
  return [
    { title: 'snapshot rm', after: { ...known, snapshots: others }, run: (bed) => bed.api('DELETE', path) },
    { title: 'revert', after: { ...known, live: content }, run: (bed) => bed.api('POST', `${path}/revert`) },
    ...(known.clone === null
      ? [
          {
            title: 'clone',
            after: { ...known, clone: content },
            run: (bed: FaultBed) => bed.api('POST', '/v1/volumes', request),
          },
        ]
      : []),
  ]
}

function removals(path: string, known: World, live: string): Step[] {
  const gone = { ...known, live: null }
  const purge: Step = { title: 'rm --purge', after: gone, run: (bed) => bed.api('DELETE', `${path}?purge=true`) }
  if (known.trash.length === 2) return [purge]
  const after = { ...gone, trash: [...known.trash, live] }
  return [purge, { title: 'rm', after, run: (bed) => bed.api('DELETE', path) }]
}

/** Takes steps until the daemon is gone. @returns how many were answered */
async function work(bed: FaultBed, account: Account): Promise<number> {
  for (let answered = 0; ; answered++) {
    const step = picked(stepsFrom(account))
    account.pending = step
    try {
      await step.run(bed)
    } catch (error) {
      if (isAppError(error, 'UNAVAILABLE')) return answered
      throw new AppError('INTERNAL', `${account.worker.name}: ${step.title}: ${(error as Error).message}`, {
        cause: error,
      })
    }
    account.known = step.after
    account.pending = undefined
  }
}

/** Stands for the content of an image in the trash, which is looked at when it is restored. */
const unseen = '(unseen)'

/** What there really is. */
async function observe(bed: FaultBed, { name }: Worker): Promise<World> {
  const names = (await bed.api<VolumeView[]>('GET', '/v1/volumes')).map((volume) => volume.name)
  const read = async (volume: string): Promise<string | null> =>
    names.includes(volume) ? await bed.read(volume) : null
  const snapshots = names.includes(name) ? await bed.api<SnapshotView[]>('GET', `/v1/snapshots?volume=${name}`) : []
  const contents: [string, string][] = []
  for (const snapshot of snapshots) contents.push([snapshot.name, await bed.read(`${name}@${snapshot.name}`)])
  const trash = (await bed.api<TrashView[]>('GET', '/v1/trash')).filter((volume) => volume.name === name)
  return {
    live: await read(name),
    snapshots: Object.fromEntries(contents),
    trash: trash.map(({ id }) => contentInTrash(`${bed.vfs}/trash/${name}~${id}`)),
    clone: await read(`${name}-clone`),
  }
}

function contentInTrash(folder: string): string {
  if (existsSync(`${folder}/image`)) return unseen
  return existsSync(`${folder}/data/data.txt`) ? readFileSync(`${folder}/data/data.txt`, 'utf8') : ''
}

function isSame(found: World, expected: World): boolean {
  const seen = {
    ...expected,
    trash: expected.trash.map((content, index) => (found.trash[index] === unseen ? unseen : content)),
  }
  return isDeepStrictEqual(found, seen)
}

/** A purge is a removal and then the deletion; one that was cut short between them is done by and by. */
async function finishPurges(bed: FaultBed): Promise<void> {
  for (const { id, deletedAt, purgeAt } of await bed.api<TrashView[]>('GET', '/v1/trash')) {
    if (purgeAt !== deletedAt) continue
    await bed.api('DELETE', `/v1/trash/${id}`).catch((error: unknown) => {
      if (!isAppError(error, 'NOT_FOUND')) throw error
    })
  }
}

/** Holds what is there against what was answered. @returns a sentence when they do not agree */
async function settle(bed: FaultBed, account: Account): Promise<string | undefined> {
  const { worker, known, pending } = account
  for (const volume of [worker.name, `${worker.name}-clone`]) {
    await bed.docker('Unmount', { Name: volume, ID: 'fault-test' }).catch(() => undefined) // A write was cut short, or not.
  }
  await finishPurges(bed)
  const found = await observe(bed, worker)
  const world = [known, pending?.after].find((it) => it && isSame(found, it))
  account.pending = undefined
  account.known = world ?? known
  if (world) return undefined
  return `${worker.name}: found ${JSON.stringify(found)}, answered ${JSON.stringify(known)}, under way ${pending?.title} to ${JSON.stringify(pending?.after)}`
}

test(`${rounds} kills in a storm lose nothing and leave nothing half-made`, { timeout: 10 * 60_000 }, async () => {
  await using bed = await openFaultBed()
  const accounts = workers.map((worker): Account => ({ worker, known: nothing, pending: undefined }))
  let [answered, cut] = [0, 0]
  for (let round = 1; round <= rounds; round++) {
    const working = Promise.all(accounts.map((account) => work(bed, account)))
    await sleep(30 + Math.random() * 500)
    await bed.kill9()
    answered += (await working).reduce((sum, steps) => sum + steps, 0)
    cut += accounts.filter(({ pending }) => pending).length
    await bed.start()
    const lost = await Promise.all(accounts.map((account) => settle(bed, account)))
    expect([`round ${round}`, ...lost.filter(Boolean)]).toEqual([`round ${round}`])
    if (round % 10 === 0) expect(await bed.problems()).toEqual([])
  }
  expect(answered).toBeGreaterThan(rounds)
  expect(cut).toBeGreaterThanOrEqual(rounds)
})
