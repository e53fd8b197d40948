/** Passphrases from files. Runs in the process of a job: the daemon never reads one. */

import { readFile } from 'node:fs/promises'
import { isAbsolute } from 'node:path'
import { AppError } from '../errors.ts'

const mostBytes = 65_536

/**
 * The first line of a file, without its end. @param file an absolute path
 * @throws INVALID_ARGUMENT for a relative path, FAILED_PRECONDITION for a file that cannot be read, is too long or
 * begins with an empty line
 */
export async function readPassphrase(file: string): Promise<string> {
  if (!isAbsolute(file)) throw new AppError('INVALID_ARGUMENT', `the passphrase file '${file}' is not an absolute path`)
  const bytes = await readFile(file).catch((error: Error) => {
    throw unfit(file, `cannot be read: ${error.message}`)
  })
  if (bytes.length > mostBytes) throw unfit(file, 'is longer than 64 KiB; is it the right one?')
  const [line = ''] = bytes.toString().split(/\r?\n/, 1)
  if (line === '') throw unfit(file, 'begins with an empty line; write the passphrase there')
  return line
}

function unfit(file: string, fact: string): AppError {
  return new AppError('FAILED_PRECONDITION', `the passphrase file ${file} ${fact}`)
}
