/** A file of a backup as a line for people, as `ls -l` has it. */

import type { BackupFileView } from '../server/schemas/backup.ts'
import { printable } from './output.ts'

const typeLetters: Readonly<Record<BackupFileView['type'], string>> = {
  file: '-',
  directory: 'd',
  symlink: 'l',
  fifo: 'p',
  character: 'c',
  block: 'b',
  socket: 's',
}

/** What stands for the three bits of special meaning: set-uid, set-gid, sticky. */
const special = [
  { bit: 0o4000, letter: 's' },
  { bit: 0o2000, letter: 's' },
  { bit: 0o1000, letter: 't' },
] as const

/** `rwxr-sr-x` */
function permissions(mode: number): string {
  return special
    .map(({ bit, letter }, index) => {
      const bits = (mode >> (6 - 3 * index)) & 7
      const plain = bits & 1 ? 'x' : '-'
      const set = bits & 1 ? letter : letter.toUpperCase()
      return `${bits & 4 ? 'r' : '-'}${bits & 2 ? 'w' : '-'}${mode & bit ? set : plain}`
    })
    .join('')
}

/** `-rw-r--r--     0     0       4096 2026-11-23 10:00 etc/motd`; lines come one by one, so widths are fixed. */
export function fileLine({ path, type, mode, uid, gid, size, modifiedAt, target }: BackupFileView): string {
  const owner = `${String(uid).padStart(5)} ${String(gid).padStart(5)}`
  const when = modifiedAt.slice(0, 16).replace('T', ' ')
  const name = `${path || '.'}${target === null ? '' : ` -> ${target}`}`
  return printable(`${typeLetters[type]}${permissions(mode)} ${owner} ${String(size).padStart(10)} ${when} ${name}`)
}
