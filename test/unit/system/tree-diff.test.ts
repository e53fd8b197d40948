import { chmod, link, mkdir, mkdtemp, rename, rm, symlink, truncate, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { diffTrees } from '../../../src/system/tree-diff.ts'

let scratch: string
let a: string
let b: string

beforeEach(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'holdfast-diff-'))
  a = join(scratch, 'a')
  b = join(scratch, 'b')
  for (const root of [a, b]) await mkdir(join(root, 'dir'), { recursive: true })
})

afterEach(() => rm(scratch, { recursive: true, force: true }))

const then = new Date('2020-01-01')

async function both(file: string, text: string): Promise<void> {
  for (const root of [a, b]) {
    await writeFile(join(root, file), text)
    await utimes(join(root, file), then, then)
  }
}

test('trees that are alike have no differences', async () => {
  await both('dir/file', 'same')
  for (const root of [a, b]) await symlink('/etc', join(root, 'link'))
  expect(await diffTrees(a, b)).toEqual([])
})

test('what was added, removed and modified is listed in order, trees entry by entry', async () => {
  await both('dir/content', 'same length')
  await writeFile(join(b, 'dir', 'content'), 'SAME LENGTH')
  await both('dir/mode', 'x')
  await chmod(join(b, 'dir', 'mode'), 0o600)
  await both('dir/size', 'x')
  await truncate(join(b, 'dir', 'size'), 100)
  await mkdir(join(a, 'gone', 'deep'), { recursive: true })
  await mkdir(join(b, 'new'))
  await writeFile(join(b, 'new', 'file'), '')
  expect(await diffTrees(a, b)).toEqual([
    { path: 'dir/content', change: 'modified' },
    { path: 'dir/mode', change: 'modified' },
    { path: 'dir/size', change: 'modified' },
    { path: 'gone', change: 'removed' },
    { path: 'gone/deep', change: 'removed' },
    { path: 'new', change: 'added' },
    { path: 'new/file', change: 'added' },
  ])
})

test('a file that was only touched is not modified', async () => {
  await both('file', 'same')
  await utimes(join(b, 'file'), new Date(), new Date())
  expect(await diffTrees(a, b)).toEqual([])
})

test('a change of the kind of file is a modification, with what was or is inside', async () => {
  await mkdir(join(a, 'x'))
  await writeFile(join(a, 'x', 'inside'), '')
  await writeFile(join(b, 'x'), '')
  await symlink('one', join(a, 'y'))
  await symlink('two', join(b, 'y'))
  expect(await diffTrees(a, b)).toEqual([
    { path: 'x', change: 'modified' },
    { path: 'x/inside', change: 'removed' },
    { path: 'y', change: 'modified' },
  ])
})

test("the root's own mode counts", async () => {
  await chmod(b, 0o700)
  await chmod(a, 0o755)
  expect(await diffTrees(a, b)).toEqual([{ path: '.', change: 'modified' }])
})

test('symlinks are not followed', async () => {
  await mkdir(join(scratch, 'outside'))
  await writeFile(join(scratch, 'outside', 'secret'), '')
  await mkdir(join(a, 'x'))
  await symlink(join(scratch, 'outside'), join(b, 'x'))
  expect(await diffTrees(a, b)).toEqual([{ path: 'x', change: 'modified' }])
  await symlink(a, join(scratch, 'alias'))
  await expect(diffTrees(join(scratch, 'alias'), b)).rejects.toThrow()
})

test('names are bytes, shown so that a terminal and a parser survive them', async () => {
  const name = Buffer.from([0x66, 0xff, 0x0a, 0x1b, 0x5c])
  await writeFile(Buffer.concat([Buffer.from(`${b}/`), name]), '')
  await writeFile(join(b, 'grün'), '')
  expect((await diffTrees(a, b)).map((change) => change.path)).toEqual(['f\\xff\\x0a\\x1b\\x5c', 'grün'])
})

test('hard links are no difference', async () => {
  await both('one', 'x')
  await link(join(a, 'one'), join(a, 'two'))
  await writeFile(join(b, 'two'), 'x')
  await utimes(join(b, 'two'), then, then)
  expect(await diffTrees(a, b)).toEqual([])
})

test('a tree that is gone is not found', async () => {
  await rename(a, `${a}-moved`)
  await expect(diffTrees(a, b)).rejects.toMatchObject({ code: 'NOT_FOUND' })
})

test('is cancelled by its signal', async () => {
  const reason = new Error('enough')
  await expect(diffTrees('/usr', '/usr', { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
  const controller = new AbortController()
  const result = diffTrees('/usr', '/usr', { signal: controller.signal })
  setTimeout(() => controller.abort(reason), 100)
  await expect(result).rejects.toBe(reason)
})
