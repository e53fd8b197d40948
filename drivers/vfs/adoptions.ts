/** Which directories the living volumes of this driver have adopted, so that two volumes never share one. */

import { AppError } from '../../src/errors.ts'
import type { Volume } from '../../src/model.ts'
import { isWithin } from '../../src/system/mount.ts'
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
