/** Which backup `latest` and cut ids mean, with backups of several volumes and hosts. */

import { hostname } from 'node:os'
import { expect, test } from 'vitest'
import { findBackup } from '../../../../src/services/backups/backup-choice.ts'
import type { Core } from '../../../../src/services/core.ts'

interface Listed {
  readonly id: string
  readonly volume: string
  readonly host: string
}

const here = hostname()
const repository = { name: 'nas', url: 'file:///srv/nas', access: {} }

/** A core whose one repository has these, oldest first; written as `VOLUME HOST` each, with ids `1…`, `2…`. */
function coreWith(...backups: string[]): Core {
  const all = backups.map((text, index): Listed => {
    const [volume = '', host = ''] = text.split(' ')
    return { id: String(index + 1).repeat(32), volume, host }
  })
  const run = async (_place: unknown, _job: string, { volume }: { volume?: string }): Promise<Listed[]> =>
    all.filter((backup) => volume === undefined || backup.volume === volume)
  return { engine: { run } } as unknown as Core
}

async function found(core: Core, id: string | null, latestOf: string | null = null, meant?: string): Promise<string> {
  const wanted = { repository, id, latestOf }
  return (await findBackup(core, wanted, meant === undefined ? {} : { meant })).id.slice(0, 1)
}

const refuses = (code: string, pattern: RegExp) =>
  expect.objectContaining({ code, message: expect.stringMatching(pattern) })

test('the latest of a volume is that of this host, else of the only one', async () => {
  const core = coreWith(`db ${here}`, `db ${here}`, 'db other', 'web other', 'log a', 'log b')
  expect(await found(core, null, 'db')).toBe('2')
  expect(await found(core, null, null, 'db')).toBe('2')
  expect(await found(core, null, 'web')).toBe('4')
  await expect(found(core, null, 'log')).rejects.toEqual(
    refuses('FAILED_PRECONDITION', /volume log in nas are of the hosts a, b, and none of .*holdfast backup ls nas/),
  )
  await expect(found(core, null, 'none')).rejects.toEqual(refuses('NOT_FOUND', /no backup of volume none/))
})

test('latest alone needs one volume that can be meant', async () => {
  expect(await found(coreWith('db other', 'db other'), null)).toBe('2')
  expect(await found(coreWith('db other'), null, null, 'new')).toBe('1')
  await expect(found(coreWith('db other', 'web other'), null)).rejects.toEqual(
    refuses('FAILED_PRECONDITION', /^nas holds backups of db, web; say whose latest: nas\/VOLUME@latest$/),
  )
  await expect(found(coreWith(), null)).rejects.toEqual(refuses('NOT_FOUND', /there is no backup in nas/))
})

test('digits are enough when they are of one', async () => {
  const core = coreWith('db x', 'db x')
  expect(await found(core, '22222222')).toBe('2')
  await expect(found(core, '33333333')).rejects.toEqual(refuses('NOT_FOUND', /no backup 33333333/))
  await expect(found(coreWith(...Array<string>(11).fill('db x')), '11111111')).rejects.toEqual(
    refuses('INVALID_ARGUMENT', /more digits/),
  )
})
