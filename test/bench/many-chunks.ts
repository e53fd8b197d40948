/**
 * Makes a repository of very many small chunks, with the engine's own writers but without files to read: a tree of files of one chunk each. So that
 * what grows with the number of chunks can be measured.
 */

import { randomBytes } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { openDirStore } from '../../src/objectstore/dir.ts'
import type { Bridge, Requests } from '../../src/repository/bridge.ts'
import { kinds } from '../../src/repository/chunk-entry.ts'
import { ChunkTable } from '../../src/repository/chunk-table.ts'
import { ChunkWriter } from '../../src/repository/chunk-writer.ts'
import { commit } from '../../src/repository/commit.ts'
import { IndexWriter } from '../../src/repository/index-writer.ts'
import { initRepository, openRepository } from '../../src/repository/repository.ts'
import { Seal } from '../../src/repository/seal.ts'
import { SegmentBuilder } from '../../src/repository/segment.ts'
import { encodeRecord, endRecord, type TreeRecord, types } from '../../src/repository/tree-record.ts'
import { exec } from '../../src/system/exec.ts'

const filesPerDirectory = 1000
const contentLength = 64
const none = Buffer.alloc(0)
const graceMs = 0

/** A worker's bridge to a directory, which does at once what is asked of it. It serves writers only. */
function bridgeTo(directory: string): Bridge {
  const put = ({ key, bytes }: Requests['put']['args']) => {
    mkdirSync(dirname(join(directory, key)), { recursive: true })
    writeFileSync(join(directory, key), bytes)
    return bytes
  }
  const bridge = {
    post: (_: 'put', args: Requests['put']['args'], done: (answer: Uint8Array) => void) => done(put(args)),
    call: (_: 'put', args: Requests['put']['args']) => put(args),
    pumpUntil: () => undefined,
  }
  return bridge as unknown as Bridge
}

/** Makes a repository in `directory` and in it a backup `all` of `chunks` files, and one, `some`, of every second of them. @returns their ids */
export async function fillRepository(
  directory: string,
  chunks: number,
  passphrase: string,
): Promise<{ all: string; some: string }> {
  const store = await openDirStore(directory, { create: true })
  const options = { store, tools: { exec }, passphrase, graceMs }
  await initRepository(options)
  const { knownKey, config } = await openRepository(options)
  const seal = new Seal({ repositoryId: config.id, masterKey: knownKey?.masterKey ?? null })
  const bridge = bridgeTo(directory)
  const table = ChunkTable.create(2 * chunks + 1024, 1)
  const content = new ChunkWriter(bridge, seal, table)
  const trees = new ChunkWriter(bridge, seal, table)
  const index = new IndexWriter(bridge, seal)
  const ids = Buffer.alloc(chunks * 32)
  for (let i = 0; i < chunks; i++) {
    content.put(kinds.data, randomBytes(contentLength)).copy(ids, i * 32)
    if (i % 10_000 === 0) index.add(content.takeStored())
  }
  content.flush()
  const backUp = (step: number): string => {
    const segments = new SegmentBuilder((segment) => trees.put(kinds.segment, segment))
    const files = writeTree(segments, ids, step)
    const root = trees.put(kinds.root, segments.finish()).toString('hex')
    trees.flush()
    index.add([...content.takeStored(), ...trees.takeStored()])
    const about = { createdAt: new Date().toISOString(), host: 'h', volume: 'v', snapshot: null, labels: {} }
    const counted = { size: files * contentLength, files, changed: 0, parent: null, program: 'bench' }
    const manifest = { kind: 'tree' as const, ...about, ...counted, root }
    return commit({ bridge, seal }, manifest, { index, since: Date.now(), graceMs: 3_600_000 }).id
  }
  return { all: backUp(1), some: backUp(2) }
}

/** Adds a tree of every `step`th chunk. @returns number of files */
function writeTree(segments: SegmentBuilder, ids: Buffer, step: number): number {
  let files = 0
  const count = ids.length / 32
  segments.add(none, none, recordOf(none, types.directory, undefined))
  for (let first = 0; first < count; first += filesPerDirectory) {
    const directory = nameOf(first)
    segments.add(none, directory, recordOf(directory, types.directory, undefined))
    for (let i = first; i < Math.min(count, first + filesPerDirectory); i += step) {
      const name = nameOf(i)
      segments.add(directory, name, recordOf(name, types.file, ids.subarray(i * 32, i * 32 + 32)))
      files++
    }
    segments.add(directory, none, endRecord)
  }
  segments.add(none, none, endRecord)
  return files
}

function nameOf(number: number): Buffer {
  return Buffer.from(String(number).padStart(9, '0'))
}

function recordOf(name: Buffer, type: TreeRecord['type'], id: Buffer | undefined): Buffer {
  const length = Buffer.alloc(8)
  length.writeUInt32LE(contentLength)
  const content = id && { level: 0, references: Buffer.concat([id, length]) }
  const times = { mtimeNs: 10n ** 18n, ctimeNs: 10n ** 18n }
  const stat = { type, mode: 0o755, uid: 0, gid: 0, ...times, inode: 1n, size: id ? BigInt(contentLength) : 0n }
  const rest = { target: undefined, attributes: undefined, attributesId: undefined }
  return encodeRecord({ ...stat, ...rest, name, content, flags: 0, profile: id ? 1 : 0 })
}
