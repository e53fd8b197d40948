/**
 * Programs of this node that the admin allows to be started by name: those in one directory, which root alone can change. Runs them
 * without a shell and with next to no environment.
 */

import { lstatSync, realpathSync, type Stats } from 'node:fs'
import path from 'node:path'
import { AppError } from '../errors.ts'
import { type ExecResult, type GroupOptions, runGroup } from './exec.ts'

const searchPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
const othersMayWrite = 0o022
const executable = 0o111
/** Others may add to such a directory, and change nothing of root's. */
const sticky = 0o1000

/** `way`: a directory above that of the programs. */
type Kind = 'way' | 'directory' | 'program'

const nouns: Readonly<Record<Kind, string>> = {
  way: 'the directory',
  directory: 'the directory',
  program: 'the program',
}

/**
 * Runs a program of `directory` to its end, whatever its exit code; what it has started ends with it when it is late.
 * @param options.env its environment, besides PATH
 * @throws PERMISSION_DENIED for a program that is not root's alone, NOT_FOUND, TIMEOUT, the signal's reason
 */
export async function runHostProgram(
  directory: string,
  name: string,
  args: readonly string[],
  options: GroupOptions,
): Promise<ExecResult> {
  const program = requireHostProgram(directory, name)
  return runGroup(program, args, { ...options, env: { PATH: searchPath, ...options.env } })
}

/** @returns its path @throws as `runHostProgram` */
export function requireHostProgram(directory: string, name: string): string {
  if (name.includes('/') || name.includes('\0') || name === '.' || name === '..' || name === '') {
    throw new AppError('INVALID_ARGUMENT', `'${name}' is not the name of a program in ${directory}: it must have no /`)
  }
  const folder = realpathSync.native(requireRoots(directory, 'directory'))
  for (let above = path.dirname(folder); above !== path.dirname(above); above = path.dirname(above)) {
    requireRoots(above, 'way')
  }
  return requireRoots(path.join(folder, name), 'program')
}

/** No symlink, which could lead anywhere, and nothing that others can put something else in the place of. */
function requireRoots(file: string, what: Kind): string {
  const stat = lstatSync(file, { throwIfNoEntry: false })
  if (!stat) throw new AppError('NOT_FOUND', `${nouns[what]} ${file} for hooks on this node is not there`)
  const fact = unfit(stat, what)
  if (fact === undefined) return file
  throw new AppError('PERMISSION_DENIED', `${nouns[what]} ${file} for hooks on this node ${fact}`)
}

function unfit(stat: Stats, what: Kind): string | undefined {
  if (what !== 'program' && !stat.isDirectory()) return 'is not a directory'
  if (what === 'program' && !stat.isFile()) return 'is not a regular file (a symlink is none)'
  const isSticky = what === 'way' && (stat.mode & sticky) !== 0
  if (stat.uid !== 0 || ((stat.mode & othersMayWrite) !== 0 && !isSticky)) {
    return 'can be changed by others than root; run: chown root, chmod go-w'
  }
  if (what === 'program' && (stat.mode & executable) === 0) return 'is not executable; run: chmod +x'
  return undefined
}
