/** Beds for the vfs driver on the file systems that it treats differently. */

import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { vfs } from '../../drivers/vfs/vfs.ts'
import { createEngine } from '../../src/engine/engine.ts'
import { Archive } from '../../src/services/backups/archive.ts'
import { type DriverBed, makeFileSystem, makeScratch, removeScratch, sh, silent } from './driver-bed.ts'

const disk = 3 * 2 ** 30

/** The vfs driver below `directory`, in a scratch directory that is removed with the bed. */
function vfsBed(scratch: string, directory: string, settings: Readonly<Record<string, string>> = {}): DriverBed {
  const path = join(directory, 'vfs')
  const engine = createEngine({ log: silent })
  const environment = { root: directory, archive: (at: string) => new Archive(engine, at) }
  return {
    directory,
    driver: () => vfs.create({ path, ...settings }, environment),
    leftovers: async () => (existsSync(join(path, 'tmp')) ? readdir(join(path, 'tmp')) : []),
    dispose: async () => {
      await engine.stop()
      await removeScratch(scratch)
    },
  }
}

/** On the machine's own file system. */
export async function onHost(settings?: Readonly<Record<string, string>>): Promise<DriverBed> {
  const scratch = await makeScratch()
  return vfsBed(scratch, scratch, settings)
}

/** On a file system of its own. */
export async function onFileSystem(mkfs: readonly string[], size = disk, options = 'loop'): Promise<DriverBed> {
  const scratch = await makeScratch()
  try {
    return vfsBed(scratch, await makeFileSystem(scratch, mkfs, size, options))
  } catch (error) {
    await removeScratch(scratch)
    throw error
  }
}

export const onXfs = () => onFileSystem(['mkfs.xfs', '-q', '-m', 'reflink=1'])

export const onBtrfs = () => onFileSystem(['mkfs.btrfs', '-q'])

export async function onBtrfsWithQuota(): Promise<DriverBed> {
  const bed = await onBtrfs()
  await sh('btrfs', 'quota', 'enable', bed.directory)
  return bed
}

/** What the driver keeps a volume of this name in. */
export function folderOf(bed: DriverBed, name: string): string {
  return join(bed.directory, 'vfs', 'volumes', name)
}

/** Makes a directory outside of the storage that nothing may touch. @returns a check that it is as it was */
export async function makeOutside(bed: DriverBed): Promise<{ path: string; intact(): Promise<boolean> }> {
  const path = join(bed.directory, 'outside')
  await mkdir(path, { recursive: true })
  await sh('cp', '/etc/passwd', join(path, 'secret'))
  const secret = await readFile('/etc/passwd', 'utf8')
  return {
    path,
    intact: async () => {
      const names = await readdir(path)
      return names.length === 1 && (await readFile(join(path, 'secret'), 'utf8')) === secret
    },
  }
}
