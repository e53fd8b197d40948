/** Numbers of thin devices: which ones an id may have, whose they are, and when one is a leftover. */

import { randomUUID } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { isLeftover, ownCandidates } from '../../../../drivers/devicemapper/made.ts'
import type { VolumeState } from '../../../../drivers/devicemapper/options.ts'
import { candidates, Registry } from '../../../../drivers/devicemapper/registry.ts'
import type { Storage } from '../../../../drivers/devicemapper/storage.ts'
import type { Snapshot, Volume } from '../../../../src/model.ts'

const state = (thin: number, given: Partial<VolumeState> = {}): VolumeState => ({
  ...{ thin, size: 100, fs: 'ext4', generation: 0, trashed: false },
  ...given,
})
const volume = (id: string, it: VolumeState | null): Volume =>
  ({ id, name: `name-${id}`, state: it }) as unknown as Volume
const snapshot = (id: string, volumeId: string, thin: number | null): Snapshot =>
  ({ id, volumeId, name: id, state: thin === null ? null : { thin, size: 100, fs: 'ext4' } }) as unknown as Snapshot
const storageOf = (registry: Registry) => ({ registry }) as unknown as Storage

describe('the numbers of an id', () => {
  test('are the same in every life: whatever was made with them is found again by them', () => {
    expect(candidates('2f1c8a52-0000-4000-8000-000000000000')).toEqual([7_002_827, 8_146_265, 14_943_332, 8_359_669])
  })

  test('fit the pool, leave low ones to others, and are several', () => {
    for (let count = 0; count < 2000; count++) {
      const numbers = candidates(randomUUID(), count % 3)
      expect(new Set(numbers).size).toBe(4)
      for (const number of numbers) {
        expect(number).toBeGreaterThanOrEqual(2 ** 16)
        expect(number).toBeLessThan(2 ** 24)
      }
    }
  })

  test('are others after a change of the volume', () => {
    const id = randomUUID()
    const all = [0, 1, 2].flatMap((generation) => candidates(id, generation))
    expect(new Set(all).size).toBe(12)
  })

  test('are not those that a record gives to another', () => {
    const [first, second, ...others] = candidates('mine') as [number, number, number, number]
    const registry = new Registry([volume('other', state(first)), volume('mine', state(second))], [])
    expect(ownCandidates(storageOf(registry), 'mine')).toEqual([second, ...others])
  })
})

describe('the registry', () => {
  test('has what the records say; a volume in the making has no number, one in the trash no name', () => {
    const trashed = volume('b', state(2, { trashed: true, size: 30 }))
    const registry = new Registry(
      [volume('a', state(1)), trashed, volume('c', null)],
      [snapshot('s', 'a', 3), snapshot('making', 'a', null)],
    )
    expect([1, 2, 3, 4].map((thin) => registry.ownerOf(thin))).toEqual(['a', 'b', 's', undefined])
    expect(['a', 'b', 'c', 'd'].map((id) => registry.hasSeen(id))).toEqual([true, true, true, false])
    expect(registry.hasVolume('c')).toBe(false)
    expect(registry.snapshotsOf('a').map(({ id }) => id)).toEqual(['s'])
    expect(registry.promised()).toBe(130)
    expect(registry.promised('a')).toBe(30)
    registry.ensureNameFree({ id: 'new', name: 'name-b' })
    registry.ensureNameFree({ id: 'a', name: 'name-a' })
    expect(() => registry.ensureNameFree({ id: 'new', name: 'name-a' })).toThrow(/choose another name/)
  })

  test('a volume that gets another number gives the old one back, unless it is already of another', () => {
    const registry = new Registry([volume('a', state(1)), volume('b', state(2))], [])
    registry.putVolume('a', 'a', state(5))
    expect([1, 5].map((thin) => registry.ownerOf(thin))).toEqual([undefined, 'a'])
    // As replace does: b becomes what a was.
    registry.putVolume('b', 'b', state(5))
    registry.dropVolume('a')
    expect([2, 5].map((thin) => registry.ownerOf(thin))).toEqual([undefined, 'b'])
  })

  test('what is dropped is of nobody', () => {
    const registry = new Registry([volume('a', state(1))], [snapshot('s', 'a', 3)])
    registry.dropSnapshot('s')
    registry.dropVolume('a')
    expect([1, 3].map((thin) => registry.ownerOf(thin))).toEqual([undefined, undefined])
    expect(registry.allSnapshots()).toEqual([])
    expect(registry.promised()).toBe(0)
  })
})

describe('a device that no record names', () => {
  const storage = storageOf(new Registry([volume('mine', null), volume('source', state(9))], []))
  const found = (label: object | null, mapped: number | null) =>
    ({ thin: 7, label, mapped, superBlock: null }) as Parameters<typeof isLeftover>[1]

  test.each([
    ['holds nothing at all', found(null, 0), true],
    ['has no label but data', found(null, 4096), false],
    ['has no label and cannot tell whether it has data', found(null, null), false],
    ['has our label', found({ volume: 'mine' }, 4096), true],
    ['has the label of the volume that it is a copy of', found({ volume: 'source' }, 4096), true],
    ['has the label of a volume that nobody has heard of', found({ volume: 'stranger' }, 4096), false],
    ['has become the content of another volume', found({ volume: 'source', from: 'mine' }, 4096), false],
  ])('%s: may be deleted: %#', (_, it, expected) => {
    expect(isLeftover(storage, it, 'mine')).toBe(expected)
  })
})
