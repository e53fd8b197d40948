/** Packs, indexes, tables, seals and keys: what was written is read, and what was altered is not. */

import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { AppError } from '../../../src/errors.ts'
import { kinds } from '../../../src/repository/chunk-entry.ts'
import { ChunkTable } from '../../../src/repository/chunk-table.ts'
import { compress, decompress } from '../../../src/repository/compression.ts'
import { encodeIndex, readIndex } from '../../../src/repository/index-object.ts'
import { describeKey, unwrapMasterKey, wrapMasterKey } from '../../../src/repository/keys.ts'
import { directoryEntries, PackBuilder, readPackDirectory } from '../../../src/repository/pack.ts'
import { Seal } from '../../../src/repository/seal.ts'
import { cheapKey } from './support.ts'

const repositoryId = '11'.repeat(16)
const seals = {
  plain: new Seal({ repositoryId, masterKey: null }),
  encrypted: new Seal({ repositoryId, masterKey: randomBytes(32) }),
}

function build(seal: Seal, contents: readonly Uint8Array[]) {
  const builder = new PackBuilder(seal)
  for (const content of contents) {
    const { method, bytes } = compress(content)
    const stored = bytes.length + seal.chunkOverhead
    builder.add({ id: seal.chunkId(content), stored, length: content.length, method, kind: kinds.data }, bytes)
  }
  return builder.finish()
}

function readAll(seal: Seal, name: string, pack: Uint8Array): Buffer[] {
  const directory = readPackDirectory(seal, name, pack.length, (start, end) => pack.slice(start, end))
  return [...directoryEntries(directory, name)].map((entry) => {
    const stored = Buffer.from(pack.subarray(entry.offset, entry.offset + entry.stored))
    const head = directory.subarray(0, 44)
    const index = [...directoryEntries(directory, name)].findIndex(({ offset }) => offset === entry.offset)
    const opened = seal
      .forPack(name)
      .openChunk(entry.offset, directory.subarray(index * 44, index * 44 + head.length), stored)
    const content = Buffer.from(decompress(entry.method, opened, entry.length, 'chunk'))
    if (!seal.chunkId(content).equals(entry.id)) throw new AppError('CORRUPT', 'another id')
    return content
  })
}

const contents = fc.array(fc.uint8Array({ minLength: 1, maxLength: 3000 }), { minLength: 1, maxLength: 20 })

describe.each(Object.entries(seals))('%s', (_, seal) => {
  test('packs give back what was put in', () => {
    fc.assert(
      fc.property(contents, (parts) => {
        const { name, bytes, directory } = build(seal, parts)
        expect(readAll(seal, name, bytes)).toEqual(parts.map((part) => Buffer.from(part)))
        expect([...directoryEntries(directory, name)].length).toBe(parts.length)
      }),
    )
  })

  test('no altered bit of a pack goes unnoticed, nor a pack under another name', () => {
    const { name, bytes } = build(seal, [Buffer.alloc(300, 'a'), randomBytes(50), Buffer.from('z')])
    for (let at = 0; at < bytes.length; at++) {
      const altered = bytes.slice()
      altered[at] = (altered[at] ?? 0) ^ (1 << (at % 8))
      expect(() => readAll(seal, name, altered), `byte ${at}`).toThrow(AppError)
    }
    expect(() =>
      readAll(
        seal,
        name.replace(/.$/, (c) => (c === '0' ? '1' : '0')),
        bytes,
      ),
    ).toThrow(AppError)
    expect(() => readAll(seal, name, bytes.slice(0, -1))).toThrow(AppError)
  })

  test('no altered bit of a sealed object goes unnoticed, nor another name or kind', () => {
    const name = `manifests/${'ab'.repeat(16)}`
    const object = seal.sealObject('M', name, Buffer.from('content '.repeat(20)))
    expect(Buffer.from(seal.openObject('M', name, object)).toString()).toBe('content '.repeat(20))
    for (let at = 0; at < object.length; at++) {
      const altered = Buffer.from(object)
      altered[at] = (altered[at] ?? 0) ^ (1 << (at % 8))
      expect(() => seal.openObject('M', name, altered), `byte ${at}`).toThrow(AppError)
    }
    expect(() => seal.openObject('M', `manifests/${'cd'.repeat(16)}`, object)).toThrow(AppError)
    expect(() => seal.openObject('L', name, object)).toThrow(AppError)
  })

  test('indexes give back their packs, and the table finds every chunk', () => {
    const packs = Array.from({ length: 5 }, (_, i) =>
      build(
        seal,
        Array.from({ length: 50 }, (_, j) => Buffer.from(`${i} ${j}`)),
      ),
    )
    const indexed = packs.map(({ id, bytes, directory }) => ({ id, size: bytes.length, directory }))
    const read = [...readIndex(encodeIndex(indexed), 'index')]
    expect(read).toEqual(indexed)
    const table = ChunkTable.create(250, 5)
    for (const pack of read) table.addPack(pack)
    for (const [i, { id, directory }] of packs.entries()) {
      for (const entry of directoryEntries(directory, id))
        expect(table.locate(entry.id)).toEqual({ ...entry, id: Buffer.from(entry.id), pack: i })
    }
    expect(table.has(randomBytes(32))).toBe(false)
  })
})

test('equal content has one id in a repository, and another in the next', () => {
  const other = new Seal({ repositoryId: '22'.repeat(16), masterKey: randomBytes(32) })
  const content = Buffer.from('content')
  expect(seals.encrypted.chunkId(content)).toEqual(seals.encrypted.chunkId(content))
  expect(seals.encrypted.chunkId(content)).not.toEqual(other.chunkId(content))
  expect(seals.encrypted.gearTable()).not.toEqual(other.gearTable())
})

test('a claim is given once, through any view of the table', () => {
  const table = ChunkTable.create(1000, 1)
  const views = [table, new ChunkTable(table.shared)]
  const ids = Array.from({ length: 800 }, () => randomBytes(32))
  const won = ids.flatMap((id) => views.map((view) => view.claim(id))).filter(Boolean)
  expect(won.length).toBe(800)
  const more = Array.from({ length: 1000 }, () => randomBytes(32))
  expect(more.every((id) => table.claim(id))).toBe(true)
})

test('hostile indexes and directories are refused, never believed', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
      try {
        for (const pack of readIndex(bytes, 'index')) ChunkTable.create(20, 20).addPack(pack)
      } catch (error) {
        expect(error).toBeInstanceOf(AppError)
      }
    }),
    { numRuns: 500 },
  )
})

test('a frame that claims more than its chunk has is not unpacked', () => {
  const { bytes } = compress(Buffer.alloc(10_000_000))
  expect(() => decompress(1, bytes, 1000, 'chunk')).toThrow(AppError)
})

describe('passphrases', () => {
  const masterKey = randomBytes(32)
  const info = { repositoryId, id: 'ab'.repeat(8), label: 'me', createdAt: '2026-01-01T00:00:00Z', cost: cheapKey }

  test('only the right one opens, in any Unicode form', async () => {
    const object = await wrapMasterKey(masterKey, 'Grüße', info)
    expect(await unwrapMasterKey(repositoryId, info.id, object, 'Gru\u0308ße')).toEqual(masterKey)
    expect(await unwrapMasterKey(repositoryId, info.id, object, 'grüße')).toBeUndefined()
    expect(await unwrapMasterKey('33'.repeat(16), info.id, object, 'Grüße')).toBeUndefined()
    expect(describeKey(info.id, object)).toEqual({ id: info.id, label: 'me', createdAt: info.createdAt })
  })

  test('hostile keys are refused before memory is taken', async () => {
    const key = JSON.parse((await wrapMasterKey(masterKey, 'x', info)).toString())
    for (const bad of [
      { n: 2 ** 30 },
      { n: 3 },
      { p: 1000 },
      { salt: 'zz' },
      { wrapped: '00' },
      { kdf: 'none' },
      { r: -1 },
    ]) {
      const object = Buffer.from(JSON.stringify({ ...key, ...bad }))
      await expect(unwrapMasterKey(repositoryId, info.id, object, 'x')).rejects.toMatchObject({ code: 'CORRUPT' })
    }
  })
})
