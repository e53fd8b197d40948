/** The filters of `holdfast volume ls`. */

import { AppError } from '../errors.ts'
import { suggestion } from '../units.ts'
import { parsePair } from './pairs.ts'

/** In the admin API's words. */
export const filterKeys = ['driver', 'label', 'name', 'dangling']

/** @returns the query, with its question mark @throws INVALID_ARGUMENT for an unknown filter */
export function filterQuery(filters: readonly string[]): string {
  const query = new URLSearchParams()
  for (const filter of filters) {
    const [key, value] = parsePair('--filter', filter)
    if (!filterKeys.includes(key)) {
      throw new AppError('INVALID_ARGUMENT', `unknown filter '${key}'${suggestion(key, filterKeys)}`)
    }
    if (key !== 'label' && query.has(key))
      throw new AppError('INVALID_ARGUMENT', `filter '${key}' is given twice; give it once`)
    query.append(key, value)
  }
  return query.size > 0 ? `?${query}` : ''
}
