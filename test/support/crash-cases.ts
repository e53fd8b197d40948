/**
 * The kinds of operations during which a daemon may die, for tests that let it: each call, what it begins with, and whether its effect is
 * there afterwards.
 */

import { expect } from 'vitest'
import { isAppError } from '../../src/errors.ts'
import type { SnapshotView } from '../../src/services/snapshots/contract.ts'
import type { TrashView, VolumeView } from '../../src/services/volumes/contract.ts'
import type { FaultBed } from './fault-bed.ts'

/** A way in which a driver keeps volumes. */
export interface Flavour {
  readonly name: string
  readonly size?: string
}

export interface CrashCase {
  readonly kind: string
  /** Only for volumes that have a size. */
  readonly sizedOnly?: boolean
  /** Brings the volume `name`, which holds `first` in its snapshot s1 and `second` itself, to where the call begins. */
  prepare?(name: string): Promise<unknown>
  call(name: string, flavour: Flavour): Promise<unknown>
  /** Whether the call's effect is there; all that can be seen of it is right. */
  isDone(name: string): Promise<boolean>
  /** The call finds its work done already by recovery, and says so with this. */
  readonly already?: 'NOT_FOUND' | 'ALREADY_EXISTS'
}

const create = (bed: FaultBed, name: string, { size }: Flavour, more: object = {}) =>
  bed.api('POST', '/v1/volumes', { name, ...(size && { size }), ...more })
/** Every kind that changes a volume or a snapshot. @param bed asked for when a case runs */
export function crashCases(bed: () => FaultBed): readonly CrashCase[] {
  const names = async (): Promise<string[]> =>
    (await bed().api<VolumeView[]>('GET', '/v1/volumes')).map(({ name }) => name)
  const inTrash = async (): Promise<string[]> =>
    (await bed().api<TrashView[]>('GET', '/v1/trash')).map(({ name }) => name)
  const snapshots = async (volume: string): Promise<string[]> =>
    (await bed().api<SnapshotView[]>('GET', `/v1/snapshots?volume=${volume}`)).map(({ name }) => name)

  /** The volume is whole, its snapshot too. */
  const isWhole = async (name: string): Promise<void> => {
    expect(await bed().read(name)).toBe('second')
    expect(await bed().read(`${name}@s1`)).toBe('first')
  }

  /** The volume is whole, and another one is there with its content. */
  const isMade = async (name: string, other: string, content: string): Promise<boolean> => {
    await isWhole(name)
    if (!(await names()).includes(other)) return false
    expect(await bed().read(other)).toBe(content)
    return true
  }

  return [
    {
      kind: 'volume.create',
      call: (name, flavour) => create(bed(), `${name}-new`, flavour),
      isDone: (name) => isMade(name, `${name}-new`, ''),
    },
    {
      kind: 'volume.create of a clone',
      call: (name) => create(bed(), `${name}-copy`, { name }, { fromSnapshot: `${name}@s1` }),
      isDone: (name) => isMade(name, `${name}-copy`, 'first'),
    },
    {
      kind: 'volume.discard',
      already: 'NOT_FOUND',
      call: (name) => bed().api('DELETE', `/v1/volumes/${name}`),
      async isDone(name) {
        if ((await names()).includes(name)) return false
        await bed().api('POST', `/v1/trash/${name}/restore`, { as: `${name}-back` })
        await isWhole(`${name}-back`)
        return true
      },
    },
    {
      kind: 'volume.delete',
      already: 'NOT_FOUND',
      call: (name) => bed().api('DELETE', `/v1/volumes/${name}?purge=true`),
      isDone: async (name) => ![...(await names()), ...(await inTrash())].includes(name),
    },
    {
      kind: 'volume.restore',
      already: 'NOT_FOUND',
      prepare: (name) => bed().api('DELETE', `/v1/volumes/${name}`),
      call: (name) => bed().api('POST', `/v1/trash/${name}/restore`, { as: `${name}-back` }),
      async isDone(name) {
        if (!(await names()).includes(`${name}-back`)) return false
        await isWhole(`${name}-back`)
        return true
      },
    },
    {
      kind: 'volume.resize',
      sizedOnly: true,
      call: (name) => bed().api('POST', `/v1/volumes/${name}/resize`, { size: '64M' }),
      async isDone(name) {
        await isWhole(name)
        return (await bed().api<VolumeView>('GET', `/v1/volumes/${name}`)).size === 64 * 2 ** 20
      },
    },
    {
      kind: 'snapshot.create',
      already: 'ALREADY_EXISTS',
      call: (name) => bed().api('POST', `/v1/volumes/${name}/snapshots`, { name: 's2' }),
      async isDone(name) {
        await isWhole(name)
        if (!(await snapshots(name)).includes('s2')) return false
        expect(await bed().read(`${name}@s2`)).toBe('second')
        return true
      },
    },
    {
      kind: 'snapshot.delete',
      already: 'NOT_FOUND',
      prepare: (name) => bed().api('POST', `/v1/volumes/${name}/snapshots`, { name: 's2' }),
      call: (name) => bed().api('DELETE', `/v1/volumes/${name}/snapshots/s2`),
      async isDone(name) {
        await isWhole(name)
        return !(await snapshots(name)).includes('s2')
      },
    },
    {
      kind: 'snapshot.revert',
      call: (name) => bed().api('POST', `/v1/volumes/${name}/snapshots/s1/revert`),
      async isDone(name) {
        expect(await bed().read(`${name}@s1`)).toBe('first')
        const content = await bed().read(name)
        expect(['first', 'second']).toContain(content)
        return content === 'first'
      },
    },
  ]
}

/**
 * The daemon dies at a phase of the call, on a volume that is made for it, and lives again: all agrees, and the call, made again, has its effect.
 * The bed's volume `bystander` holds `precious`.
 */
export async function dieAt(bed: FaultBed, it: CrashCase, flavour: Flavour, phase: string): Promise<void> {
  const [kind = ''] = it.kind.split(' ')
  const name = `${flavour.name}-${it.kind.replace(/[^a-z]/g, '-')}-${phase}`
  await create(bed, name, flavour)
  await bed.write(name, 'first')
  await bed.api('POST', `/v1/volumes/${name}/snapshots`, { name: 's1' })
  await bed.write(name, 'second')
  await it.prepare?.(name)

  await bed.crashAt(`${kind}:${phase}`, () => it.call(name, flavour))
  await bed.start()

  expect(await bed.problems()).toEqual([])
  const done = await it.isDone(name)
  if (phase === 'committed') expect(done).toBe(true)
  if (!done || it.already !== 'NOT_FOUND') await repeat(it, name, flavour)
  expect(done || (await it.isDone(name))).toBe(true)
  expect(await bed.read('bystander')).toBe('precious')
  expect(await bed.problems()).toEqual([])
}

async function repeat({ call, already }: CrashCase, name: string, flavour: Flavour): Promise<void> {
  try {
    await call(name, flavour)
  } catch (error) {
    if (!already || !isAppError(error, already)) throw error
  }
}
