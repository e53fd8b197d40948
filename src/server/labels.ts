/** Labels as users may give them: those of Holdfast itself tell it what it may remove. */

import { AppError } from '../errors.ts'

const reserved = 'holdfast.'

/** @returns the labels @throws INVALID_ARGUMENT for one that begins as Holdfast's own do */
export function userLabels<T extends Readonly<Record<string, string>> | undefined>(labels: T): T {
  const own = Object.keys(labels ?? {}).find((key) => key.startsWith(reserved))
  if (own === undefined) return labels
  throw new AppError(
    'INVALID_ARGUMENT',
    `label '${own}' begins with '${reserved}', as Holdfast's own do; choose another`,
  )
}
