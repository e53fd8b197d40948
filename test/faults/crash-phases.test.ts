/**
 * The daemon dies at each step of each kind of operation. Afterwards the lists, the disk and the kernel agree, what was there
 * before is there, and the same call succeeds.
 */

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { isAppError } from '../../src/errors.ts'
import type { SnapshotView } from '../../src/services/snapshots/contract.ts'
import type { TrashView, VolumeView } from '../../src/services/volumes/contract.ts'
import { type FaultBed, openFaultBed } from '../support/fault-bed.ts'

interface Flavour {
  readonly name: string
  readonly size?: string
}

/** The two ways in which vfs keeps a volume where the file system has no quota. */
const flavours: readonly Flavour[] = [{ name: 'directory' }, { name: 'image', size: '32M' }]
const image = flavours[1] as Flavour

interface Case {
  readonly kind: string
  readonly flavours: readonly Flavour[]
  /** Brings the volume `name`, which holds `first` in its snapshot s1 and `second` itself, to where the call begins. */
  prepare?(name: string): Promise<unknown>
  call(name: string): Promise<unknown>
  /** Whether the call's effect is there; all that can be seen of it is right. */
  isDone(name: string): Promise<boolean>
  /** The call finds its work done already by recovery, and says so with this. */
  readonly already?: 'NOT_FOUND' | 'ALREADY_EXISTS'
}

let bed: FaultBed
beforeAll(async () => {
  bed = await openFaultBed()
  await bed.api('POST', '/v1/volumes', { name: 'bystander' })
  await bed.write('bystander', 'precious')
})
afterAll(() => bed?.[Symbol.asyncDispose]())

const create = (name: string, { size }: Flavour, more: object = {}) =>
  bed.api('POST', '/v1/volumes', { name, ...(size && { size }), ...more })
const names = async (): Promise<string[]> => (await bed.api<VolumeView[]>('GET', '/v1/volumes')).map(({ name }) => name)
const inTrash = async (): Promise<string[]> => (await bed.api<TrashView[]>('GET', '/v1/trash')).map(({ name }) => name)
const snapshots = async (volume: string): Promise<string[]> =>
  (await bed.api<SnapshotView[]>('GET', `/v1/snapshots?volume=${volume}`)).map(({ name }) => name)

/** The volume is whole, its snapshot too. */
async function isWhole(name: string): Promise<void> {
  expect(await bed.read(name)).toBe('second')
  expect(await bed.read(`${name}@s1`)).toBe('first')
}

const cases: readonly Case[] = [
  {
    kind: 'volume.create',
    flavours,
    call: (name) => create(`${name}-new`, name.startsWith('image') ? image : { name }),
    async isDone(name) {
      await isWhole(name)
      if (!(await names()).includes(`${name}-new`)) return false
      expect(await bed.read(`${name}-new`)).toBe('')
      return true
    },
  },
  {
    kind: 'volume.create of a clone',
    flavours,
    call: (name) => create(`${name}-copy`, { name }, { fromSnapshot: `${name}@s1` }),
    async isDone(name) {
      await isWhole(name)
      if (!(await names()).includes(`${name}-copy`)) return false
      expect(await bed.read(`${name}-copy`)).toBe('first')
      return true
    },
  },
  {
    kind: 'volume.discard',
    flavours,
    already: 'NOT_FOUND',
    call: (name) => bed.api('DELETE', `/v1/volumes/${name}`),
    async isDone(name) {
      if ((await names()).includes(name)) return false
      await bed.api('POST', `/v1/trash/${name}/restore`, { as: `${name}-back` })
      await isWhole(`${name}-back`)
      return true
    },
  },
  {
    kind: 'volume.delete',
    flavours,
    already: 'NOT_FOUND',
    call: (name) => bed.api('DELETE', `/v1/volumes/${name}?purge=true`),
    isDone: async (name) => ![...(await names()), ...(await inTrash())].includes(name),
  },
  {
    kind: 'volume.restore',
    flavours,
    already: 'NOT_FOUND',
    prepare: (name) => bed.api('DELETE', `/v1/volumes/${name}`),
    call: (name) => bed.api('POST', `/v1/trash/${name}/restore`, { as: `${name}-back` }),
    async isDone(name) {
      if (!(await names()).includes(`${name}-back`)) return false
      await isWhole(`${name}-back`)
      return true
    },
  },
  {
    kind: 'volume.resize',
    flavours: [image],
    call: (name) => bed.api('POST', `/v1/volumes/${name}/resize`, { size: '64M' }),
    async isDone(name) {
      await isWhole(name)
      return (await bed.api<VolumeView>('GET', `/v1/volumes/${name}`)).size === 64 * 2 ** 20
    },
  },
  {
    kind: 'snapshot.create',
    flavours,
    already: 'ALREADY_EXISTS',
    call: (name) => bed.api('POST', `/v1/volumes/${name}/snapshots`, { name: 's2' }),
    async isDone(name) {
      await isWhole(name)
      if (!(await snapshots(name)).includes('s2')) return false
      expect(await bed.read(`${name}@s2`)).toBe('second')
      return true
    },
  },
  {
    kind: 'snapshot.delete',
    flavours,
    already: 'NOT_FOUND',
    prepare: (name) => bed.api('POST', `/v1/volumes/${name}/snapshots`, { name: 's2' }),
    call: (name) => bed.api('DELETE', `/v1/volumes/${name}/snapshots/s2`),
    async isDone(name) {
      await isWhole(name)
      return !(await snapshots(name)).includes('s2')
    },
  },
  {
    kind: 'snapshot.revert',
    flavours,
    call: (name) => bed.api('POST', `/v1/volumes/${name}/snapshots/s1/revert`),
    async isDone(name) {
      expect(await bed.read(`${name}@s1`)).toBe('first')
      const content = await bed.read(name)
      expect(['first', 'second']).toContain(content)
      return content === 'first'
    },
  },
]

async function repeat({ call, already }: Case, name: string): Promise<void> {
  try {
    await call(name)
  } catch (error) {
    if (!already || !isAppError(error, already)) throw error
  }
}

describe.each(cases)('$kind', (it) => {
  const places = it.flavours.flatMap((flavour) =>
    ['journalled', 'driven', 'committed'].map((phase) => ({ flavour, phase })),
  )

  test.each(places)('of a volume that is a $flavour.name, at the phase $phase', async ({ flavour, phase }) => {
    const [kind = ''] = it.kind.split(' ')
    const name = `${flavour.name}-${it.kind.replace(/[^a-z]/g, '-')}-${phase}`
    await create(name, flavour)
    await bed.write(name, 'first')
    await bed.api('POST', `/v1/volumes/${name}/snapshots`, { name: 's1' })
    await bed.write(name, 'second')
    await it.prepare?.(name)

    await bed.crashAt(`${kind}:${phase}`, () => it.call(name))
    await bed.start()

    expect(await bed.problems()).toEqual([])
    const done = await it.isDone(name)
    if (phase === 'committed') expect(done).toBe(true)
    if (!done || it.already !== 'NOT_FOUND') await repeat(it, name)
    expect(done || (await it.isDone(name))).toBe(true)
    expect(await bed.read('bystander')).toBe('precious')
    expect(await bed.problems()).toEqual([])
  })
})
