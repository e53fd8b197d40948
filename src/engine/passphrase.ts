/** Passphrases from files. Runs in the process of a job: the daemon never reads one. */

import { constants, open } from 'node:fs/promises'
import { isAbsolute } from 'node:path'
import { AppError } from '../errors.ts'

const mostBytes = 65_536

/**
 * The first line of a file, without its end. @param file an absolute path
 * @throws INVALID_ARGUMENT for a relative path, FAILED_PRECONDITION for what cannot be read or is no file, is too long or begins with an
 * empty line
 */
export async function readPassphrase(file: string): Promise<string> {
  if (!isAbsolute(file)) throw new AppError('INVALID_ARGUMENT', `the passphrase file '${file}' is not an absolute path`)
  const text = await readStart(file).catch((error: Error) => {
    throw unfit(file, `cannot be read: ${error.message}`)
  })
  if (text === null) throw unfit(file, 'is no regular file; name one that holds the passphrase in its first line')
  if (text.length > mostBytes) throw unfit(file, 'is longer than 64 KiB; is it the right one?')
  const [line = ''] = text.toString().split(/\r?\n/, 1)
  if (line === '') throw unfit(file, 'begins with an empty line; write the passphrase there')
  return line
}

/** Null for what is no regular file: a device may have no end, and a FIFO nobody who writes. */
async function readStart(file: string): Promise<Buffer | null> {
  await using handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK)
  if (!(await handle.stat()).isFile()) return null
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(mostBytes + 1), 0, mostBytes + 1, 0)
  return buffer.subarray(0, bytesRead)
}

function unfit(file: string, fact: string): AppError {
  return new AppError('FAILED_PRECONDITION', `the passphrase file ${file} ${fact}`)
}
