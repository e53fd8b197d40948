/** What becomes of a repository that is damaged or forged: nothing is lost silently, nothing wrong is ever restored. */

import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { isAppError } from '../../../src/errors.ts'
import { openMemoryStore } from '../../../src/objectstore/memory.ts'
import type { ObjectStore } from '../../../src/objectstore/objectstore.ts'
import { kinds } from '../../../src/repository/chunk-entry.ts'
import { compress } from '../../../src/repository/compression.ts'
import { encodeIndex } from '../../../src/repository/index-object.ts'
import { newId, objectName } from '../../../src/repository/layout.ts'
import { encodeManifest } from '../../../src/repository/manifest.ts'
import { PackBuilder } from '../../../src/repository/pack.ts'
import { openRepository } from '../../../src/repository/repository.ts'
import { Seal } from '../../../src/repository/seal.ts'
import { SegmentBuilder } from '../../../src/repository/segment.ts'
import { encodeRecord, endRecord, type TreeRecord } from '../../../src/repository/tree-record.ts'
import { about, backUp, describeTree, keys, newRepository, restored, scratch, someTree, tools } from './support.ts'

async function alter(store: ObjectStore, key: string, change: (bytes: Uint8Array) => Uint8Array): Promise<void> {
  await store.put(key, change(new Uint8Array(await store.get(key))))
}

describe.each([
  ['plain', undefined],
  ['encrypted', 'secret'],
])('damage to a %s repository', (_, passphrase) => {
  test('a flipped bit in any object is found by verify, and never restored silently', async () => {
    const { store, repository } = await newRepository({ passphrase })
    const root = someTree()
    const { id } = await backUp(repository, root)
    const whole = describeTree(root)
    expect(await repository.verify({ readData: true, backup: null })).toMatchObject({ problems: [], damaged: [] })
    for (const key of (await keys(store)).filter((name) => /^(packs|indexes|manifests)/.test(name))) {
      const { length } = await store.get(key)
      for (const at of [0, 5, 20, Math.floor(length / 2), length - 20, length - 1]) {
        const flip = (bytes: Uint8Array) => bytes.with(at, (bytes[at] ?? 0) ^ 4)
        await alter(store, key, flip)
        const { problems, damaged } = await repository.verify({ readData: true, backup: null })
        expect(problems.length + damaged.length, `${key} byte ${at}`).toBeGreaterThan(0)
        const end = await restored(repository, id).then(describeTree, (error: unknown) => error)
        if (end !== whole) expect(end, `${key} byte ${at}`).toMatchObject({ code: 'CORRUPT' })
        await alter(store, key, flip)
      }
    }
    expect(await repository.verify({ readData: true, backup: null })).toMatchObject({ problems: [], damaged: [] })
    expect(await keys(store, 'damaged/')).toEqual([])
  }, 180_000)

  test('a flipped bit anywhere in config or key opens nothing, or the same repository', async () => {
    const { store, repository, reopen } = await newRepository({ passphrase })
    let refused = 0
    for (const key of (await keys(store)).filter((name) => /^(config|keys)/.test(name))) {
      const { length } = await store.get(key)
      for (let at = 0; at < length; at++) {
        const flip = (bytes: Uint8Array) => bytes.with(at, (bytes[at] ?? 0) ^ (1 << (at % 7)))
        await alter(store, key, flip)
        const opened = await reopen().catch((error: unknown) => error)
        if (isAppError(opened)) refused++
        else expect(opened, `${key} byte ${at}`).toMatchObject({ config: { id: repository.config.id } })
        await alter(store, key, flip)
      }
    }
    expect(refused).toBeGreaterThan(200)
    expect(await reopen()).toMatchObject({ config: repository.config })
  }, 60_000)

  test('damaged data is never restored; verify names the files, repair and the next backup heal them', async () => {
    const { store, repository } = await newRepository({ passphrase })
    const root = someTree()
    const first = await backUp(repository, root)
    const [data = ''] = (
      await Promise.all(
        (await keys(store, 'packs/')).map(async (key) => ({ key, size: (await store.get(key)).length })),
      )
    )
      .toSorted((a, b) => b.size - a.size)
      .map(({ key }) => key)
    await alter(store, data, (bytes) => bytes.with(1000, (bytes[1000] ?? 0) ^ 1))
    await expect(restored(repository, first.id)).rejects.toMatchObject({ code: 'CORRUPT' })
    const found = await repository.verify({ readData: true, backup: null })
    expect(found.damaged).toMatchObject([{ id: first.id, paths: [expect.stringMatching(/^[abc]$/)] }])
    await expect(repository.prune({ dryRun: false })).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' })
    expect(await keys(store, 'packs/')).toContain(data)
    expect(await repository.repair({ readData: true })).toMatchObject({ lostChunks: 1 })
    await expect(repository.prune({ dryRun: false })).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' })
    const second = await backUp(repository, root, first.id)
    expect(second.parent).toBeNull()
    expect(await repository.verify({ readData: true, backup: null })).toMatchObject({ problems: [], damaged: [] })
    expect(describeTree(await restored(repository, first.id))).toBe(describeTree(root))
  }, 60_000)

  test('a lost pack is found by a plain verify, and healed the same way', async () => {
    const { store, repository } = await newRepository({ passphrase })
    const root = someTree()
    const first = await backUp(repository, root)
    for (const key of await keys(store, 'packs/')) await store.delete([key])
    expect((await repository.verify({ readData: false, backup: null })).damaged).toHaveLength(1)
    await repository.repair({ readData: false })
    await backUp(repository, root, first.id)
    expect(describeTree(await restored(repository, first.id))).toBe(describeTree(root))
  }, 60_000)

  test('indexes are rebuilt from packs', async () => {
    const { store, repository } = await newRepository({ passphrase })
    const root = someTree()
    const { id } = await backUp(repository, root)
    await store.delete(await keys(store, 'indexes/'))
    await expect(restored(repository, id)).rejects.toMatchObject({ code: 'CORRUPT' })
    expect(await repository.repair({ readData: false })).toMatchObject({ leftOut: [], lostChunks: 0 })
    expect(describeTree(await restored(repository, id))).toBe(describeTree(root))
  }, 60_000)
})

describe('the owner of the store', () => {
  test('cannot swap objects, nor open or downgrade a repository', async () => {
    const { store, repository } = await newRepository({ passphrase: 'secret' })
    const first = await backUp(repository, someTree())
    const second = await backUp(repository, someTree(), null, 'other')
    const [a, b] = [objectName('manifests', first.id), objectName('manifests', second.id)]
    const [one, two] = [await store.get(a), await store.get(b)]
    await store.put(a, two)
    await store.put(b, one)
    await expect(repository.getBackup(first.id)).rejects.toMatchObject({ code: 'CORRUPT' })
    const options = { store, tools, passphrase: 'secret' }
    await expect(openRepository({ ...options, passphrase: 'wrong' })).rejects.toMatchObject({
      code: 'PERMISSION_DENIED',
    })
    await expect(openRepository({ store, tools })).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' })
    const config = JSON.parse(Buffer.from(await store.get('config')).toString())
    await store.put('config', Buffer.from(JSON.stringify({ ...config, encryption: 'none' })))
    await expect(openRepository(options)).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' })
    await store.put('config', Buffer.from(JSON.stringify({ ...config, createdAt: '2020-01-01T00:00:00Z' })))
    await expect(openRepository(options)).rejects.toMatchObject({ code: 'CORRUPT' })
  })

  test('learns no name and no content', async () => {
    const { store, repository } = await newRepository({ passphrase: 'secret' })
    const root = scratch()
    writeFileSync(join(root, 'confidential-name'), 'confidential content '.repeat(3))
    await backUp(repository, root, null, 'confidential-volume')
    const all = Buffer.concat(await Promise.all((await keys(store)).map((key) => store.get(key)))).toString('latin1')
    expect(all).not.toContain('confidential')
  })

  test('several passphrases open, and a removed one does not', async () => {
    const { store, repository } = await newRepository({ passphrase: 'one' })
    const { id } = await backUp(repository, someTree())
    await repository.addPassphrase('two', 'second', { n: 1024, r: 8, p: 1 })
    const again = await openRepository({ store, tools, passphrase: 'two' })
    expect((await again.listBackups()).map((backup) => backup.id)).toEqual([id])
    const [first] = (await again.listPassphrases()).filter(({ label }) => label === '')
    await again.removePassphrase(first?.id ?? '')
    await expect(openRepository({ store, tools, passphrase: 'one' })).rejects.toMatchObject({
      code: 'PERMISSION_DENIED',
    })
    const [last] = await again.listPassphrases()
    await expect(again.removePassphrase(last?.id ?? '')).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' })
  })
})

/** A repository that holds one tree of the records given: authentic, but nothing that Holdfast would write. */
async function forged(entries: readonly (Partial<TreeRecord> | 'end')[]) {
  const { store, repository } = await newRepository({ store: openMemoryStore() })
  const seal = new Seal({ repositoryId: repository.config.id, masterKey: null })
  const pack = new PackBuilder(seal)
  const put = (kind: 0 | 1 | 3, content: Uint8Array): Buffer => {
    const { method, bytes } = compress(content)
    pack.add(
      { id: seal.chunkId(content), stored: bytes.length + seal.chunkOverhead, length: content.length, method, kind },
      bytes,
    )
    return seal.chunkId(content)
  }
  const payload = put(kinds.data, Buffer.from('evil'))
  const reference = Buffer.concat([payload, Buffer.from([4, 0, 0, 0, 0, 0, 0, 0])])
  const stat = { mode: 0o644, uid: 0, gid: 0, mtimeNs: 0n, ctimeNs: 0n, inode: 5n, size: 0n, flags: 0, profile: 0 }
  const none = { target: undefined, content: undefined, attributes: undefined, attributesId: undefined }
  const segments = new SegmentBuilder((segment) => put(kinds.segment, segment))
  const root = encodeRecord({ ...stat, ...none, type: 2, name: Buffer.alloc(0) })
  segments.add(Buffer.alloc(0), Buffer.alloc(0), root)
  for (const entry of entries) {
    if (entry === 'end') segments.add(Buffer.alloc(0), Buffer.alloc(0), endRecord)
    else {
      const file = entry.type === 1 ? { size: 4n, content: { level: 0, references: reference } } : {}
      const record = { ...stat, ...none, type: 1, name: Buffer.from('x'), ...file, ...entry }
      segments.add(Buffer.alloc(0), record.name, encodeRecord(record))
    }
  }
  segments.add(Buffer.alloc(0), Buffer.alloc(0), endRecord)
  const rootId = put(kinds.root, segments.finish())
  const { id, name, bytes, directory } = pack.finish()
  await store.put(name, bytes)
  const index = objectName('indexes', newId('indexes'))
  await store.put(index, seal.sealObject('I', index, encodeIndex([{ id, size: bytes.length, directory }])))
  const backup = newId('manifests')
  const manifest = objectName('manifests', backup)
  const counts = { size: 4, files: 1, added: 0, changed: 0, parent: null, root: rootId.toString('hex') }
  await store.put(
    manifest,
    seal.sealObject('M', manifest, encodeManifest({ version: 1, kind: 'tree', ...about(), ...counts })),
  )
  return { repository, backup }
}

describe('a forged tree writes nothing outside of its target', () => {
  const file = (name: string) => ({ type: 1, name: Buffer.from(name) })
  test.each<[string, (outside: string) => (Partial<TreeRecord> | 'end')[]]>([
    ['..', () => [file('..')]],
    ['../x', () => [file('../x')]],
    ['an absolute name', (outside) => [file(`${outside}/x`)]],
    [
      'a symlink and a directory of one name',
      (outside) => [
        { type: 3, name: Buffer.from('a'), target: Buffer.from(outside) },
        { type: 2, name: Buffer.from('a') },
        file('x'),
        'end',
      ],
    ],
    [
      'a symlink, then its name as a path',
      (outside) => [{ type: 3, name: Buffer.from('a'), target: Buffer.from(outside) }, file('a/x')],
    ],
    ['an end too many', () => ['end', 'end', file('x')]],
    [
      'a symlink that is linked with a file',
      (outside) => [
        { type: 3, name: Buffer.from('a'), target: Buffer.from(`${outside}/x`), flags: 1 },
        { ...file('b'), flags: 1 },
      ],
    ],
  ])('%s', async (_, entries) => {
    const outside = scratch()
    const { repository, backup } = await forged(entries(outside))
    const target = join(scratch(), 'out')
    mkdirSync(target)
    const result = await repository.restoreTree({ backup, target, path: '' }).catch((error: unknown) => error)
    if (result instanceof Error) expect(result).toMatchObject({ code: 'CORRUPT' })
    expect(readdirSync(outside)).toEqual([])
    expect(readdirSync(join(target, '..'))).toEqual(['out'])
  })

  test('a sound one is restored: the forger of these tests can be believed', async () => {
    const { repository, backup } = await forged([file('x')])
    expect(readFileSync(join(await restored(repository, backup), 'x'), 'utf8')).toBe('evil')
  })

  test('a target that is a symlink, or has something in it, is refused', async () => {
    const { repository, backup } = await forged([file('x')])
    const outside = scratch()
    const link = join(scratch(), 'link')
    symlinkSync(outside, link)
    await expect(repository.restoreTree({ backup, target: link, path: '' })).rejects.toThrow()
    expect(readdirSync(outside)).toEqual([])
    writeFileSync(join(outside, 'mine'), '')
    await expect(repository.restoreTree({ backup, target: outside, path: '' })).rejects.toMatchObject({
      code: 'FAILED_PRECONDITION',
    })
  })

  test('a symlink planted in the area of an interrupted restore is not followed', async () => {
    const { repository, backup } = await forged([{ type: 2, name: Buffer.from('a') }, file('x'), 'end'])
    const outside = scratch()
    const target = scratch()
    const area = join(target, `.holdfast-restore-${backup}`)
    execFileSync('mkdir', ['-m', '700', '-p', area, join(area, 'tree')])
    symlinkSync(outside, join(area, 'tree/a'))
    await expect(repository.restoreTree({ backup, target, path: '' })).rejects.toThrow()
    expect(readdirSync(outside)).toEqual([])
  })
})
