/** Reads a JSON array while the daemon is still making it: it sends an item on each line (server/json-stream.ts). */

import { AppError } from '../errors.ts'
import { type Client, refusal } from './client.ts'

/**
 * Posts a request and gives the items in the groups in which they come.
 * @throws what the daemon answers, also in the middle; UNAVAILABLE when the list breaks off
 */
export async function* arrayItems<T extends object>(client: Client, path: string, body: object): AsyncGenerator<T[]> {
  let whole = false
  for await (const lines of client.lines('POST', path, { body })) {
    const items: T[] = []
    for (const line of lines) {
      whole ||= line === ']' || line === '[]'
      const item = parseItem<T>(line)
      if (item && 'error' in item) {
        yield items
        throw refusal(item, 500)
      }
      if (item) items.push(item)
    }
    yield items
  }
  if (!whole)
    throw new AppError('UNAVAILABLE', 'the daemon ended in the middle of the list; see its log, and try again')
}

/** @returns undefined for a line of brackets */
function parseItem<T>(line: string): T | undefined {
  return line.startsWith('{') ? (JSON.parse(line.endsWith(',') ? line.slice(0, -1) : line) as T) : undefined
}
