/** `volume ls --filter`. */

import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { VolumeFilter, VolumeView } from '../../../../src/services/volumes/contract.ts'
import { matches } from '../../../../src/services/volumes/filter.ts'

const volume = {
  name: 'db.main',
  driver: 'vfs',
  labels: { env: 'prod', empty: '', eq: 'a=b' },
  mounts: [{ id: 'x', since: '', stale: false }],
} as unknown as VolumeView

const passing: VolumeFilter[] = [
  {},
  { driver: 'vfs' },
  { name: 'db.main' },
  { name: 'db*' },
  { name: '*' },
  { name: '??.main' },
  { name: '*.*' },
  { labels: ['env'] },
  { labels: ['env=prod', 'empty', 'empty=', 'eq=a=b'] },
  { dangling: false },
  { driver: 'vfs', name: 'd*', labels: ['env'], dangling: false },
]
test.each(passing)('%j shows it', (filter) => expect(matches(volume, filter)).toBe(true))

const failing: VolumeFilter[] = [
  { driver: 'nfs' },
  { name: 'db' },
  { name: 'b*' },
  { name: 'db?main?' },
  { name: 'dbxmain' },
  { name: '' },
  { labels: ['env=dev'] },
  { labels: ['env', 'tier'] },
  { labels: ['toString'] },
  { dangling: true },
]
test.each(failing)('%j hides it', (filter) => expect(matches(volume, filter)).toBe(false))

test('a name is matched by itself, whatever characters it has', () => {
  fc.assert(
    fc.property(fc.stringMatching(/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,30}$/), (name) => {
      expect(matches({ ...volume, name }, { name })).toBe(true)
      expect(matches({ ...volume, name: `${name}x` }, { name })).toBe(false)
    }),
  )
})

test('no text makes the pattern fail', () => {
  fc.assert(fc.property(fc.string(), (name) => typeof matches(volume, { name }) === 'boolean'))
})
