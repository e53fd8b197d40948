/** What the repository's tests share: scratch directories, repositories with cheap keys, trees of every kind of file, and their comparison. */

import { execFileSync } from 'node:child_process'
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished } from 'vitest'
import { openMemoryStore } from '../../../src/objectstore/memory.ts'
import type { ObjectStore } from '../../../src/objectstore/objectstore.ts'
import { idOf, newId, objectName } from '../../../src/repository/layout.ts'
import { initRepository, openRepository, type Repository } from '../../../src/repository/repository.ts'
import { Seal } from '../../../src/repository/seal.ts'
import { exec } from '../../../src/system/exec.ts'

export const cheapKey = { n: 1024, r: 8, p: 1 }
export const tools = { exec }

/** A directory that is gone after the test. @param parent where to make it */
export function scratch(parent = process.env.HOLDFAST_TEST_DIR ?? tmpdir()): string {
  const path = mkdtempSync(join(parent, 'holdfast-repository-'))
  onTestFinished(() => rmSync(path, { recursive: true, force: true }))
  return path
}

export interface TestRepository {
  readonly store: ObjectStore
  readonly repository: Repository
  /** The same repository as another node sees it. */
  reopen(options?: { graceMs?: number }): Promise<Repository>
}

export async function newRepository(
  options: { passphrase?: string | undefined; graceMs?: number; store?: ObjectStore } = {},
): Promise<TestRepository> {
  const { passphrase, graceMs = 0, store = openMemoryStore() } = options
  const repository = await initRepository({ store, tools, passphrase, graceMs, cost: cheapKey })
  return { store, repository, reopen: (more = {}) => openRepository({ store, tools, passphrase, graceMs, ...more }) }
}

export function about(volume = 'v', createdAt = new Date().toISOString()) {
  return { createdAt, host: 'h', volume, snapshot: null, labels: {}, program: 'test' }
}

/** A tree backup of `root` with nothing special about it. */
export function backUp(repository: Repository, root: string, parent: string | null = null, volume = 'v') {
  return repository.backupTree({ root, about: about(volume), parent })
}

export async function keys(store: ObjectStore, prefix = ''): Promise<string[]> {
  const found: string[] = []
  for await (const { key } of store.list(prefix)) found.push(key)
  return found
}

/** A store whose objects of this prefix are older by `ms`. */
export function aged(store: ObjectStore, prefix: string, ms: number): ObjectStore {
  return {
    ...store,
    async *list(wanted, options) {
      for await (const object of store.list(wanted, options)) {
        const isAged = object.key.startsWith(prefix)
        yield isAged ? { ...object, modifiedAt: new Date(object.modifiedAt.getTime() - ms) } : object
      }
    },
  }
}

/** The packs, the longest first: contents, then what the tree consists of. */
export async function longestFirst(store: ObjectStore): Promise<string[]> {
  const found: { key: string; size: number }[] = []
  for await (const { key, size } of store.list('packs/')) found.push({ key, size })
  return found.toSorted((a, b) => b.size - a.size).map(({ key }) => key)
}

/** Condemns packs of a plain repository as waste, as a prune does. @param packs their keys */
export async function condemn(store: ObjectStore, { config }: Repository, packs: readonly string[]): Promise<void> {
  const seal = new Seal({ repositoryId: config.id, masterKey: null })
  const name = objectName('condemned', newId('condemned'))
  const content = JSON.stringify({ version: 1, packs: packs.map((key) => idOf('packs', key)) })
  await store.put(name, seal.sealObject('C', name, Buffer.from(content)))
}

/** A file of 14 MB between holes: its list is in another pack than the most of it. */
export function writeIslands(path: string): void {
  const fd = openSync(path, 'w')
  for (let i = 0; i < 24; i++) writeSync(fd, noise(600_000, i + 1), 0, 600_000, i * 2 ** 20)
  closeSync(fd)
}

/** Three files, and one in a directory. */
export function someTree(): string {
  const root = scratch()
  for (const name of ['a', 'b', 'c']) writeFileSync(join(root, name), noise(200_000, name.charCodeAt(0)))
  mkdirSync(join(root, 'd'))
  writeFileSync(join(root, 'd/small'), 'small')
  return root
}

/** Restores all of a backup, or one path, into a new directory. */
export async function restored(repository: Repository, backup: string, path = '', parent?: string): Promise<string> {
  const target = join(scratch(parent), 'out')
  mkdirSync(target)
  await repository.restoreTree({ backup, target, path })
  return target
}

/** Backs up, restores, verifies, forgets and prunes an encrypted repository on `store`, until nothing but its config and key is left. */
export async function liveOn(store: ObjectStore): Promise<void> {
  const { repository, reopen } = await newRepository({ store, passphrase: 'secret' })
  const root = scratch()
  makeHostileTree(root)
  const first = await backUp(repository, root)
  expect(await backUp(await reopen(), root, first.id)).toMatchObject({ added: 0, root: first.root })
  writeFileSync(join(root, 'd/large'), noise(9_000_000, 3))
  const last = await backUp(repository, root, first.id)
  expect(last.added).toBeLessThan(9_500_000)
  await repository.deleteBackups((await repository.listBackups()).map(({ id }) => id).filter((id) => id !== last.id))
  for (let i = 0; i < 2; i++) await repository.prune({ dryRun: false })
  expect(await repository.verify({ readData: true, backup: null })).toMatchObject({ problems: [], damaged: [] })
  expect(describeTree(await restored(await reopen(), last.id))).toBe(describeTree(root))
  await repository.deleteBackups([last.id])
  for (let i = 0; i < 2; i++) await repository.prune({ dryRun: false })
  const left: string[] = []
  for await (const { key } of store.list('')) left.push(key.split('/')[0] ?? '')
  expect(left).toEqual(['config', 'keys'])
}

/** Everything that must be the same in a restored tree, as text. */
export function describeTree(root: string): string {
  const script = `cd "$1" && find . -printf '%p %y %m %U %G %s %T@ %l %n\\n' | sort
    find . -type f -printf '%b %s %p\\n' | awk '{ print ($1 * 512 + 65536 < $2 ? "sparse" : "full"), int($1 / 2048 + 0.5), $3 }' | sort
    getfattr -R -h -d -m - -e hex .
    find . -type f -size -100M -print0 | sort -z | xargs -0 -r sha256sum
    find . \\( -type b -o -type c \\) -exec stat -c '%n %t %T' {} +`
  return execFileSync('bash', ['-c', script, 'bash', root], {
    maxBuffer: 2 ** 30,
    env: { ...process.env, LC_ALL: 'C' },
    // Some programs complain of paths that are too long for them.
    stdio: ['ignore', 'pipe', 'ignore'],
  }).toString('latin1')
}

/** Bytes that no compressor shortens, the same for the same seed. */
export function noise(length: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(length)
  let state = seed * 2654435761 || 1
  for (let i = 0; i < length; i++) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    bytes[i] = state
  }
  return bytes
}

/** Fills `root` with every kind of file that a tree may have. */
export function makeHostileTree(root: string): void {
  mkdirSync(join(root, 'd/e/f'), { recursive: true })
  writeFileSync(join(root, 'd/plain'), 'hello\n')
  writeFileSync(join(root, 'd/empty'), '')
  writeFileSync(join(root, 'd/medium'), noise(700_000))
  writeFileSync(join(root, 'd/large'), noise(9_000_000, 2))
  writeFileSync(
    join(root, 'd/database'),
    Buffer.concat(Array.from({ length: 4096 }, (_, i) => Buffer.alloc(8192, `page ${i}`))),
  )
  const script = `cd "$1"
    ln d/plain d/e/second; ln d/large d/e/large2; ln -s /etc/passwd d/absolute; ln -s ../../.. d/up; ln d/absolute d/absolute2
    ln -s "$(printf '%0300d' 7)" d/long-target; mkfifo -m 640 d/fifo; mknod d/null c 1 3; mknod d/loop b 259 70000
    truncate -s 3M d/hole; printf x | dd of=d/hole bs=1 seek=1M conv=notrunc status=none
    truncate -s 200K d/small-hole; printf end >> d/small-hole; truncate -s 100G d/huge-hole
    printf a | dd of=d/huge-hole bs=1 seek=50G conv=notrunc status=none
    printf 1 > "$(printf 'd/\\377\\376\\n\\\\ \\001')"; printf 2 > d/$(printf '%0255d' 1); printf 3 > 'd/-rf *'; mkdir "$(printf 'd/\\344')"
    printf 4 > "$(printf 'd/\\344/\\366')"
    setfattr -n user.text -v value d/plain; setfattr -n user.binary -v 0x00ff0a d/plain; setfattr -h -n trusted.link -v 1 d/absolute
    setfattr -n user.big -v "$(printf '%02000d' 5)" d/medium; setfattr -n user.odd -v 1 "$(printf 'd/\\377\\376\\n\\\\ \\001')"
    setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 d/large
    setfacl -m u:1234:rwx,g:99:r d/plain; setfacl -d -m u:1234:rwx d/e; setfattr -n user.dir -v 1 d/e .
    chmod 4711 d/medium; chmod 1777 d/e; chmod 000 d/empty; chown 3000000000:7 d/plain; chown -h 5:6 d/up; chown 8:9 d/e/f
    touch -h -d '1969-12-31 23:59:58.500000001' d/up d/plain; touch -d '2033-05-18 03:33:20.123456789' d/large d/huge-hole d/null d/fifo
    touch -d '2001-02-03 04:05:06.987654321' d/e/f d/e d .`
  execFileSync('bash', ['-c', script, 'bash', root])
}
