/**
 * What the engine's tests share: places in scratch directories, an engine that is stopped after the test, and looks at
 * its processes.
 */

import { randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { createEngine, type Engine } from '../../../src/engine/engine.ts'
import type { Place } from '../../../src/engine/place.ts'
import { until } from '../../support/processes.ts'

/** A directory that is gone after the test. */
export function scratch(): string {
  const path = mkdtempSync(join(process.env.HOLDFAST_TEST_DIR ?? tmpdir(), 'holdfast-engine-'))
  onTestFinished(() => rmSync(path, { recursive: true, force: true }))
  return path
}

export interface TestEngine extends Engine {
  readonly logged: { fields: object; message: string }[]
}

export function newEngine(): TestEngine {
  const logged: TestEngine['logged'] = []
  const note = (fields: object, message: string) => void logged.push({ fields, message })
  const engine = createEngine({ log: { debug: note, info: note, warn: note, error: note } })
  onTestFinished(() => engine.stop())
  return { ...engine, logged }
}

/** A place without a repository yet. */
export function newPlace(passphrase?: string): Place {
  const directory = scratch()
  const place = { url: `file://${directory}/repository`, create: true, graceMs: 0 }
  if (passphrase === undefined) return place
  return { ...place, passphraseFile: secretFile(directory, passphrase) }
}

/** A file in `directory` that holds a secret. */
export function secretFile(directory: string, content: string, name = 'passphrase'): string {
  const path = join(directory, name)
  writeFileSync(path, `${content}\n`, { mode: 0o600 })
  return path
}

export function about(volume = 'db', host = 'a') {
  return { createdAt: new Date().toISOString(), host, volume, snapshot: null, labels: {}, program: 'test' }
}

/** A directory of `count` files that do not compress, of `size` bytes each. */
export function makeTree(count: number, size = 100): string {
  const root = join(scratch(), 'tree')
  mkdirSync(root)
  for (let i = 0; i < count; i++) writeFileSync(join(root, `file-${i}`), randomBytes(size))
  return root
}

/** A new empty directory. */
export function emptyDirectory(): string {
  const path = join(scratch(), 'out')
  mkdirSync(path)
  return path
}

export interface Process {
  readonly pid: number
  readonly parent: number
  readonly session: number
  readonly name: string
}

/** All processes that are not zombies. */
export function processes(): Process[] {
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return []
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8')
      const [state, parent, , session] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
      if (state === 'Z' || state === 'X') return []
      const comm = stat.slice(stat.indexOf('(') + 1, stat.lastIndexOf(')'))
      return [{ pid: Number(name), parent: Number(parent), session: Number(session), name: comm }]
    } catch {
      return [] // It has ended.
    }
  })
}

/** The process of the job that `parent` runs, and all that it has started. */
export function jobProcesses(parent: number): Process[] {
  const all = processes()
  const leader = all.find((it) => it.parent === parent && it.pid === it.session)
  return leader ? all.filter(({ session }) => session === leader.pid) : []
}

/** Waits until the job that `parent` runs has started a tar, and gives all its processes. */
export function jobWithTar(parent: number): Promise<Process[]> {
  return until('a job with a tar', 20_000, () => {
    const found = jobProcesses(parent)
    return found.some(({ name }) => name === 'tar') ? found : undefined
  })
}
