/**
 * Where a sparse file has data. Node has no SEEK_HOLE: `filefrag` of e2fsprogs asks the kernel (FIEMAP) for files that are worth a
 * process; otherwise, or where the file system cannot tell, blocks of zeros count as holes. Runs in workers.
 */

import { readSync } from 'node:fs'
import { isAppError } from '../errors.ts'
import type { Bytes } from '../model.ts'
import type { Bridge } from './bridge.ts'

/** Half-open. */
export interface Extent {
  readonly start: Bytes
  readonly end: Bytes
}

const worthAProcess = 2 ** 20
const blockLength = 4096
const zeros = Buffer.alloc(blockLength)

/** The extents with data between `start` and `end`, in order. */
export function dataExtents(bridge: Bridge, fd: number, start: Bytes, end: Bytes): Extent[] {
  const mapped = end - start >= worthAProcess ? mappedExtents(bridge, fd) : undefined
  return clipExtents(mapped ?? [...nonZero(fd, start, end)], start, end)
}

/** What of `extents` lies between `start` and `end`. */
export function clipExtents(extents: readonly Extent[], start: Bytes, end: Bytes): Extent[] {
  return extents
    .map((e) => ({ start: Math.max(e.start, start), end: Math.min(e.end, end) }))
    .filter((e) => e.start < e.end)
}

/** All extents with data as the file system knows them; undefined when it cannot tell. */
export function mappedExtents(bridge: Bridge, fd: number): Extent[] | undefined {
  const path = `/proc/${process.pid}/fd/${fd}`
  try {
    // -s: data not yet written out has no extent.
    return parseFilefrag(
      bridge.call('exec', { program: 'filefrag', args: ['-s', '-v', '-b1', path], timeoutMs: 600_000 }),
    )
  } catch (error) {
    if (isAppError(error, 'INTERNAL', 'FAILED_PRECONDITION', 'PERMISSION_DENIED')) return undefined
    throw error
  }
}

/** Reads what `filefrag -v -b1` prints, joining neighbours; undefined when it is not that. */
export function parseFilefrag(text: string): Extent[] | undefined {
  if (!/^ ext: +logical_offset/m.test(text)) return undefined
  const extents: { start: Bytes; end: Bytes }[] = []
  for (const [, first, last, rest] of text.matchAll(/^ *\d+: +(\d+)\.\. *(\d+): .*?: +\d+:(.*)$/gm)) {
    if (rest?.includes('unwritten')) continue
    const extent = { start: Number(first), end: Number(last) + 1 }
    const previous = extents.at(-1)
    if (previous && previous.end >= extent.start) previous.end = extent.end
    else extents.push(extent)
  }
  return extents
}

function* nonZero(fd: number, start: Bytes, end: Bytes): Generator<Extent> {
  const buffer = Buffer.alloc(2 ** 20)
  let open: Bytes | undefined
  let position = start
  while (position < end) {
    const count = readSync(fd, buffer, 0, Math.min(buffer.length, end - position), position)
    if (count === 0) break
    for (let at = 0; at < count; at += blockLength) {
      const length = Math.min(blockLength, count - at)
      const isZero = buffer.compare(zeros, 0, length, at, at + length) === 0
      if (!isZero) open ??= position + at
      else if (open !== undefined) {
        yield { start: open, end: position + at }
        open = undefined
      }
    }
    position += count
  }
  if (open !== undefined) yield { start: open, end: position }
}
