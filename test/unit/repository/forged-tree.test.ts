/** Trees that no backup of ours has made: a restore refuses them, or keeps all of them within its target. Needs root, as restores do. */

import { lstatSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openMemoryStore } from '../../../src/objectstore/memory.ts'
import { BuildDirectories } from '../../../src/repository/build-directories.ts'
import { kinds } from '../../../src/repository/chunk-entry.ts'
import { compress } from '../../../src/repository/compression.ts'
import { ContentBuilder } from '../../../src/repository/content.ts'
import { ByteWriter } from '../../../src/repository/cursor.ts'
import { encodeIndex } from '../../../src/repository/index-object.ts'
import { newId, objectName } from '../../../src/repository/layout.ts'
import { encodeManifest } from '../../../src/repository/manifest.ts'
import { PackBuilder } from '../../../src/repository/pack.ts'
import { Seal } from '../../../src/repository/seal.ts'
import { encodeRecord, endRecord, flags, type TreeRecord, types } from '../../../src/repository/tree-record.ts'
import { about, newRepository, noise, restored, scratch } from './support.ts'

interface Segment {
  /** Where its first record says that it lies. */
  readonly directory: string
  /** What the root says. */
  readonly path: string
  readonly entries: readonly (Buffer | Partial<TreeRecord>)[]
}

const small = noise(100)
const pieces = [noise(700_000, 2), noise(700_000, 3)] as const

/** Puts chunks into a pack of their own. */
class Forger {
  readonly #seal: Seal
  readonly #pack: PackBuilder

  constructor(seal: Seal) {
    this.#seal = seal
    this.#pack = new PackBuilder(seal)
  }

  put(kind: number, content: Uint8Array): Buffer {
    const { method, bytes } = compress(content)
    const id = this.#seal.chunkId(content)
    const stored = bytes.length + this.#seal.chunkOverhead
    this.#pack.add({ id, stored, length: content.length, method, kind: kind as typeof kinds.data }, bytes)
    return id
  }

  /** Contents of the three ways in which a restore makes files. */
  contents() {
    const of = (build: (builder: ContentBuilder) => void) => {
      const builder = new ContentBuilder((list) => this.put(kinds.list, list))
      build(builder)
      return builder.finish()
    }
    const ids = [small, ...pieces].map((bytes) => this.put(kinds.data, bytes)) as [Buffer, Buffer, Buffer]
    return {
      small: { size: 100n, content: of((builder) => builder.addChunk(ids[0], 100)) },
      sparse: {
        size: 4196n,
        content: of((builder) => {
          builder.addHole(4096)
          builder.addChunk(ids[0], 100)
        }),
      },
      large: {
        size: 1_400_000n,
        content: of((builder) => {
          builder.addChunk(ids[1], 700_000)
          builder.addChunk(ids[2], 700_000)
        }),
      },
    }
  }

  finish() {
    return this.#pack.finish()
  }
}

type Contents = ReturnType<Forger['contents']>

function encoded(entry: Buffer | Partial<TreeRecord>): Buffer {
  if (Buffer.isBuffer(entry)) return entry
  const stat = { mode: 0o644, uid: 0, gid: 0, mtimeNs: 0n, ctimeNs: 5n, inode: 5n, size: 0n, flags: 0, profile: 0 }
  const none = { target: undefined, content: undefined, attributes: undefined, attributesId: undefined }
  return encodeRecord({ ...stat, ...none, type: types.file, name: Buffer.alloc(0), ...entry })
}

/** A backup of just these segments. */
async function forge(make: (contents: Contents) => readonly Segment[]) {
  const { repository, store } = await newRepository({ store: openMemoryStore() })
  const seal = new Seal({ repositoryId: repository.config.id, masterKey: null })
  const forger = new Forger(seal)
  const segments = make(forger.contents())
  const root = new ByteWriter()
  root.put(Buffer.from('HFT\x01', 'latin1')).u32(segments.length)
  for (const { directory, path, entries } of segments) {
    const segment = new ByteWriter()
    segment.u16(Buffer.byteLength(directory)).put(Buffer.from(directory))
    for (const entry of entries) segment.put(encoded(entry))
    root.put(forger.put(kinds.segment, segment.view())).u32(entries.length)
    root.u16(Buffer.byteLength(path)).put(Buffer.from(path))
  }
  const rootId = forger.put(kinds.root, root.view())
  const { id, name, bytes, directory } = forger.finish()
  await store.put(name, bytes)
  const index = objectName('indexes', newId('indexes'))
  await store.put(index, seal.sealObject('I', index, encodeIndex([{ id, size: bytes.length, directory }])))
  const backup = newId('manifests')
  const manifest = objectName('manifests', backup)
  const counted = { size: 4, files: 1, added: 0, changed: 0, parent: null, root: rootId.toString('hex') }
  const content = encodeManifest({ version: 1, kind: 'tree', ...about(), ...counted })
  await store.put(manifest, seal.sealObject('M', manifest, content))
  return { repository, backup }
}

const treeRoot = { type: types.directory, name: Buffer.alloc(0), mode: 0o755 }
const named = (name: string, more: Partial<TreeRecord>) => ({ name: Buffer.from(name), ...more })
const symlink = (name: string, target: string) => named(name, { type: types.symlink, target: Buffer.from(target) })
const directory = (name: string) => named(name, { type: types.directory, mode: 0o755 })

/** A directory of the host that holds `b` and must stay as it is. */
function outsider(): { path: string; expectUntouched(): void } {
  const path = scratch()
  writeFileSync(join(path, 'b'), 'original')
  return {
    path,
    expectUntouched: () => {
      expect(readdirSync(path)).toEqual(['b'])
      expect(readFileSync(join(path, 'b'), 'utf8')).toBe('original')
    },
  }
}

const kindsOfEntry: [string, (contents: Contents) => Partial<TreeRecord>][] = [
  ['a small file', ({ small }) => small],
  ['a large file', ({ large }) => large],
  ['a sparse file', ({ sparse }) => sparse],
  ['a further name of a file', ({ small }) => ({ ...small, flags: flags.linked })],
  ['a symlink', () => ({ type: types.symlink, target: Buffer.from('/etc') })],
  ['a device', () => ({ type: types.character, size: (1n << 32n) | 3n })],
  ['a directory', () => ({ type: types.directory })],
]

test.each(kindsOfEntry)(
  '%s below a symlink that a later segment calls a directory is not restored',
  async (_, entry) => {
    const outside = outsider()
    const { repository, backup } = await forge((contents) => {
      const own = entry(contents)
      const ends = own.type === types.directory ? [endRecord] : []
      const first = { ...contents.small, ...(own.flags === undefined ? {} : { flags: own.flags }) }
      return [
        { directory: '', path: '', entries: [treeRoot, symlink('a', outside.path)] },
        { directory: 'a', path: 'a/a', entries: [named('a', first), named('b', own), ...ends, endRecord, endRecord] },
      ]
    })
    for (const path of ['a/b', 'a/a', '']) {
      await expect(restored(repository, backup, path), path).rejects.toMatchObject({ code: 'CORRUPT' })
    }
    const alone = join(await restored(repository, backup, 'a'))
    expect(readdirSync(alone)).toEqual(['a'])
    outside.expectUntouched()
  },
)

test.each<[string, string, (contents: Contents) => readonly Segment[]]>([
  ['a directory of a later segment is ..', 'd/b', later('d/../..')],
  ['a directory of a later segment is empty', 'd/b', later('d//e')],
  ['a directory of a later segment is absolute', 'd/b', later('/etc')],
  ['a directory of a later segment has a NUL', 'd/b', later('d/e\0f')],
  ['a name is ..', 'd/b', inDirectory('..')],
  ['a name has a slash', 'd/b', inDirectory('a/../../b')],
  ['a name is absolute', 'd/b', inDirectory('/b')],
  ['a name has a NUL', 'd/b', inDirectory('a\0')],
  ['a name is empty', 'd/b', inDirectory('')],
  ['a file is a symlink too', 'd', twice((c) => [named('a', c.small), symlink('a', '/etc')])],
  ['a symlink is a directory too', 'd', twice(() => [symlink('a', '/etc'), directory('a'), endRecord])],
  ['a directory has no end', 'd', () => [{ directory: '', path: '', entries: [treeRoot, directory('d')] }]],
  [
    'a segment begins elsewhere than the root says',
    'd',
    ({ small }) => [
      { directory: '', path: '', entries: [treeRoot, directory('d')] },
      { directory: 'd', path: 'd/a', entries: [named('b', small), endRecord, endRecord] },
    ],
  ],
])('a tree is refused when %s', async (_, path, make) => {
  const { repository, backup } = await forge(make)
  for (const one of [path, '']) {
    await expect(restored(repository, backup, one), one).rejects.toMatchObject({ code: 'CORRUPT' })
  }
})

/** The root says of a segment what leads a search for `d/b` to it. */
function later(lies: string) {
  return ({ small }: Contents): readonly Segment[] => [
    { directory: '', path: '', entries: [treeRoot, directory('d')] },
    { directory: lies, path: 'd/a', entries: [named('a', small), named('b', small), endRecord, endRecord] },
  ]
}

function inDirectory(name: string) {
  return ({ small }: Contents): readonly Segment[] => [
    { directory: '', path: '', entries: [treeRoot, directory('d'), named(name, small), endRecord, endRecord] },
  ]
}

function twice(entries: (contents: Contents) => Segment['entries']) {
  return (contents: Contents): readonly Segment[] => [
    { directory: '', path: '', entries: [treeRoot, directory('d'), ...entries(contents), endRecord, endRecord] },
  ]
}

test('a path below a file or a symlink of a sound tree is not there', async () => {
  const { repository, backup } = await forge(({ small }) => [
    { directory: '', path: '', entries: [treeRoot, named('f', small), symlink('l', '/etc'), endRecord] },
  ])
  for (const path of ['f/x', 'l/passwd', 'l/x/y']) {
    await expect(restored(repository, backup, path), path).rejects.toMatchObject({ code: 'NOT_FOUND' })
  }
})

test('records of one inode that are not one file are not linked', async () => {
  const linked = { flags: flags.linked, inode: 77n, ctimeNs: 5n }
  const { repository, backup } = await forge(({ small, large, sparse }) => [
    {
      directory: '',
      path: '',
      entries: [
        treeRoot,
        named('a', { ...small, ...linked }),
        named('b', { ...small, ...linked }),
        named('c', { ...small, ...linked, ctimeNs: 6n }),
        named('d', { ...small, ...linked, mtimeNs: 7n }),
        named('e', { ...large, ...linked }),
        named('f', { ...sparse, ...linked }),
        symlink('g', '/x'),
        { ...symlink('h', '/x'), ...linked },
        { ...symlink('i', '/y'), ...linked },
        named('j', { ...large, ...linked }),
        endRecord,
      ],
    },
  ])
  const target = await restored(repository, backup)
  const groups = new Map<number, string[]>()
  for (const name of readdirSync(target)) {
    const { ino } = lstatSync(join(target, name))
    groups.set(ino, [...(groups.get(ino) ?? []), name])
  }
  expect([...groups.values()].map((names) => names.join('')).sort()).toEqual(['ab', 'c', 'd', 'ej', 'f', 'g', 'h', 'i'])
  expect(readFileSync(join(target, 'd')).equals(small)).toBe(true)
  expect(readFileSync(join(target, 'j')).equals(Buffer.concat(pieces))).toBe(true)
})

test('an entry is put nowhere but below real directories of the tree', () => {
  const outside = outsider()
  const tree = scratch()
  mkdirSync(join(tree, 'd/e'), { recursive: true })
  symlinkSync(outside.path, join(tree, 'link'))
  symlinkSync('e', join(tree, 'd/inner'))
  const places = new BuildDirectories(tree, () => undefined)
  writeFileSync(places.place(Buffer.from('d/e/file')), 'x')
  writeFileSync(places.place(Buffer.from('file')), 'y')
  expect(() => places.place(Buffer.from('link/b'))).toThrow()
  expect(() => places.place(Buffer.from('d/inner/b'))).toThrow()
  places.close()
  expect(readFileSync(join(tree, 'd/e/file'), 'utf8')).toBe('x')
  outside.expectUntouched()
})
