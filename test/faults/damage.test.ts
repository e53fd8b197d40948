/** One damaged record, or a stranger's files in the storage, harm only themselves, and doctor names them. */

import { mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import Database from 'better-sqlite3'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Finding } from '../../src/model.ts'
import type { VolumeView } from '../../src/services/volumes/contract.ts'
import { type FaultBed, openFaultBed } from '../support/fault-bed.ts'
import { until } from '../support/processes.ts'

const others = ['first', 'last']

let bed: FaultBed
beforeEach(async () => {
  bed = await openFaultBed()
  for (const name of ['first', 'hurt', 'last']) {
    await bed.api('POST', '/v1/volumes', { name, labels: { of: name } })
    await bed.write(name, `content of ${name}`)
  }
})
afterEach(() => bed?.[Symbol.asyncDispose]())

/** Changes the catalog while the daemon is down. */
async function damage(sql: string): Promise<void> {
  await bed.stop()
  const db = new Database(join(bed.root, 'catalog.db'))
  const { changes } = db.prepare(sql).run()
  db.close()
  expect(changes).toBe(1)
  await bed.start()
}

async function findings(): Promise<string[]> {
  return (await bed.cli<Finding[]>('doctor')).map(({ check, subject }) => `${check} ${subject}`)
}

/** The other volumes are as they were and work. */
async function expectOthersWhole(): Promise<void> {
  for (const name of others) {
    expect(await bed.read(name)).toBe(`content of ${name}`)
    expect(await bed.api('GET', `/v1/volumes/${name}`)).toMatchObject({ status: 'ok', labels: { of: name } })
    await bed.api('POST', `/v1/volumes/${name}/snapshots`, { name: 'after' })
  }
}

describe('a damaged record', () => {
  const garbage = [
    ['state', `'{"kind":'`],
    ['state', `'{}'`],
    ['state', `'null'`],
    ['state', `'{"kind":"directory","trashed":"no"}'`],
    ['options', `'null'`],
    ['options', `x'00ff' || ''`],
    ['labels', `'[]'`],
    ['created_at', `'long ago'`],
    ['driver', `'nobody'`],
  ] as const

  test.each(garbage)('%s = %s', async (column, value) => {
    await damage(`UPDATE volumes SET ${column} = ${value} WHERE name = 'hurt'`)
    const { Volumes } = (await bed.docker('List')) as { Volumes: { Name: string }[] }
    expect(Volumes.map(({ Name }) => Name).sort()).toEqual(['first', 'hurt', 'last'])
    const { Volume } = (await bed.docker('Get', { Name: 'hurt' })) as { Volume: Record<string, unknown> }
    expect(Volume).toMatchObject({ Name: 'hurt', Status: { status: 'degraded' } })
    expect(Number.isNaN(Date.parse(String(Volume['CreatedAt'])))).toBe(false)
    const listed = await bed.cli<VolumeView[]>('volume', 'ls')
    expect(listed.map(({ name, status }) => `${name} ${status}`).sort()).toEqual([
      'first ok',
      'hurt degraded',
      'last ok',
    ])
    expect(await findings()).toContainEqual(expect.stringMatching(/^(damaged-record|unusable-volume) hurt$/))

    await expect(bed.docker('Remove', { Name: 'hurt' })).rejects.toThrow()
    await expect(bed.api('POST', '/v1/volumes/hurt/snapshots', {})).rejects.toThrow()
    await expectOthersWhole()
    expect(readFileSync(join(bed.vfs, 'volumes/hurt/data/data.txt'), 'utf8')).toBe('content of hurt')
  })

  test('of an operation that was interrupted', async () => {
    await bed.crashAt('volume.create:driven', () => bed.api('POST', '/v1/volumes', { name: 'half' }))
    const db = new Database(join(bed.root, 'catalog.db'))
    expect(db.prepare(`UPDATE operations SET payload = '{' WHERE state = 'running'`).run().changes).toBe(1)
    db.close()
    await bed.start('listening') // What cannot be recovered stays open.
    const expected = [`data-without-record ${bed.vfs}/volumes/half`, 'not-recovered half']
    await until('doctor', 10_000, async () => isDeepStrictEqual((await findings()).sort(), expected))
    await expectOthersWhole()
  })
})

describe('a stranger’s files', () => {
  const plant = {
    'a file': (path: string) => writeFileSync(path, 'x'),
    'a directory': (path: string) => mkdirSync(join(path, 'deep/er'), { recursive: true }),
    'a symlink to elsewhere': (path: string) => symlinkSync('/etc', path),
    'a dangling symlink': (path: string) => symlinkSync('/nowhere', path),
  }
  const places = ['volumes/stranger', 'trash/stranger', 'trash/stranger~id', 'stranger']

  test.each(Object.entries(plant))('%s', async (_, make) => {
    for (const place of places) make(join(bed.vfs, place))
    const look = () => places.map((place) => [place, readdirSync(join(bed.vfs, place, '..')).includes('stranger')])
    const before = look()
    await bed.kill9()
    await bed.start()
    expect((await findings()).sort()).toEqual(places.map((place) => `foreign-file ${bed.vfs}/${place}`).sort())
    await expect(bed.api('POST', '/v1/volumes', { name: 'stranger' })).rejects.toMatchObject({ code: 'ALREADY_EXISTS' })
    await expectOthersWhole()
    expect(look()).toEqual(before)
    for (const place of places) rmSync(join(bed.vfs, place), { recursive: true })
    await bed.api('POST', '/v1/volumes', { name: 'stranger' })
    expect(await bed.problems()).toEqual([])
  })

  test('a volume whose data was swapped for a symlink is not followed, and is not removed with what it leads to', async () => {
    const treasure = join(bed.sandbox.directory, 'treasure')
    mkdirSync(treasure)
    writeFileSync(join(treasure, 'data.txt'), 'of the host')
    rmSync(join(bed.vfs, 'volumes/hurt/data'), { recursive: true })
    symlinkSync(treasure, join(bed.vfs, 'volumes/hurt/data'))
    await expect(bed.docker('Mount', { Name: 'hurt', ID: 'x' })).rejects.toThrow()
    await expect(bed.api('POST', '/v1/volumes/hurt/snapshots', {})).rejects.toThrow()
    expect((await findings()).filter((finding) => finding.endsWith(' hurt'))).toEqual(['record-without-data hurt'])
    await bed.api('DELETE', '/v1/volumes/hurt?purge=true').catch(() => undefined)
    expect(readFileSync(join(treasure, 'data.txt'), 'utf8')).toBe('of the host')
    await expectOthersWhole()
  })

  test('a volume whose folder is gone is missing; the others are not', async () => {
    rmSync(join(bed.vfs, 'volumes/hurt'), { recursive: true })
    expect(await bed.api('GET', '/v1/volumes/hurt')).toMatchObject({ status: 'missing' })
    expect(((await bed.docker('Get', { Name: 'hurt' })) as { Volume: object }).Volume).toMatchObject({ Name: 'hurt' })
    await expect(bed.docker('Mount', { Name: 'hurt', ID: 'x' })).rejects.toThrow(/is not at|gone/)
    expect(await findings()).toEqual(['record-without-data hurt'])
    await expectOthersWhole()
  })

  test('a volume whose id is another’s is left alone', async () => {
    const id = join(bed.vfs, 'volumes/hurt/id')
    unlinkSync(id)
    symlinkSync('somebody-else', id)
    await expect(bed.docker('Mount', { Name: 'hurt', ID: 'x' })).rejects.toThrow()
    await bed.api('DELETE', '/v1/volumes/hurt?purge=true').catch(() => undefined)
    expect(readFileSync(join(bed.vfs, 'volumes/hurt/data/data.txt'), 'utf8')).toBe('content of hurt')
    await expectOthersWhole()
  })
})
