/** The archive on a share, asked for by one process and worked on by another, one node at a time. */

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { ArchiveDesk } from '../../../../drivers/nfs/archive-desk.ts'
import { Claims } from '../../../../drivers/nfs/claims.ts'
import { Nodes, usualTimes } from '../../../../drivers/nfs/nodes.ts'
import { RemoteArchive } from '../../../../drivers/nfs/remote-archive.ts'
import { Turns } from '../../../../drivers/nfs/turns.ts'
import type { TreeArchive } from '../../../../src/driver.ts'
import { AppError } from '../../../../src/errors.ts'
import { context, silent } from '../../../conformance/driver-bed.ts'
import { until } from '../../../support/processes.ts'

let folder: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'holdfast-archive-'))
})

afterEach(() => rm(folder, { recursive: true, force: true }))

const idle: TreeArchive = {
  save: async () => ({ added: 7 }),
  find: async () => null,
  restore: async () => undefined,
  delete: async () => undefined,
  prune: async () => undefined,
}

/** As a node's process has it, with the daemon's side of it. */
function archiveOf(name: string, archive: Partial<TreeArchive> = {}): RemoteArchive {
  const me = { node: name, name, session: `${name}-1` }
  const desk = new ArchiveDesk({ ...idle, ...archive }, silent)
  const remote: RemoteArchive = new RemoteArchive((message) => {
    if (message.type === 'archive' || message.type === 'archive-cancel') desk.hear(message, (said) => remote.hear(said))
  })
  remote.use(new Turns(new Claims(folder, me), new Nodes(folder, me, usualTimes)))
  return remote
}

const copy = { id: 's1', group: 'v1' }

test('a call is made by the daemon, with what it says and how far it is', async () => {
  const seen: unknown[] = []
  const archive = archiveOf('a', {
    save: async (ctx, ...args) => {
      ctx.progress(1, 2, 'bytes')
      seen.push(args)
      return { added: 7 }
    },
  })
  const ctx = { ...context(), progress: (...args: unknown[]) => void seen.push(args) }
  expect(await archive.save(ctx, '/tree', copy)).toEqual({ added: 7 })
  expect(await archive.find(ctx, 's1')).toBeNull()
  expect(seen).toEqual([
    [1, 2, 'bytes'],
    ['/tree', copy],
  ])
})

test("the daemon's error is the call's", async () => {
  const restore = () => Promise.reject(new AppError('NOT_FOUND', 'no copy s1 here; look elsewhere'))
  await expect(archiveOf('a', { restore }).restore(context(), 's1', '/d')).rejects.toMatchObject({
    code: 'NOT_FOUND',
    message: 'no copy s1 here; look elsewhere',
  })
})

test('an abort reaches the daemon, and is the reason', async () => {
  const [ending, reason] = [new AbortController(), new Error('enough')]
  const prune: TreeArchive['prune'] = ({ signal }) =>
    new Promise((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason))
      ending.abort(reason)
    })
  await expect(archiveOf('a', { prune }).prune(context(ending.signal))).rejects.toBe(reason)
})

test('two nodes work on it one after the other; a node that was silent for too long ends what it does', async () => {
  const [began, release] = [Promise.withResolvers<void>(), Promise.withResolvers<{ added: number }>()]
  const order: string[] = []
  const a = archiveOf('a', {
    save: async ({ signal }) => {
      began.resolve()
      signal.addEventListener('abort', () => order.push('a was cancelled'))
      return release.promise
    },
  })
  const b = archiveOf('b', { delete: async () => void order.push('b') })
  const saving = a.save(context(), '/tree', copy)
  await began.promise
  const deleting = b.delete(context(), ['s1'])
  a.forfeit()
  await expect(saving).rejects.toMatchObject({ code: 'ABORTED' })
  await deleting
  release.resolve({ added: 0 })
  await until('both are done', 5_000, () => order.length === 2)
  expect(order).toEqual(['a was cancelled', 'b'])
})
