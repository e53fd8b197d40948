/** Small JSON files on the share: written whole or not at all, read without trust in who wrote them. */

import { randomUUID } from 'node:crypto'
import { constants } from 'node:fs'
import { open, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { ignoring, syncPath } from '../../src/system/files.ts'

/** More than any file of ours has. */
const largest = 4 * 2 ** 20

/** Writes a file that must not be there; durable when this resolves, but for its name. */
export async function writeNew(path: string, content: unknown): Promise<void> {
  const file = await open(path, 'wx', 0o600)
  try {
    await file.writeFile(JSON.stringify(content))
    await file.sync()
  } finally {
    await file.close()
  }
}

/** Replaces a file, or makes it; a crash leaves the old one or the new one. Durable when this resolves. */
export async function writeJson(path: string, content: unknown): Promise<void> {
  const draft = `${dirname(path)}/.${randomUUID()}.new`
  try {
    await writeNew(draft, content)
    await rename(draft, path)
  } catch (error) {
    await rm(draft, { force: true }).catch(() => undefined)
    throw error
  }
  await syncPath(dirname(path))
}

/** What a file says; undefined when it is gone, null when it is no JSON, too large, or no plain file. */
export async function readJson(path: string): Promise<unknown> {
  const opening = open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  const file = await ignoring(opening, 'ENOENT', 'ENOTDIR').catch(notReadable)
  if (file === undefined || file === null) return file
  try {
    const stats = await file.stat()
    if (!stats.isFile() || stats.size > largest) return null
    return parse(await file.readFile('utf8'))
  } catch (error) {
    if (isStale(error)) return undefined // Replaced while it was read.
    throw error
  } finally {
    await file.close()
  }
}

/** A symlink or a socket that somebody has put there; or a file that was just replaced. */
function notReadable(error: NodeJS.ErrnoException): null | undefined {
  if (error.code === 'ELOOP' || error.code === 'ENXIO') return null
  if (isStale(error)) return undefined
  throw error
}

/** ESTALE: the server does not have what a name or an open file stood for. Node knows the number only. */
export function isStale(error: unknown): boolean {
  return (error as NodeJS.ErrnoException | undefined)?.errno === -116
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}

/** The text at a key of what was read; undefined when there is none, or it is longer than any of ours. */
export function field(content: unknown, key: string): string | undefined {
  const value = isObject(content) ? content[key] : undefined
  return typeof value === 'string' && value.length <= 1024 ? value : undefined
}

export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
