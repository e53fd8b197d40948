/** Owner and permissions of a volume's root directory: the options that ask for them, and setting them. */

import { chmod, chown } from 'node:fs/promises'
import { AppError } from '../errors.ts'

/** The keys of `-o`. */
export const attributeOptions = {
  uid: { description: "owner of the volume's root directory", example: '999' },
  gid: { description: "group of the volume's root directory", example: '999' },
  mode: { description: "permissions of the volume's root directory, octal", example: '0750' },
} as const

/** What a user asked of the root directory; null leaves it as it is. */
export interface Attributes {
  readonly uid: number | null
  readonly gid: number | null
  readonly mode: number | null
}

/** @throws INVALID_ARGUMENT */
export function parseAttributes(options: Readonly<Record<string, string>>): Attributes {
  const { uid, gid, mode } = options
  return {
    uid: parseNumber('uid', uid, /^\d{1,10}$/, 10, 2 ** 32 - 2),
    gid: parseNumber('gid', gid, /^\d{1,10}$/, 10, 2 ** 32 - 2),
    mode: parseNumber('mode', mode, /^[0-7]{1,5}$/, 8, 0o7777),
  }
}

function parseNumber(
  key: string,
  text: string | undefined,
  pattern: RegExp,
  radix: number,
  max: number,
): number | null {
  if (text === undefined) return null
  const value = pattern.test(text) ? Number.parseInt(text, radix) : Number.NaN
  if (value <= max) return value
  const form = radix === 8 ? 'an octal number from 0 to 7777, such as 0750' : 'a number from 0 to 4294967294'
  throw new AppError('INVALID_ARGUMENT', `'${text}' is no value for ${key}; give ${form}`)
}

/** True when any of them is given. */
export function hasAttributes({ uid, gid, mode }: Attributes): boolean {
  return uid !== null || gid !== null || mode !== null
}

/** Sets owner and permissions of a volume's root directory, as far as they are given. */
export async function applyAttributes(root: string, { uid, gid, mode }: Attributes): Promise<void> {
  // -1 leaves one as it is; chown clears the set-id bits, so it comes first.
  if (uid !== null || gid !== null) await chown(root, uid ?? -1, gid ?? -1)
  if (mode !== null) await chmod(root, mode)
}
