/** Targets: added once, told apart, used by name and by URL, looked at by doctor. */

import { mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { checkTargets } from '../../../../src/services/backups/target-check.ts'
import { openCore } from '../../../support/core.ts'

const refuses = (code: string, message?: string) =>
  expect.objectContaining({ code, ...(message !== undefined && { message: expect.stringContaining(message) }) })

test('a target is added once, encrypted by its file, checked, and forgotten', async () => {
  await using t = await openCore()
  const { root } = t.core.config
  const passphraseFile = join(root, 'passphrase')
  writeFileSync(passphraseFile, 'correct horse\n', { mode: 0o600 })
  const url = `file://${t.beside('repository')}`
  const added = await t.targets.add('t', url.replace('file:', 'vfs:'), { passphraseFile, region: undefined })
  expect(added).toMatchObject({ name: 't', url, encrypted: true, access: { passphraseFile } })
  expect(await t.targets.add('t', `${url}/`, { passphraseFile })).toEqual(added)
  await expect(t.targets.add('t', url)).rejects.toEqual(refuses('ALREADY_EXISTS'))
  await expect(t.targets.add('u', url)).rejects.toEqual(refuses('FAILED_PRECONDITION', 'encrypted'))
  expect(await t.targets.check('t')).toMatchObject({ store: { kind: 'dir', ifAbsent: 'kept' }, backups: 0 })
  // By its URL the target's own access is used.
  expect(await t.backups.list({ at: url })).toEqual([])

  const other = join(root, 'other')
  writeFileSync(other, 'battery staple\n')
  const { id } = await t.targets.addPassphrase('t', other)
  const [first, second] = await t.targets.passphrases('t')
  expect([first?.id, second?.id].includes(id)).toBe(true)
  await t.targets.removePassphrase('t', id)
  await expect(t.targets.removePassphrase('t', (first?.id === id ? second : first)?.id ?? '')).rejects.toEqual(
    refuses('FAILED_PRECONDITION', 'last one'),
  )

  expect(await checkTargets(t.core)).toEqual([])
  rmSync(passphraseFile)
  expect((await checkTargets(t.core)).map(({ check, subject }) => `${check} ${subject}`)).toEqual([
    'target-file-unreadable t',
  ])
  writeFileSync(passphraseFile, 'wrong\n', { mode: 0o600 })
  expect((await checkTargets(t.core)).map(({ check }) => check)).toEqual(['target-unreachable'])
  await t.targets.remove('t')
  expect(t.targets.list()).toEqual([])
  expect(() => t.targets.inspect('t')).toThrow(refuses('NOT_FOUND'))
})

test('a target is its repository, and no other that is in its place', async () => {
  await using t = await openCore()
  const url = `file://${t.beside('repository')}`
  await t.targets.add('t', url)
  rmSync(t.beside('repository'), { recursive: true })
  mkdirSync(t.beside('repository'))
  const gone = refuses('FAILED_PRECONDITION', 'is the disk mounted?')
  await expect(t.targets.add('t', url)).rejects.toEqual(gone)
  await expect(t.targets.check('t')).rejects.toEqual(gone)
  await expect(t.backups.list({ at: 't' })).rejects.toEqual(gone)
  expect(readdirSync(t.beside('repository'))).toEqual([])
  await t.targets.add('another', url)
  await expect(t.targets.add('t', url)).rejects.toEqual(refuses('FAILED_PRECONDITION', 'another repository'))
  await expect(t.backups.list({ at: 't' })).rejects.toEqual(refuses('FAILED_PRECONDITION', 'another repository'))
  expect(await t.backups.list({ at: 'another' })).toEqual([])
  expect((await checkTargets(t.core)).map(({ check, subject }) => `${check} ${subject}`)).toEqual([
    'target-unreachable t',
  ])
})

test('a directory of backups is apart from all that is backed up', async () => {
  await using t = await openCore()
  const { root } = t.core.config
  symlinkSync(root, t.beside('link'))
  for (const place of ['/', root, `${root}/backups`, t.beside(''), t.beside('link/backups')]) {
    await expect(t.targets.add('t', `file://${place}`), place).rejects.toEqual(
      refuses('INVALID_ARGUMENT', `${root}, the daemon's own directory`),
    )
  }
  await t.volumes.create({ name: 'db' })
  Object.assign(t.driver, { mountpoint: () => t.beside('data') })
  await expect(t.targets.add('t', `file://${t.beside('data/backups')}`)).rejects.toEqual(
    refuses('INVALID_ARGUMENT', 'is within'),
  )
  expect(readdirSync(t.beside('')).sort()).toEqual(['link', 'root'])
})

test('what cannot be a target is refused before anything is made', async () => {
  await using t = await openCore()
  expect(() => t.targets.add('a/b', 'file:///x')).toThrow(refuses('INVALID_ARGUMENT', 'target name'))
  expect(() => t.targets.add('t', '/x')).toThrow(refuses('INVALID_ARGUMENT', 'did you mean file:///x?'))
  expect(() => t.targets.add('t', 'file:///x?backup=latest')).toThrow(refuses('INVALID_ARGUMENT', 'names a backup'))
  expect(() => t.targets.add('t', 'file:///x', { endpoint: 'http://h', pathStyle: true })).toThrow(
    refuses('INVALID_ARGUMENT', '--endpoint, --path-style mean nothing'),
  )
  expect(() => t.targets.add('t', 'file:///x', { passphraseFile: 'relative' })).toThrow(refuses('INVALID_ARGUMENT'))
  expect(() => t.targets.add('t', 's3://bucket', { accessKeyFile: '/k' })).toThrow(refuses('INVALID_ARGUMENT', 'both'))
  await expect(t.backups.list({ at: 't' })).rejects.toEqual(refuses('NOT_FOUND', 'holdfast target add'))
  await t.targets.add('offsite', `file://${t.beside('repository')}`)
  await expect(t.backups.list({ at: 'ofsite' })).rejects.toEqual(refuses('NOT_FOUND', "did you mean 'offsite'"))
})
