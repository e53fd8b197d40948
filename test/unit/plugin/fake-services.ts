/** Volumes in memory behind the services' contract: only what Docker's door calls, with hooks to be slow or to fail. */

import { AppError } from '../../../src/errors.ts'
import type { Services } from '../../../src/services/contract.ts'
import type {
  CreateVolumeRequest,
  MountService,
  VolumeService,
  VolumeView,
} from '../../../src/services/volumes/contract.ts'

export interface FakeServices {
  readonly services: Pick<Services, 'volumes' | 'mounts'>
  /** Every call that changes something, as `mount db id1`. */
  readonly calls: string[]
  readonly requests: CreateVolumeRequest[]
  /** Counts of each `NAME ID`. */
  readonly held: Map<string, number>
  /** Awaited before each call of that name takes effect; may throw. */
  readonly before: Record<string, () => Promise<void> | void>
  listed: number
}

export function fakeServices(...names: string[]): FakeServices {
  const known = new Set(names)
  const fake: FakeServices = {
    services: undefined as never,
    calls: [],
    requests: [],
    held: new Map(),
    before: {},
    listed: 0,
  }
  let generation = 0

  async function enter(call: string, ...args: string[]): Promise<void> {
    fake.calls.push([call, ...args].join(' '))
    await fake.before[call]?.()
  }
  const count = (name: string, id: string, by: number): void => {
    const now = Math.max(0, (fake.held.get(`${name} ${id}`) ?? 0) + by)
    if (now === 0) fake.held.delete(`${name} ${id}`)
    else fake.held.set(`${name} ${id}`, now)
  }
  const mounts: Omit<MountService, 'bind'> = {
    get generation() {
      return generation
    },
    get(name) {
      if (!known.has(name)) return undefined
      return { name, mountpoint: `/m/${name}`, createdAt: '2026-01-02T03:04:05.678Z', status: { driver: 'vfs' } }
    },
    find: async (name) => mounts.get(name),
    list() {
      fake.listed++
      return [...known].map((name) => ({ name, mountpoint: '' }))
    },
    async mount(name, id) {
      await enter('mount', name, id)
      if (!known.has(name)) throw new AppError('NOT_FOUND', `no such volume: ${name}`)
      count(name, id, 1)
      return `/m/${name}`
    },
    async unmount(name, id) {
      await enter('unmount', name, id)
      count(name, id, -1)
    },
    async resetCounts() {
      await enter('resetCounts')
    },
  }
  const volumes: Pick<VolumeService, 'create' | 'remove'> = {
    async create(request) {
      fake.requests.push(request)
      await enter('create', request.name)
      const existed = known.has(request.name)
      known.add(request.name)
      generation++
      return { volume: { name: request.name } as VolumeView, existed }
    },
    async remove(name) {
      await enter('remove', name)
      if (!known.delete(name)) throw new AppError('NOT_FOUND', `no such volume: ${name}`)
      generation++
    },
  }
  return Object.assign(fake, { services: { mounts: mounts as MountService, volumes: volumes as VolumeService } })
}
