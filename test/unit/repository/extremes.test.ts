/** Trees at their limits, and files that change under the reader's hands. Needs root, as backups do. */

import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, readlinkSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as later } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import type { ListedFile } from '../../../src/repository/list-files.ts'
import { about, backUp, describeTree, newRepository, noise, restored, scratch } from './support.ts'

/** Hundreds of thousands of files are made and removed there in seconds, whatever the disk is busy with. */
const memory = '/dev/shm'

test('200,000 files in one directory come back, are found one by one, and cost nothing when unchanged', async () => {
  const root = scratch(memory)
  mkdirSync(join(root, 'many'))
  // Most are empty: an empty file takes no page of memory.
  for (let i = 0; i < 200_000; i++) writeFileSync(join(root, `many/${i}`), i % 16 === 0 ? `${i}` : '')
  const { repository } = await newRepository()
  const first = await backUp(repository, root)
  expect(first.files).toBe(200_002)
  const second = await backUp(repository, root, first.id)
  expect(second).toMatchObject({ added: 0, root: first.root })
  const target = await restored(repository, first.id, '', memory)
  const describe = (path: string) =>
    execFileSync('bash', [
      '-c',
      'cd "$1"; find . -printf "%p %y %m %U %G %s %T@\\n" | sort | md5sum; find many -type f -print0 | sort -z | xargs -0 cat | md5sum',
      'bash',
      path,
    ]).toString()
  expect(describe(target)).toBe(describe(root))
  const one = await restored(repository, first.id, 'many/123456', memory)
  expect(readdirSync(join(one, 'many'))).toEqual(['123456'])
  expect(readFileSync(join(one, 'many/123456'), 'utf8')).toBe('123456')
}, 120_000)

test('names of 255 bytes in any encoding, and paths far beyond PATH_MAX, come back', async () => {
  const root = scratch()
  const bytes = Buffer.from(Array.from({ length: 255 }, (_, i) => i + 1).filter((byte) => byte !== 0x2f))
  const names = [
    Buffer.concat([bytes, Buffer.from('x')]),
    Buffer.from('é'.repeat(127), 'utf8'),
    Buffer.from('é'.repeat(127), 'utf8').subarray(1),
    Buffer.alloc(255, 0xff),
    Buffer.from('\u{1f980}'.repeat(63)),
    Buffer.from([0xc0, 0xae, 0xc0, 0xae]),
    Buffer.from('-'),
    Buffer.from(' \n\t'),
  ]
  for (const [i, name] of names.entries()) {
    writeFileSync(Buffer.concat([Buffer.from(`${root}/`), name]), `${i}`)
  }
  execFileSync('bash', [
    '-c',
    'cd "$1"; for i in $(seq 30); do mkdir "$(printf %0250d $i)"; cd "$(printf %0250d $i)"; done; echo deep > end; setfattr -n user.x -v 1 end; touch -d @5 end; ln end link; truncate -s 3M hole; ln hole hole2; ln -s end symlink; mkdir d; touch -d @7 d .',
    'bash',
    root,
  ])
  const { repository } = await newRepository()
  const { id, files } = await backUp(repository, root)
  expect(files).toBe(names.length + 37)
  const target = await restored(repository, id)
  expect(describeTree(target)).toBe(describeTree(root))
  const deepest = (path: string) => {
    const script =
      'cd "$1"; for i in $(seq 30); do cd "$(printf %0250d $i)"; done; cat end; sha256sum hole2; getfattr -d end; stat -c %h link'
    return execFileSync('bash', ['-c', script, 'bash', path]).toString()
  }
  expect(deepest(target)).toBe(deepest(root))
  const listed: ListedFile[] = []
  await repository.listFiles({ backup: id, path: '', recursive: false }, async (page) => void listed.push(...page))
  const raw = listed.map(({ rawPath }) => rawPath).filter((path) => !path.startsWith('0') && path !== '')
  expect(raw.sort()).toEqual(names.map((name) => name.toString('latin1')).sort())
  execFileSync('rm', ['-rf', root, target])
})

test('a file of 100 GiB with data here and there takes the time and room of its data', async () => {
  const root = scratch()
  const path = join(root, 'sparse')
  const file = await open(path, 'w')
  for (const [i, offset] of [0, 2 ** 32 - 10, 50 * 2 ** 30 + 4096, 100 * 2 ** 30 - 5000].entries()) {
    await file.write(noise(5000, i + 1), 0, 5000, offset)
  }
  await file.close()
  const { repository } = await newRepository()
  const { id, added, size } = await backUp(repository, root)
  expect(size).toBe(100 * 2 ** 30)
  expect(added).toBeLessThan(2 ** 20)
  const target = join(await restored(repository, id), 'sparse')
  expect(statSync(target).blocks).toBeLessThanOrEqual(statSync(path).blocks + 64)
  const bytes = Buffer.alloc(5000)
  const back = await open(target)
  for (const [i, offset] of [0, 2 ** 32 - 10, 50 * 2 ** 30 + 4096, 100 * 2 ** 30 - 5000].entries()) {
    await back.read(bytes, 0, 5000, offset)
    expect(bytes.equals(noise(5000, i + 1)), `at ${offset}`).toBe(true)
  }
  await back.close()
})

/** A process that changes `root` without a pause: files grow, shrink, vanish, come back as directories and links. */
function startChanging(root: string): ChildProcess {
  const script = `cd "$1"; while :; do
    for i in 1 2 3 4 5 6 7 8; do
      head -c 300000 /dev/urandom >> grows$((i % 3)); truncate -s $((RANDOM * 100)) shrinks$((i % 3))
      rm -rf flips$i; mkdir flips$i; echo x > flips$i/inner; rm -rf flips$i; echo file > flips$i; rm -f flips$i; ln -s /etc/passwd flips$i
      mv moves$i gone$i 2>/dev/null || mv gone$i moves$i 2>/dev/null || echo y > moves$i
    done; truncate -s 1M grows0 grows1 grows2; done`
  return spawn('bash', ['-c', script, 'bash', root], { stdio: 'ignore' })
}

test('a tree that changes while it is read gives a backup that is whole, and says which files changed', async () => {
  const root = scratch()
  for (let i = 0; i < 40; i++) writeFileSync(join(root, `still${i}`), noise(2_000_000, i + 1))
  const changer = startChanging(root)
  onTestFinished(() => void changer.kill('SIGKILL'))
  const { repository } = await newRepository()
  await later(300)
  let parent: string | null = null
  let changed = 0
  for (let round = 0; round < 3; round++) {
    const backup = await backUp(repository, root, parent)
    parent = backup.id
    changed += backup.changed
    const target = await restored(repository, backup.id)
    for (let i = 0; i < 40; i += 13) {
      expect(readFileSync(join(target, `still${i}`)).equals(noise(2_000_000, i + 1))).toBe(true)
    }
    // Nothing of /etc/passwd, which links point to now and then, may have been read as a file of the tree.
    expect(execFileSync('bash', ['-c', 'grep -lar root:x: "$1" || true', 'bash', target]).toString()).toBe('')
  }
  expect(await repository.verify({ readData: true, backup: null })).toMatchObject({ problems: [], damaged: [] })
  const ended = new Promise((resolve) => changer.once('exit', resolve))
  changer.kill('SIGKILL')
  await ended
  expect(changed).toBeGreaterThan(0)
  const last = await backUp(repository, root, parent)
  expect(describeTree(await restored(repository, last.id))).toBe(describeTree(root))
}, 90_000)

/** Whether a thread of this process has the file open. */
function isOpen(path: string): boolean {
  return readdirSync('/proc/self/fd').some((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === path
    } catch {
      return false // Closed since it was listed.
    }
  })
}

test('a file that is cut off while it is read is kept at its former length, and read again the next time', async () => {
  const root = scratch()
  const path = join(root, 'file')
  writeFileSync(path, noise(80_000_000, 3))
  const { repository } = await newRepository()
  let cut = false
  const running = repository.backupTree({ root, about: about(), parent: null })
  const timer = setInterval(() => {
    if (cut || !isOpen(path)) return
    cut = true
    truncateSync(path, 1_000_000)
  }, 1)
  const first = await running.finally(() => clearInterval(timer))
  expect(cut).toBe(true)
  expect(first).toMatchObject({ changed: 1 })
  const target = await restored(repository, first.id)
  expect(statSync(join(target, 'file')).size).toBe(first.size)
  const second = await backUp(repository, root, first.id)
  expect(second).toMatchObject({ changed: 0, size: 1_000_000 })
  expect(describeTree(await restored(repository, second.id))).toBe(describeTree(root))
})
