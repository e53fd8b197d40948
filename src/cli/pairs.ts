/** `KEY=VALUE` as it is typed after an option. */

import { AppError } from '../errors.ts'

/** @throws INVALID_ARGUMENT when there is no key or no `=` */
export function parsePair(option: string, text: string): [key: string, value: string] {
  const at = text.indexOf('=')
  if (at > 0) return [text.slice(0, at), text.slice(at + 1)]
  throw new AppError('INVALID_ARGUMENT', `'${text}' after ${option} is not KEY=VALUE`)
}

/** Labels, for which `KEY` alone is `KEY=`. @throws INVALID_ARGUMENT for no key, or one given twice with other values */
export function parseLabels(texts: readonly string[] = []): Record<string, string> {
  const labels = new Map<string, string>()
  for (const text of texts) {
    const [key, value] = parsePair('--label', text.includes('=') ? text : `${text}=`)
    const before = labels.get(key)
    if (before !== undefined && before !== value) {
      throw new AppError(
        'INVALID_ARGUMENT',
        `label '${key}' is given twice, as '${before}' and as '${value}'; give it once`,
      )
    }
    labels.set(key, value)
  }
  return Object.fromEntries(labels)
}
