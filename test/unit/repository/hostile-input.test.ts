/** Parsers of what comes from a store: whatever the bytes, they give a value or an error of ours, and take no more room than their input. */

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { AppError } from '../../../src/errors.ts'
import { decodeAttributes, encodeAttributes, parseDump } from '../../../src/repository/attributes.ts'
import { encodeBlockRoot, readBlockRoot } from '../../../src/repository/block-root.ts'
import { parseCondemned } from '../../../src/repository/condemned.ts'
import { parseConfig } from '../../../src/repository/config.ts'
import { ContentBuilder, stretches } from '../../../src/repository/content.ts'
import { ByteReader } from '../../../src/repository/cursor.ts'
import { parseFilefrag } from '../../../src/repository/data-extents.ts'
import { encodeManifest, type Manifest, parseManifest } from '../../../src/repository/manifest.ts'
import { readTreeRoot, SegmentBuilder, TreeWalk } from '../../../src/repository/segment.ts'
import { encodeRecord, endRecord, readRecord, type TreeRecord } from '../../../src/repository/tree-record.ts'

const id = Buffer.alloc(32, 7)
const stat = { mode: 0o644, uid: 1, gid: 2, mtimeNs: -5n, ctimeNs: 10n ** 18n, inode: 2n ** 63n + 1n }
const nothing = {
  flags: 0,
  profile: 0,
  target: undefined,
  content: undefined,
  attributes: undefined,
  attributesId: undefined,
}
const builder = new ContentBuilder(() => id)
builder.addChunk(id, 100)
builder.addHole(2 ** 40)
const content = builder.finish()
const records: TreeRecord[] = [
  { ...stat, ...nothing, type: 1, size: 2n ** 40n + 100n, name: Buffer.from([0xff, 0x0a]), content, profile: 3 },
  { ...stat, ...nothing, type: 3, size: 0n, name: Buffer.from('l'), target: Buffer.from('/x') },
  {
    ...stat,
    ...nothing,
    type: 5,
    size: (1n << 32n) | 3n,
    name: Buffer.from('n'),
    flags: 2,
    attributes: Buffer.from('attributes'),
  },
  { ...stat, ...nothing, type: 2, size: 0n, name: Buffer.from('z'), flags: 4, attributesId: id },
]
const manifest: Manifest = {
  version: 1,
  kind: 'tree',
  createdAt: '2026-01-01T00:00:00Z',
  host: 'h',
  volume: 'v',
  snapshot: null,
  labels: { a: 'b' },
  parent: null,
  root: 'ab'.repeat(32),
  size: 1,
  files: 2,
  added: 3,
  changed: 0,
  program: 'p',
}

/** `bytes` altered here and there, cut, or lengthened. */
function altered(bytes: Buffer): fc.Arbitrary<Buffer> {
  const edits = fc.array(fc.tuple(fc.nat({ max: Math.max(0, bytes.length - 1) }), fc.nat({ max: 255 })), {
    maxLength: 4,
  })
  return fc.tuple(edits, fc.nat({ max: bytes.length }), fc.boolean()).map(([changes, length, cut]) => {
    const copy = Buffer.from(bytes)
    for (const [at, value] of changes) copy[at] = value
    return cut ? copy.subarray(0, length) : copy
  })
}

function neverCrashes(parse: (bytes: Buffer) => unknown, sound: Buffer): void {
  const input = fc.oneof(
    altered(sound),
    fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
  )
  fc.assert(
    fc.property(input, (bytes) => {
      try {
        parse(bytes)
      } catch (error) {
        expect(error).toBeInstanceOf(AppError)
      }
    }),
    { numRuns: 1000 },
  )
}

function segmentOf(...parts: Buffer[]): Buffer {
  return Buffer.concat([Buffer.alloc(2), ...parts])
}

function walk(segment: Buffer): unknown {
  const tree = new TreeWalk()
  const steps = [...tree.segment(segment)]
  if (!tree.isComplete) throw new AppError('CORRUPT', 'no end')
  return steps
}

const root = encodeRecord({ ...stat, ...nothing, type: 2, size: 0n, name: Buffer.alloc(0) })
const tree = segmentOf(
  root,
  ...records.map(encodeRecord).toSorted((a, b) => a.compare(b, 56, undefined, 56)),
  endRecord,
  endRecord,
)

describe('hostile input', () => {
  const treeRoot = (() => {
    const segments = new SegmentBuilder(() => id)
    segments.add(Buffer.alloc(0), Buffer.alloc(0), root)
    return segments.finish()
  })()
  test.each<[string, (bytes: Buffer) => unknown, Buffer]>([
    ['manifest', (bytes) => parseManifest('00', bytes), encodeManifest(manifest)],
    ['config', (bytes) => parseConfig(bytes, 'url'), Buffer.from('{"format":"holdfast-repository","version":1}')],
    ['condemned', (bytes) => parseCondemned('00', bytes), Buffer.from(`{"version":1,"packs":["${'ab'.repeat(32)}"]}`)],
    ['record', (bytes) => readRecord(new ByteReader(bytes, 'record')), encodeRecord(records[0] as TreeRecord)],
    ['segment', walk, tree],
    ['tree root', readTreeRoot, treeRoot],
    ['block root', readBlockRoot, encodeBlockRoot({ size: 2 ** 40 + 100, content })],
    [
      'attributes',
      decodeAttributes,
      encodeAttributes([{ name: 'user.a', value: Buffer.from('b') }]) ?? Buffer.alloc(0),
    ],
    [
      'list',
      (bytes) => [...stretches({ level: 1, references: content.references.subarray(0, 40) }, () => bytes)],
      content.references,
    ],
  ])('%s', (_, parse, sound) => {
    neverCrashes(parse, sound)
  })

  test('texts of programs', () => {
    fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => void parseFilefrag(text)))
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        try {
          parseDump(text)
        } catch (error) {
          expect(error).toBeInstanceOf(AppError)
        }
      }),
    )
  })
})

test.each(records.map((record) => [record.type, record] as const))('a record of type %i comes back', (_, record) => {
  expect(readRecord(new ByteReader(encodeRecord(record), 'record'))).toEqual({ ...record, flags: record.flags })
})

test.each<[string, Partial<TreeRecord>[]]>([
  ['..', [{ name: Buffer.from('..') }]],
  ['.', [{ name: Buffer.from('.') }]],
  ['a slash', [{ name: Buffer.from('a/b') }]],
  ['an absolute name', [{ name: Buffer.from('/etc') }]],
  ['a NUL', [{ name: Buffer.from('a\0b') }]],
  ['no name', [{ name: Buffer.alloc(0) }]],
  [
    'a name twice: first a symlink, then a directory',
    [
      { name: Buffer.from('a'), type: 3, target: Buffer.from('/etc') },
      { name: Buffer.from('a'), type: 2 },
    ],
  ],
  ['names out of order', [{ name: Buffer.from('b') }, { name: Buffer.from('a') }]],
])('a tree with %s is refused', (_, entries) => {
  const encoded = entries.map((entry) =>
    encodeRecord({ ...stat, ...nothing, type: 4, size: 0n, name: Buffer.from('x'), ...entry }),
  )
  const ends = entries.filter(({ type }) => type === 2).map(() => endRecord)
  expect(() => walk(segmentOf(root, ...encoded, ...ends, endRecord))).toThrow(
    expect.objectContaining({ code: 'CORRUPT' }),
  )
})

test('a content gives back its stretches, whole or from anywhere in it', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 1, max: 2 ** 24 })), { maxLength: 60 }),
      fc.nat(),
      fc.nat(),
      (parts, a, b) => {
        const lists = new Map<string, Buffer>()
        const made = new ContentBuilder((list) => {
          const listId = Buffer.alloc(32, lists.size + 1)
          lists.set(listId.toString('hex'), list)
          return listId
        })
        const expected: { id: Buffer | null; offset: number; length: number }[] = []
        let offset = 0
        for (const [isHole, length] of parts) {
          const last = expected.at(-1)
          if (isHole) made.addHole(length)
          else made.addChunk(id, length)
          if (isHole && last?.id === null) last.length += length
          else expected.push({ id: isHole ? null : id, offset, length })
          offset += length
        }
        const whole = made.finish()
        const read = (listId: Buffer) => lists.get(listId.toString('hex')) ?? Buffer.alloc(0)
        expect([...stretches(whole, read)]).toEqual(expected)
        const [start, end] = [Math.min(a, b) % (offset + 1), Math.max(a, b) % (offset + 1)]
        const within = expected.filter((part) => part.offset < end && part.offset + part.length > start)
        if (start < end) expect([...stretches(whole, read, start, end)]).toEqual(within)
      },
    ),
  )
})
