/** The content of the golden repositories, made anew to be compared with. */

import { execFileSync } from 'node:child_process'
import { closeSync, ftruncateSync, openSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { noise } from '../unit/repository/support.ts'

export const goldenPassphrase = 'golden passphrase'

/** A small tree with every kind of record. */
export function makeGoldenTree(root: string): void {
  const script = `cd "$1"; mkdir -p d/empty; echo one > d/file; : > d/nothing; ln d/file d/linked; ln -s ../target d/symlink; mkfifo d/fifo
    mknod d/null c 1 3; printf x > "$(printf 'd/\\377 odd')"; truncate -s 300K d/hole; printf end >> d/hole
    setfattr -n user.short -v value d/file; setfattr -n user.long -v "$(printf '%01500d' 1)" d/nothing; setfacl -m u:1234:rw d/file
    chmod 4750 d/nothing; chmod 1777 d/empty; chown 1000:2000 d/empty`
  execFileSync('bash', ['-c', script, 'bash', root])
  writeFileSync(join(root, 'd/medium'), Buffer.concat([Buffer.alloc(50_000, 'golden '), noise(3000)]))
  execFileSync('bash', ['-c', `cd "$1"; find . -exec touch -h -d '2026-01-02 03:04:05.123456789' {} +`, 'bash', root])
}

/** A device image of three blocks with content. @returns its size */
export function makeGoldenImage(path: string): number {
  const size = 2 ** 20 + 512
  const fd = openSync(path, 'w')
  ftruncateSync(fd, size)
  for (const [at, seed] of [
    [0, 1],
    [500_000, 2],
    [2 ** 20, 3],
  ] as const)
    writeSync(fd, noise(512, seed), 0, 512, at)
  closeSync(fd)
  return size
}
