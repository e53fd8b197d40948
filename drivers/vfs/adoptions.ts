/** Which directories may be adopted, and which the living volumes of this driver have, so that two volumes never share one. */

import { realpath } from 'node:fs/promises'
import { AppError, errno, fromErrno } from '../../src/errors.ts'
import type { Volume } from '../../src/model.ts'
import { lstatOrNothing } from '../../src/system/files.ts'
import { fileSystemOf, isWithin } from '../../src/system/mount.ts'
import type { Layout } from './layout.ts'
import type { VfsState } from './options.ts'

interface Owner {
  readonly id: string
  readonly name: string
}

/** The directories in use, kept in memory: the volumes' records say them at each start. */
export interface Adoptions {
  /** Twice for one volume is once. @throws ALREADY_EXISTS when another volume has it, or a directory around or inside it */
  claim(directory: string, owner: Owner): void
  release(id: string): void
}

/** @param known every volume; those in the trash hold nothing */
export function adoptionsOf(known: readonly Volume[]): Adoptions {
  const owners = new Map<string, Owner & { readonly directory: string }>()
  for (const { id, name, state } of known) {
    const { adopt, trashed } = (state ?? {}) as Partial<VfsState>
    if (typeof adopt === 'string' && !trashed) owners.set(id, { id, name, directory: adopt })
  }
  return {
    claim: (directory, { id, name }) => {
      const other = [...owners.values()].find(
        (owner) => owner.id !== id && (isWithin(directory, owner.directory) || isWithin(owner.directory, directory)),
      )
      if (other) {
        throw new AppError(
          'ALREADY_EXISTS',
          `${directory} cannot be adopted: volume ${other.name} has adopted ${other.directory} already; remove that one first`,
        )
      }
      owners.set(id, { id, name, directory })
    },
    release: (id) => {
      owners.delete(id)
    },
  }
}

/** Directories of the system: with all that is in them they are no volume's data. */
const systemTrees = ['/proc', '/sys', '/dev', '/etc', '/usr', '/boot', '/bin', '/sbin', '/run', '/var/lib/docker']

/** Directories that may hold volumes' data, and are none themselves. */
const systemRoots = ['/', '/var', '/var/lib']

/** File systems without files of a user. */
const pseudoFileSystems = new Set([
  ...['proc', 'sysfs', 'devtmpfs', 'devpts', 'cgroup', 'cgroup2', 'securityfs', 'debugfs', 'tracefs', 'configfs'],
  ...['bpf', 'pstore', 'mqueue', 'efivarfs', 'hugetlbfs', 'binfmt_misc', 'autofs', 'fusectl', 'nsfs'],
])

/**
 * The directory that `path` leads to, which a volume may adopt.
 * @throws NOT_FOUND when it is not there, INVALID_ARGUMENT for what is no directory, the system's, or the driver's own
 */
export async function adoptable(layout: Layout, path: string): Promise<string> {
  const directory = await realpath(path).catch((error: unknown) => {
    if (errno(error) !== 'ENOENT') throw fromErrno(error, `adopt ${path}`)
    throw new AppError('NOT_FOUND', `${path} cannot be adopted: it does not exist; create it first`)
  })
  if (!(await lstatOrNothing(directory))?.isDirectory()) {
    throw new AppError('INVALID_ARGUMENT', `${path} cannot be adopted: it is not a directory`)
  }
  if (isWithin(directory, layout.base) || isWithin(layout.base, directory)) {
    throw new AppError('INVALID_ARGUMENT', `${path} cannot be adopted: it and the driver's own ${layout.base} overlap`)
  }
  if (!isOfSystem(directory)) return directory
  throw new AppError(
    'INVALID_ARGUMENT',
    `${path} cannot be adopted: ${directory} belongs to the system; choose a directory made for the data`,
  )
}

function isOfSystem(directory: string): boolean {
  if (systemRoots.includes(directory) || /^\/lib[0-9a-z]*(\/|$)/.test(directory)) return true
  if (systemTrees.some((tree) => isWithin(directory, tree))) return true
  return pseudoFileSystems.has(fileSystemOf(directory).fsType)
}
