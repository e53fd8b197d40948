import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { lockPath } from '../../../src/system/lock-file.ts'

let directory: string

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'holdfast-lock-'))
})

afterEach(() => rm(directory, { recursive: true, force: true }))

test('a path is locked once, until it is released', async () => {
  const lock = await lockPath(directory, 'the test directory')
  await expect(lockPath(directory, 'the test directory')).rejects.toMatchObject({
    code: 'FAILED_PRECONDITION',
    message: expect.stringContaining(`the test directory ${directory}`),
  })
  lock.release()
  lock.release()
  const again = await lockPath(directory, 'the test directory')
  again.release()
})

test('a lock ends with the process that holds it, however that ends', async () => {
  const child = spawn('flock', ['--exclusive', directory, 'sh', '-c', 'echo held; exec cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  await once(child.stdout, 'data')
  await expect(lockPath(directory, 'it')).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' })
  const ended = once(child, 'exit')
  child.stdin.end()
  child.kill('SIGKILL')
  await ended
  await expect.poll(() => lockPath(directory, 'it').then((lock) => lock.release())).toBeUndefined()
})

test('a path that is gone is not found, and a symlink is not followed', async () => {
  await expect(lockPath(join(directory, 'none'), 'it')).rejects.toMatchObject({ code: 'NOT_FOUND' })
  await symlink(directory, join(directory, 'link'))
  await expect(lockPath(join(directory, 'link'), 'it')).rejects.toThrow()
})
