/** A directory with one of everything that a copy could lose, and its description, which two faithful copies have in common. */

import { appendFile, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { sh } from './driver-bed.ts'

/** Which extended attributes a storage keeps. */
export type KeptXattrs = 'all' | 'user' | 'none'

/** One of everything that a copy could lose. @param keeps which xattrs (ACLs are some) the file system has */
export async function makeZoo(root: string, keeps: KeptXattrs = 'all'): Promise<void> {
  const zoo = join(root, 'zoo')
  await sh('mkdir', zoo)
  await writeFile(join(zoo, 'file'), 'content')
  await sh('ln', join(zoo, 'file'), join(zoo, 'hard'))
  await sh('ln', '-s', '/etc/passwd', join(zoo, 'link'))
  await sh('mknod', join(zoo, 'char'), 'c', '1', '3')
  await sh('mknod', join(zoo, 'block'), 'b', '7', '250')
  await sh('mkfifo', join(zoo, 'fifo'))
  await sh('truncate', '-s', '8M', join(zoo, 'sparse'))
  await appendFile(join(zoo, 'sparse'), 'end')
  await sh('cp', '/bin/true', join(zoo, 'setuid'))
  await sh('chown', '1000:2000', join(zoo, 'setuid'), join(zoo, 'file'))
  await sh('chmod', '6751', join(zoo, 'setuid'))
  if (keeps !== 'none') await sh('setfattr', '-n', 'user.tag', '-v', 'value', join(zoo, 'file'))
  if (keeps === 'all') await addKernelAttributes(zoo)
  await writeFile(Buffer.concat([Buffer.from(`${zoo}/name-`), Buffer.from([0xff, 0x0a, 0x20])]), 'bytes')
  await sh('touch', '-h', '-d', '2001-02-03T04:05:06.123456789Z', join(zoo, 'link'))
  await sh('touch', '-d', '2002-02-03T04:05:06.987654321Z', join(zoo, 'file'))
  await sh('touch', '-d', '2003-02-03T04:05:06.5Z', zoo)
}

async function addKernelAttributes(zoo: string): Promise<void> {
  await sh('setfattr', '-n', 'security.capability', '-v', `0x0100000200200000${'0'.repeat(24)}`, join(zoo, 'sparse'))
  await sh('setfattr', '-n', 'trusted.tag', '-v', 'value', join(zoo, 'file'))
  await sh('setfacl', '-m', 'u:33:rw', join(zoo, 'file'))
  await sh('setfacl', '-d', '-m', 'g:44:rx', zoo)
}

/** Lines to compare. */
export async function describeZoo(root: string): Promise<string[]> {
  const zoo = join(root, 'zoo')
  // Name, type, mode, links, owner, group, time of change, symlink text; sizes of files only: a directory's is the file system's.
  const stats = (await sh('find', zoo, '-printf', '%P %y %#m %n %U %G %T@ %l\\0')).split('\0').sort()
  const sizes = (await sh('find', zoo, '-type', 'f', '-printf', '%P %s\\0')).split('\0').sort()
  const devices = await sh('stat', '-c', '%t:%T', join(zoo, 'char'), join(zoo, 'block'))
  const attributes = await sh(
    'getfattr',
    '-R',
    '-P',
    '-d',
    '-m',
    '^(user|trusted.tag|security)',
    '-e',
    'hex',
    '--absolute-names',
    zoo,
  )
  const acls = await sh('getfacl', '-R', '-P', '-n', '--absolute-names', zoo)
  const holes = (await stat(join(zoo, 'sparse'))).blocks * 512 < 2 ** 20
  const inodes = await Promise.all(['file', 'hard'].map((name) => stat(join(zoo, name))))
  const linked = inodes[0]?.ino === inodes[1]?.ino
  const content = await readFile(join(zoo, 'file'), 'utf8')
  const same = [attributes, acls].map((text) => sorted(text.replaceAll(root, '')))
  return [...stats, ...sizes, devices, ...same, `holes ${holes}`, `linked ${linked}`, content]
}

function sorted(text: string): string {
  return text.split('\n\n').sort().join('\n\n')
}
