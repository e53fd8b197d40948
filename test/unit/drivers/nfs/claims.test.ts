/** One node at a time has a claim, however many ask at once, and whatever a slow one does late. */

import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Claim, Claims, type Holder, isClaim } from '../../../../drivers/nfs/claims.ts'

let folder: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'holdfast-claims-'))
})

afterEach(() => rm(folder, { recursive: true, force: true }))

const node = (name: string, session = `${name}-1`): Holder => ({ node: name, name, session })
const never = () => false
const always = () => true

async function take(claims: Claims, mayPass: (holder: Holder) => boolean = never): Promise<Claim> {
  const result = await claims.take('db', mayPass)
  if (!isClaim(result)) throw new Error(`${result.holder.name} has it`)
  return result
}

test('a claim that one node has, another is refused, with the name of the one', async () => {
  const [a, b] = [new Claims(folder, node('a')), new Claims(folder, node('b'))]
  const claim = await take(a)
  expect(await b.take('db', never)).toEqual({ holder: expect.objectContaining({ node: 'a', name: 'a' }), epoch: 1 })
  await a.release(claim)
  expect((await take(b)).epoch).toBe(2)
})

test('of many who ask at once one gets it, again and again', async () => {
  const all = Array.from({ length: 8 }, (_, i) => new Claims(folder, node(`n${i}`)))
  let last = 0
  for (let round = 0; round < 10; round++) {
    const results = await Promise.all(all.map((claims) => claims.take('db', never)))
    const taken = results.flatMap((result, i) => (isClaim(result) ? [{ claim: result, claims: all[i] as Claims }] : []))
    expect(taken).toHaveLength(1)
    const [winner] = taken
    expect(winner?.claim.epoch).toBeGreaterThan(last)
    last = winner?.claim.epoch ?? 0
    await winner?.claims.release(winner.claim)
  }
})

test('of many who pass over a dead node at once one gets it', async () => {
  await take(new Claims(folder, node('dead')))
  const all = Array.from({ length: 8 }, (_, i) => new Claims(folder, node(`n${i}`)))
  const results = await Promise.all(all.map((claims) => claims.take('db', (holder) => holder.node === 'dead')))
  expect(results.filter(isClaim)).toHaveLength(1)
})

test('a node that was passed over sees that, and cannot give back what is not its any more', async () => {
  const [a, b, c] = [new Claims(folder, node('a')), new Claims(folder, node('b')), new Claims(folder, node('c'))]
  const old = await take(a)
  expect(await a.isOurs(old)).toBe(true)
  const taken = await take(b, always)
  expect(await a.isOurs(old)).toBe(false)
  await a.release(old)
  expect(await b.isOurs(taken)).toBe(true)
  expect(isClaim(await c.take('db', never))).toBe(false)
})

test('an epoch never comes twice, also when it was given back and taken by a slow node', async () => {
  const [a, b] = [new Claims(folder, node('a')), new Claims(folder, node('b'))]
  const epochs: number[] = []
  for (const claims of [a, b, a, b]) {
    const claim = await take(claims)
    epochs.push(claim.epoch)
    await claims.release(claim)
  }
  expect(epochs).toEqual([1, 2, 3, 4])
  expect(await readdir(join(folder, 'db'))).toEqual(['4'])
})

test('a process takes its own claim only when it has given that up', async () => {
  const claims = new Claims(folder, node('a'))
  const claim = await take(claims)
  expect(isClaim(await claims.take('db', never))).toBe(false)
  await rm(join(folder, 'db'), { recursive: true })
  await claims.release(claim) // What cannot be written down is given up all the same.
  expect(isClaim(await claims.take('db', never))).toBe(true)
})

test('a claim that cannot be read is nobody’s', async () => {
  const [a, b] = [new Claims(folder, node('a')), new Claims(folder, node('b'))]
  await take(a)
  await writeFile(join(folder, 'db/1'), '{"node":')
  expect((await take(b)).epoch).toBe(2)
})
