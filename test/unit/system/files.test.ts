import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import {
  ensureDirectory,
  lstatOrNothing,
  readdirOrNothing,
  readlinkOrNothing,
  realDirectory,
  removeEntry,
  removeTree,
} from '../../../src/system/files.ts'

let scratch: string

beforeEach(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'holdfast-files-'))
  await mkdir(join(scratch, 'outside'))
  await writeFile(join(scratch, 'outside', 'file'), '')
  await symlink('outside', join(scratch, 'link'))
})

afterEach(() => rm(scratch, { recursive: true, force: true }))

const at = (...names: string[]) => join(scratch, ...names)

test('what is gone is an answer', async () => {
  expect(await lstatOrNothing(at('none'))).toBeUndefined()
  expect(await lstatOrNothing(at('outside', 'file', 'below'))).toBeUndefined()
  expect(await readlinkOrNothing(at('outside'))).toBeUndefined()
  expect(await readdirOrNothing(at('none'))).toEqual([])
  await removeTree(at('none'))
  expect(await removeEntry(at('none'))).toBe(true)
})

test('a directory is one all the way down, or refused', async () => {
  await mkdir(at('one', 'two'), { recursive: true })
  expect(await realDirectory(scratch, 'one', 'two')).toBe(at('one', 'two'))
  await expect(realDirectory(scratch, 'one', 'none')).rejects.toMatchObject({ code: 'NOT_FOUND' })
  await expect(realDirectory(scratch, 'link')).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' })
  await expect(realDirectory(scratch, 'outside', 'file')).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' })
  await ensureDirectory(at('one'), 0o700)
  await expect(ensureDirectory(at('link'), 0o700)).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' })
})

test('removing a symlink leaves what it leads to', async () => {
  await mkdir(at('tree'))
  await symlink(at('outside'), at('tree', 'link'))
  expect(await removeEntry(at('tree'))).toBe(false)
  await removeTree(at('tree'))
  expect(await removeEntry(at('link'))).toBe(true)
  expect(existsSync(at('tree'))).toBe(false)
  expect(existsSync(at('outside', 'file'))).toBe(true)
})
