/**
 * S3 keys from files, as secret stores put them on a node. They are read again when they change, so that keys can be
 * changed while the daemon runs. Keys that are given in no file are looked for by the SDK's own chain (environment,
 * profile, role), not here.
 */

import { readFile, stat } from 'node:fs/promises'
import { AppError } from '../errors.ts'

/** Absolute paths; each file holds one value, with or without a newline behind. */
export interface S3KeyFiles {
  readonly accessKeyFile: string
  readonly secretKeyFile: string
  readonly sessionTokenFile?: string | undefined
}

export interface S3Keys {
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly sessionToken?: string
  readonly expiration: Date
}

/**
 * A provider for the SDK. @throws FAILED_PRECONDITION for a file that cannot be read or is empty; its content is never
 * shown
 */
export function keysFromFiles(files: S3KeyFiles): () => Promise<S3Keys> {
  const paths = [files.accessKeyFile, files.secretKeyFile, ...(files.sessionTokenFile ? [files.sessionTokenFile] : [])]
  let known = { stamp: '', values: [] as readonly string[] }
  return async () => {
    const stamp = (await Promise.all(paths.map(stampOf))).join(' ')
    if (stamp !== known.stamp) known = { stamp, values: await Promise.all(paths.map(readKey)) }
    const [accessKeyId = '', secretAccessKey = '', sessionToken] = known.values
    // An identity that has expired makes the SDK ask again before each request; nothing else looks at it.
    return { accessKeyId, secretAccessKey, ...(sessionToken && { sessionToken }), expiration: new Date(0) }
  }
}

/** Changes when the file does, also when a symlink is turned to another file, as Kubernetes does. */
async function stampOf(path: string): Promise<string> {
  try {
    const found = await stat(path, { bigint: true })
    return `${found.dev}:${found.ino}:${found.size}:${found.mtimeNs}`
  } catch (error) {
    throw unreadable(path, error)
  }
}

async function readKey(path: string): Promise<string> {
  const text = await readFile(path, 'utf8').catch((error: unknown) => Promise.reject(unreadable(path, error)))
  const key = text.trim()
  if (/^[\x21-\x7e]+$/.test(key)) return key
  throw new AppError('FAILED_PRECONDITION', `the key file ${path} must hold one key and nothing else`)
}

function unreadable(path: string, error: unknown): AppError {
  return new AppError('FAILED_PRECONDITION', `the key file ${path} cannot be read: ${(error as Error).message}`)
}
