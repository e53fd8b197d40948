/** Who lives is told by counters and each reader's own clock; what has changed, by numbers that grow. */

import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Holder } from '../../../../drivers/nfs/claims.ts'
import { Nodes, OwnNode } from '../../../../drivers/nfs/nodes.ts'

const times = { beatMs: 1_000, ttlMs: 10_000, fenceMs: 6_000 }
let folder: string
/** Each node's own clock: they have nothing to do with each other. */
let clocks: Record<string, number>

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'holdfast-nodes-'))
  clocks = { a: 1_000_000, b: 5 }
})

afterEach(() => rm(folder, { recursive: true, force: true }))

const holder = (node: string, session = `${node}-1`): Holder => ({ node, name: `host-${node}`, session })
const clock = (node: string) => () => clocks[node] ?? 0
const own = (node: string, session?: string) => new OwnNode(folder, holder(node, session), clock(node))
const seenBy = (node: string) => new Nodes(folder, holder(node), times, clock(node))

function pass(ms: number): void {
  clocks = Object.fromEntries(Object.entries(clocks).map(([node, now]) => [node, now + ms]))
}

test('a node lives while its counter moves, by the clock of who looks', async () => {
  const [a, b] = [own('a'), seenBy('b')]
  await a.write()
  await b.look()
  for (let round = 0; round < 5; round++) {
    pass(9_000)
    await a.write()
    await b.look()
    expect(b.isAlive('a')).toBe(true)
  }
  pass(9_999)
  expect(b.isAlive('a')).toBe(true)
  pass(1)
  expect(b.isAlive('a')).toBe(false)
  await a.write()
  await b.look()
  expect(b.isAlive('a')).toBe(true)
})

test('clocks that are set differently, or set, mean nothing', async () => {
  const [a, b] = [own('a'), seenBy('b')]
  await a.write()
  await b.look()
  clocks.a = (clocks.a ?? 0) - 120_000
  expect(b.isAlive('a')).toBe(true)
  await a.write()
  await b.look()
  expect(b.isAlive('a')).toBe(true)
})

test('a node that was never seen is not dead before its time', () => {
  const b = seenBy('b')
  expect(b.isAlive('a')).toBe(true)
  pass(9_999)
  expect(b.isAlive('a')).toBe(true)
  pass(1)
  expect(b.isAlive('a')).toBe(false)
})

test('one that has left in order is dead at once, unless something is mounted there', async () => {
  const [a, b] = [own('a'), seenBy('b')]
  await a.addMount('volume')
  await a.leave()
  await b.look()
  expect(b.isAlive('a')).toBe(true)
  await a.dropMount('volume')
  await a.leave()
  await b.look()
  expect(b.isAlive('a')).toBe(false)
})

test('what a process held for itself is over when another process speaks for its node', async () => {
  const b = seenBy('b')
  await own('a', 'first').write()
  await b.look()
  expect(b.isOver(holder('a', 'first'))).toBe(false)
  await own('a', 'second').write()
  await b.look()
  expect(b.isOver(holder('a', 'first'))).toBe(true)
  expect(b.isOver(holder('b', 'of an earlier life'))).toBe(true)
})

test('changes are heard once, in their order; whoever has missed too many is told so', async () => {
  const [a, b] = [own('a'), seenBy('b')]
  await b.look()
  await a.tell('volumes/x')
  await a.tell('volumes/y', 'trash/x~1')
  expect((await b.look()).changes).toEqual(['volumes/x', 'volumes/y', 'trash/x~1'])
  expect((await b.look()).changes).toEqual([])
  for (let i = 0; i < 101; i++) await a.tell(`volumes/${i}`)
  expect((await b.look()).changes).toBeNull()
})

test('the next life of a node goes on with its numbers, and with what is still mounted', async () => {
  const [first, b] = [own('a', 'first'), seenBy('b')]
  await first.tell('volumes/x')
  await first.addMount('here')
  await first.addMount('gone')
  await b.look()
  const second = own('a', 'second')
  await second.takeOver((id) => id === 'here')
  await second.tell('volumes/y')
  expect((await b.look()).changes).toEqual(['volumes/y'])
  expect(b.list()).toEqual([{ id: 'a', name: 'host-a', alive: true, self: false, mounts: ['here'] }])
  expect(await first.speaker()).toBe(second.me.session)
  expect(await second.speaker()).toBe(second.me.session)
})

test('a volume that another living node has mounted is in use there', async () => {
  const [a, b] = [own('a'), seenBy('b')]
  await a.addMount('id')
  await expect(b.requireUnused('volume db', 'id')).rejects.toMatchObject({
    code: 'IN_USE',
    message: expect.stringMatching(/volume db is mounted on node host-a/),
  })
  await b.requireUnused('volume db', 'other')
  pass(10_000)
  await b.requireUnused('volume db', 'id')
})

test('files that are none of a node harm nobody', async () => {
  const [a, b] = [own('a'), seenBy('b')]
  await a.write()
  await writeFile(join(folder, 'bad.json'), '{"node":"bad"')
  await writeFile(
    join(folder, 'evil.json'),
    JSON.stringify({ node: 'a', name: 'x', session: 's', beat: 1, changed: 0 }),
  )
  await writeFile(join(folder, '..x.json'), 'x')
  await b.look()
  expect(b.list().map(({ id }) => id)).toEqual(['a'])
})

test('silence is counted from the last sign of life that has arrived, since it was sent', async () => {
  const a = own('a')
  expect(a.silentMs).toBe(Number.POSITIVE_INFINITY)
  await a.write()
  pass(3_000)
  expect(a.silentMs).toBe(3_000)
  await rm(folder, { recursive: true })
  await expect(a.write()).rejects.toMatchObject({ code: 'ENOENT' })
  expect(a.silentMs).toBe(3_000)
})

test('writes that are asked for at once are one after the other, and none is left out', async () => {
  const [a, b] = [own('a'), seenBy('b')]
  await b.look()
  await Promise.all(Array.from({ length: 20 }, (_, i) => a.tell(`volumes/${i}`)))
  expect((await b.look()).changes).toHaveLength(20)
})
