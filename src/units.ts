/** Parsing and printing at the border: sizes, durations, names. Inside, sizes are bytes and durations milliseconds. */

import type levenshtein from 'fastest-levenshtein'
import type ms from 'ms'
import { AppError } from './errors.ts'
import type { Bytes } from './model.ts'

/** For packages that take longer to load than most commands of the CLI take to run, and are seldom needed. */
function load(name: string): unknown {
  return process.getBuiltinModule('node:module').createRequire(import.meta.url)(name)
}

const unitFactors: Readonly<Record<string, number>> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 }

/**
 * Parses `10G`, `512MiB`, `1.5T` or plain bytes; K, M, G, T are 1024-based.
 * @throws INVALID_ARGUMENT for anything else, for 0 and for more than 2^53 - 1 bytes
 */
export function parseSize(text: string): Bytes {
  const match = /^(\d+(?:\.\d+)?)\s*([KMGT]?)(?:iB|B)?$/i.exec(text.trim())
  const bytes = match ? Math.round(Number(match[1]) * (unitFactors[(match[2] ?? '').toUpperCase()] ?? 1)) : Number.NaN
  if (!Number.isSafeInteger(bytes) || bytes <= 0) {
    throw new AppError(
      'INVALID_ARGUMENT',
      `'${text}' is not a size; give bytes or a number with K, M, G or T, such as 10G`,
    )
  }
  return bytes
}

/** Prints bytes for people: `1.5G`, `512M`, `0`. */
export function formatSize(bytes: Bytes): string {
  const units = ['', 'K', 'M', 'G', 'T']
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024
    unit++
  }
  return `${Number(value.toFixed(value < 10 ? 1 : 0))}${units[unit]}`
}

/** Parses `24h`, `90s`, `7d`, or `0`: nothing else goes without its unit. @returns ms @throws INVALID_ARGUMENT */
export function parseDuration(text: string): number {
  const parse = load('ms') as typeof ms
  const trimmed = text.trim()
  if (/^[\d.]+$/.test(trimmed) && Number(trimmed) > 0) {
    throw new AppError(
      'INVALID_ARGUMENT',
      `'${text}' has no unit; give a number with s, m, h or d, such as ${trimmed}m`,
    )
  }
  const value = /^.{1,100}$/.test(trimmed) ? parse(trimmed as ms.StringValue) : undefined // It throws for other lengths.
  if (value === undefined || !Number.isFinite(value) || value < 0) {
    throw new AppError('INVALID_ARGUMENT', `'${text}' is not a duration; give a number with s, m, h or d, such as 24h`)
  }
  return value
}

const durationUnits = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1_000],
] as const

/** Prints a duration as it could have been typed, exactly: `2s`, `90s`, `1d`, `1500ms`. @param ms a whole number */
export function formatDuration(ms: number): string {
  if (ms === 0) return '0s'
  const [unit, size] = durationUnits.find(([, factor]) => ms >= factor && ms % factor === 0) ?? ['ms', 1]
  return `${ms / size}${unit}`
}

const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,126}$/

function parseName(what: string, name: unknown): string {
  if (typeof name === 'string' && namePattern.test(name)) return name
  const shown = typeof name === 'string' ? JSON.stringify(name.slice(0, 140)) : 'nothing'
  throw new AppError(
    'INVALID_ARGUMENT',
    `${shown} is not a ${what} name: use 1 to 127 letters, digits, '_', '.' and '-', beginning with a letter or digit`,
  )
}

/** @returns the name, which is safe as one path component @throws INVALID_ARGUMENT */
export function parseVolumeName(name: unknown): string {
  return parseName('volume', name)
}

/** @returns the name, which is safe as one path component @throws INVALID_ARGUMENT */
export function parseSnapshotName(name: unknown): string {
  return parseName('snapshot', name)
}

/** @returns the name, which can be told from a URL and from a backup @throws INVALID_ARGUMENT */
export function parseTargetName(name: unknown): string {
  return parseName('target', name)
}

/** Splits `VOLUME@SNAPSHOT`. @throws INVALID_ARGUMENT */
export function parseSnapshotRef(ref: string): { volume: string; snapshot: string } {
  const at = ref.indexOf('@')
  if (at < 0) throw new AppError('INVALID_ARGUMENT', `'${ref}' is not a snapshot; name it as VOLUME@SNAPSHOT`)
  return { volume: parseVolumeName(ref.slice(0, at)), snapshot: parseSnapshotName(ref.slice(at + 1)) }
}

/** `, did you mean 'size'?` when one of `known` is near `key`, else the list of them all. */
export function suggestion(key: string, known: readonly string[]): string {
  if (known.length === 0) return ''
  const { closest, distance } = load('fastest-levenshtein') as typeof levenshtein
  const nearest = closest(key, known)
  if (distance(key, nearest) <= Math.max(2, key.length / 3)) return `; did you mean '${nearest}'?`
  return `; known are ${known.join(', ')}`
}
