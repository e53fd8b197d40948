/** Commands on several names: what fails does not keep the others from being done; the exit code is that of the first failure. */

import { AppError, errorTable, isAppError, toAppError } from '../errors.ts'
import type { Output } from './output.ts'

interface Failure {
  readonly name: string
  readonly error: AppError
}

async function attempt<T>(
  names: readonly string[],
  act: (name: string) => Promise<T>,
  failed: (failure: Failure) => void,
): Promise<T[]> {
  const done: T[] = []
  for (const name of names) {
    try {
      done.push(await act(name))
    } catch (caught) {
      const error = toAppError(caught)
      if (isAppError(error, 'CANCELLED')) throw error
      failed({ name, error })
    }
  }
  return done
}

/** Shows what is found of all that is asked for. @returns the exit code */
export async function showEach<T>(
  names: readonly string[],
  output: Output,
  find: (name: string) => Promise<T>,
  text: (found: T) => string,
): Promise<number> {
  const failures: Failure[] = []
  const found = await attempt(names, find, (failure) => failures.push(failure))
  if (found.length > 0) output.result(found, () => found.map(text).join('\n\n'))
  for (const { error } of failures) output.error(error)
  return exitCode(failures)
}

/**
 * Removes one after the other and prints each name that is gone; with `--json` one document at the end.
 * @param remove returns the names that are gone
 * @returns the exit code @throws the first failure, with what was removed in its details, for `--json`
 */
export async function removeEach(
  names: readonly string[],
  output: Output,
  remove: (name: string) => Promise<readonly string[]>,
): Promise<number> {
  const failures: Failure[] = []
  const print = (gone: readonly string[]): readonly string[] => {
    if (!output.json) output.raw(gone.map((name) => `${name}\n`).join(''))
    return gone
  }
  const removed = await attempt(
    names,
    async (name) => print(await remove(name)),
    (failure) => {
      failures.push(failure)
      if (!output.json) output.error(failure.error)
    },
  )
  if (output.json && failures.length > 0) throw summary(failures, removed.flat())
  if (output.json) output.result({ removed: removed.flat() }, () => '')
  return exitCode(failures)
}

function summary(failures: readonly Failure[], removed: readonly string[]): AppError {
  const failed = failures.map(({ name, error: { code, message } }) => ({ name, code, message }))
  const { code, details } = (failures[0] as Failure).error
  const message = failed.map((failure) => failure.message).join('; ')
  return new AppError(code, message, { details: { ...details, removed, failed } })
}

function exitCode([first]: readonly Failure[]): number {
  return first ? errorTable[first.error.code].exit : 0
}
