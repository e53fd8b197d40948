/**
 * Which parts of a thin device the pool holds, and which differ from another one's: read from a snapshot of the pool's metadata,
 * of which a pool has one at a time.
 * Facts: thin_delta(8), thin_dump(8); their XML.
 */

import type { DriverContext, Extent } from '../../src/driver.ts'
import { AppError, isAppError } from '../../src/errors.ts'
import type { Bytes } from '../../src/model.ts'
import { exec } from '../../src/system/exec.ts'
import { KeyedTurns } from '../../src/system/turns.ts'
import { ignoringGone, message } from './dmsetup.ts'
import type { SnapshotState } from './options.ts'
import type { Pool } from './pool.ts'

/** Null where it is not known. */
export interface Changes {
  readonly allocated: readonly Extent[] | null
  readonly changed: readonly Extent[] | null
}

const turns = new KeyedTurns()

/** Calls `use` while the metadata's snapshot is there. @throws IN_USE when another program has one */
async function withMetadata<T>(pool: Pool, signal: AbortSignal, use: () => Promise<T>): Promise<T> {
  return turns.with(pool.name, signal, async () => {
    await message(pool.name, 'reserve_metadata_snap')
    try {
      return await use()
    } finally {
      await ignoringGone(message(pool.name, 'release_metadata_snap'))
    }
  })
}

/**
 * What of a snapshot there is, and what may differ from `base`; not known is no failure.
 * @param base null: nothing to compare with
 */
export async function changesOf(
  pool: Pool,
  snapshot: SnapshotState,
  base: SnapshotState | null,
  ctx: DriverContext,
): Promise<Changes> {
  try {
    return await withMetadata(pool, ctx.signal, () => readChanges(pool, snapshot, base, ctx))
  } catch (error) {
    ctx.signal.throwIfAborted()
    if (!isAppError(error)) throw error
    ctx.log.warn({ pool: pool.name, error: error.message }, 'cannot tell which blocks have changed: all are read')
    return { allocated: null, changed: null }
  }
}

async function readChanges(pool: Pool, { thin, size }: SnapshotState, base: SnapshotState | null, ctx: DriverContext) {
  const read = (program: string, args: readonly string[], wanted: readonly (readonly string[])[]) =>
    readRanges(program, ['-m', ...args, pool.metadata], wanted, { blockSize: pool.blockSize, size }, ctx.signal)
  if (base) {
    const kinds = [
      ['same', 'different', 'right_only'],
      ['different', 'left_only', 'right_only'],
    ]
    // The base may have been removed behind our back: then everything is read.
    const delta = await read('thin_delta', ['--snap1', String(base.thin), '--snap2', String(thin)], kinds).catch(
      (error: Error) => {
        ctx.signal.throwIfAborted()
        ctx.log.debug({ error: error.message }, 'there is nothing to compare with')
        return null
      },
    )
    if (delta) return { allocated: delta[0] as Extent[], changed: delta[1] as Extent[] }
  }
  const [allocated] = await read('thin_dump', ['--dev-id', String(thin)], [['range_mapping', 'single_mapping']])
  return { allocated: allocated as Extent[], changed: null }
}

/**
 * Runs a tool whose XML, of any length, is read as it comes.
 * @param wanted names of elements, for each list that is returned @throws INTERNAL
 */
async function readRanges(
  program: string,
  args: readonly string[],
  wanted: readonly (readonly string[])[],
  { blockSize, size }: { readonly blockSize: Bytes; readonly size: Bytes },
  signal: AbortSignal,
): Promise<Extent[][]> {
  const lists = wanted.map((): Range[] => [])
  let rest = ''
  const onStdout = (chunk: string): void => {
    const text = rest + chunk
    const end = text.lastIndexOf('>') + 1
    rest = text.slice(end)
    wanted.forEach((tags, i) => {
      for (const range of parseRanges(text.slice(0, end), tags, blockSize, size)) append(lists[i] as Range[], range)
    })
  }
  await exec(program, args, { signal, timeoutMs: 0, onStdout })
  if (lists.every((list) => list.every(({ start, end }) => start < end))) return lists
  throw new AppError('INTERNAL', `${program} says something that is not understood; is it of another version?`)
}

interface Range {
  start: Bytes
  end: Bytes
}

function append(ranges: Range[], { start, end }: Extent): void {
  const last = ranges.at(-1)
  if (last?.end === start) last.end = end
  else ranges.push({ start, end })
}

/** The ranges that elements of these names tell of, ascending and joined, cut at `size`: behind it is the label. Pure. */
export function parseRanges(text: string, tags: readonly string[], blockSize: Bytes, size: Bytes): Extent[] {
  const extents: Range[] = []
  for (const [, tag, attributes] of text.matchAll(/<(\w+) ([^>]*)\/>/g)) {
    if (!tags.includes(tag as string)) continue
    const begin = Number(/\b(?:begin|origin_begin|origin_block)="(\d+)"/.exec(attributes as string)?.[1])
    const length = Number(/\blength="(\d+)"/.exec(attributes as string)?.[1] ?? 1)
    const start = begin * blockSize
    if (!(start >= size)) append(extents, { start, end: Math.min((begin + length) * blockSize, size) })
  }
  return extents
}

/** Numbers of all thin devices of the pool. */
export async function listThins(pool: Pool, signal: AbortSignal): Promise<number[]> {
  return withMetadata(pool, signal, async () => {
    const list = await exec('thin_ls', ['-m', '--no-headers', '--format', 'DEV', pool.metadata], {
      signal,
      timeoutMs: 0,
    })
    return list.split('\n').flatMap((line) => (/^\s*\d+\s*$/.test(line) ? Number(line) : []))
  })
}
