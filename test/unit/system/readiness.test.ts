import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { tellReady } from '../../../src/system/readiness.ts'

const warn = vi.fn()
const log = { warn }
let directory: string

/** Puts a program of the manager's name first in the path. */
function putNotifier(script: string): void {
  writeFileSync(join(directory, 'systemd-notify'), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
}

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'holdfast-ready-'))
  vi.stubEnv('PATH', `${directory}:${process.env.PATH}`)
  putNotifier(`echo "$1 $NOTIFY_SOCKET" > ${join(directory, 'told')}`)
})
afterEach(() => {
  vi.unstubAllEnvs()
  warn.mockReset()
  rmSync(directory, { recursive: true, force: true })
})

test('a manager that waits is told', async () => {
  vi.stubEnv('NOTIFY_SOCKET', '/run/manager')
  await tellReady(log)
  expect(readFileSync(join(directory, 'told'), 'utf8')).toBe('--ready /run/manager\n')
})

test('without one nothing is run', async () => {
  vi.stubEnv('NOTIFY_SOCKET', undefined)
  await tellReady(log)
  expect(existsSync(join(directory, 'told'))).toBe(false)
})

test('a failure is logged and no more', async () => {
  putNotifier('echo no manager >&2; exit 1')
  vi.stubEnv('NOTIFY_SOCKET', '/run/manager')
  await tellReady(log)
  expect(warn).toHaveBeenCalledWith({ error: expect.stringMatching(/no manager/) }, expect.any(String))
})
