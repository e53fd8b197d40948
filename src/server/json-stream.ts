/**
 * A JSON array that is sent while it is being made, for lists too long to be kept: an item on each line, so that a client can
 * read it line by line. What fails in the middle ends the text with the error's body in the bracket's place: it is no JSON then,
 * and nobody takes a part for the whole.
 */

import { once } from 'node:events'
import { PassThrough, type Readable } from 'node:stream'
import { toAppError } from '../errors.ts'

/** Makes the items, page by page. @param take resolves when there is room for more @param signal the reader has left */
export type Produce<T> = (take: (items: readonly T[]) => Promise<void>, signal: AbortSignal) => Promise<void>

/** @returns the text, once the first items are there @throws what fails before them */
export function jsonArrayStream<T>(produce: Produce<T>): Promise<Readable> {
  const stream = new PassThrough()
  const left = new AbortController()
  stream.once('close', () => left.abort())
  const begun = Promise.withResolvers<Readable>()
  let lead = '[\n'
  const take = async (items: readonly T[]): Promise<void> => {
    if (items.length === 0) return
    left.signal.throwIfAborted()
    const full = !stream.write(lead + items.map((item) => JSON.stringify(item)).join(',\n'))
    lead = ',\n'
    begun.resolve(stream)
    if (full) await once(stream, 'drain', { signal: left.signal })
  }
  const finish = (): void => {
    stream.end(lead === '[\n' ? '[]\n' : '\n]\n')
    begun.resolve(stream)
  }
  const fail = (error: unknown): void => {
    begun.reject(error)
    const { code, message, details } = toAppError(error)
    stream.end(`\n${JSON.stringify({ error: { code, message, details } })}\n`)
  }
  produce(take, left.signal).then(finish, fail)
  return begun.promise
}
