/**
 * The daemon dies at each step of a backup and of a restore, and in the middle of their data. The next life goes on by itself, under the same
 * operation, and afterwards the lists, the disk and the kernel agree: one backup more, or a whole volume, and what was there before.
 */

import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { BackupView } from '../../src/services/backups/contract.ts'
import type { OperationView } from '../../src/services/journal/contract.ts'
import type { SnapshotView } from '../../src/services/snapshots/contract.ts'
import type { VolumeView } from '../../src/services/volumes/contract.ts'
import { type FaultBed, openFaultBed } from '../support/fault-bed.ts'

let bed: FaultBed
beforeAll(async () => {
  bed = await openFaultBed()
  await bed.api('POST', '/v1/targets', { name: 't', url: `file://${bed.sandbox.directory}/repository` })
})
afterAll(() => bed?.[Symbol.asyncDispose]())

interface Flavour {
  readonly name: string
  readonly size?: string
}
const directory: Flavour = { name: 'directory' }
const image: Flavour = { name: 'image', size: '32M' }

interface Case {
  readonly kind: 'backup.create' | 'backup.restore'
  readonly what: string
  readonly flavours: readonly Flavour[]
  /** @param backup of the volume's snapshot s1 */
  call(name: string, backup: string): Promise<unknown>
  /** What must be so in the end, whatever phase was the last. */
  check(name: string, backup: string): Promise<void>
}

const backUp = (volume: string, more: object = {}) =>
  bed.api<BackupView>('POST', '/v1/backups', { volume, to: { at: 't' }, ...more })
const restore = (backup: string, to: string, more: object = {}) =>
  bed.api<VolumeView>('POST', '/v1/backups/restore', { from: { backup }, to, ...more })
const backupsOf = (volume: string) => bed.api<BackupView[]>('POST', '/v1/backups/list', { at: 't', volume })
const snapshotsOf = async (volume: string): Promise<string[]> =>
  (await bed.api<SnapshotView[]>('GET', `/v1/snapshots?volume=${volume}`)).map(({ name }) => name)

/** There is one backup besides `former`; it holds `content`, and is what the volume points to. */
async function checkBackup(name: string, former: string, content: string): Promise<void> {
  const [made, ...others] = (await backupsOf(name)).filter(({ id }) => `t/${id}` !== former)
  expect(others).toEqual([])
  await restore(`t/${made?.id}`, `${name}-copy`)
  expect(await bed.read(`${name}-copy`)).toBe(content)
  expect((await bed.api<VolumeView>('GET', `/v1/volumes/${name}`)).lastBackup?.url).toBe(made?.url)
  expect([await bed.read(name), await snapshotsOf(name)]).toEqual(['second', ['s1']])
}

async function checkInPlace(name: string): Promise<void> {
  expect(await bed.read(name)).toBe('first')
  const [s1, safety, ...others] = await snapshotsOf(name)
  expect([s1, others]).toEqual(['s1', []])
  expect(safety).toMatch(/^before-restore-/)
  expect(await bed.read(`${name}@${safety}`)).toBe('second')
}

const cases: readonly Case[] = [
  {
    kind: 'backup.create',
    what: 'of a volume',
    flavours: [directory, image],
    call: (name) => backUp(name),
    check: (name, former) => checkBackup(name, former, 'second'),
  },
  {
    kind: 'backup.create',
    what: 'of a snapshot',
    flavours: [directory],
    call: (name) => backUp(name, { snapshot: 's1', labels: { again: 'yes' } }),
    check: (name, former) => checkBackup(name, former, 'first'),
  },
  {
    kind: 'backup.restore',
    what: 'to a new volume',
    flavours: [directory],
    call: (name, backup) => restore(backup, `${name}-new`),
    async check(name) {
      expect([await bed.read(`${name}-new`), await bed.read(name)]).toEqual(['first', 'second'])
    },
  },
  {
    kind: 'backup.restore',
    what: 'in place',
    flavours: [directory, image],
    call: (name, backup) => restore(backup, name, { inPlace: true }),
    check: checkInPlace,
  },
  {
    kind: 'backup.restore',
    what: 'of a path in place',
    flavours: [directory],
    call: (name, backup) => restore(backup, name, { inPlace: true, path: 'data.txt' }),
    check: checkInPlace,
  },
]

/** `second` in the volume, `first` in its snapshot s1 and in a backup of that. @returns the backup */
async function prepare(name: string, { size }: Flavour): Promise<string> {
  await bed.api('POST', '/v1/volumes', { name, ...(size && { size }) })
  await bed.write(name, 'first')
  await bed.api('POST', `/v1/volumes/${name}/snapshots`, { name: 's1' })
  await bed.write(name, 'second')
  return `t/${(await backUp(name, { snapshot: 's1' })).id}`
}

describe.each(cases)('$kind $what', (it) => {
  const places = it.flavours.flatMap((flavour) =>
    ['journalled', 'driven', 'committed'].map((phase) => ({ flavour, phase })),
  )

  test.each(places)('a volume that is a $flavour.name, at the phase $phase', async ({ flavour, phase }) => {
    const name = `${flavour.name}-${it.kind.slice(7)}-${it.what.replaceAll(' ', '-')}-${phase}`
    const backup = await prepare(name, flavour)
    await bed.crashAt(`${it.kind}:${phase}`, () => it.call(name, backup))
    await bed.start()
    await it.check(name, backup)
    expect(await bed.problems()).toEqual([])
  })
})

describe('in the middle of the data', () => {
  const moments = [200, 700, 1_500]

  async function ended(id: string): Promise<OperationView> {
    for (;;) {
      const operation = await bed.api<OperationView>('GET', `/v1/operations/${id}`)
      if (operation.state !== 'running') return operation
      await pause(200)
    }
  }

  async function fill(name: string): Promise<Buffer> {
    await bed.api('POST', '/v1/volumes', { name })
    const { Mountpoint } = await bed.docker('Mount', { Name: name, ID: 'filling' })
    const content = randomBytes(64 * 2 ** 20)
    writeFileSync(bed.sandbox.reach(`${Mountpoint}/data.txt`), content.toString('base64'))
    await bed.docker('Unmount', { Name: name, ID: 'filling' })
    return content
  }

  test('a backup killed again and again ends under its id, and its restore too', async () => {
    const content = await fill('large')
    const { id } = await backUp('large', { detach: true })
    for (const moment of moments) {
      await pause(moment)
      await bed.kill9()
      await bed.start('listening')
    }
    expect((await ended(id)).state).toBe('done')
    const [backup, ...others] = await backupsOf('large')
    expect(others).toEqual([])
    const restoring = await restore(`t/${backup?.id}`, 'again', { detach: true } as object)
    for (const moment of moments) {
      await pause(moment)
      await bed.kill9()
      await bed.start('listening')
    }
    expect((await ended((restoring as unknown as OperationView).id)).state).toBe('done')
    expect(Buffer.from(await bed.read('again'), 'base64').equals(content)).toBe(true)
    expect(await bed.problems()).toEqual([])
  })
})
