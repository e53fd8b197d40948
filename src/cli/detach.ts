/** Long work that may be left to itself with `--detach`. */

import type { OperationView } from '../server/schemas.ts'
import type { Door, OptionSpecs } from './command.ts'

/** The option. */
export const detachOption = {
  detach: { type: 'boolean', help: "print the operation's id and return; holdfast operation watch ID follows it" },
} as const satisfies OptionSpecs

/**
 * Posts the work and shows its result, or with `detach` prints the operation that goes on.
 * @returns the exit code
 */
export async function workOrDetach<T extends object>(
  { client, output, work }: Door,
  path: string,
  body: object,
  detach: boolean | undefined,
  show: (result: T) => number,
): Promise<number> {
  if (!detach) return show(await work<T>('POST', path, body))
  const begun = await client.request<T | OperationView>('POST', path, { body: { ...body, detach } })
  // Work that needs no operation has ended already.
  if (!isOperation(begun)) return show(begun)
  output.result(begun, () => begun.id)
  return 0
}

function isOperation(answer: object): answer is OperationView {
  return 'subject' in answer && 'finishedAt' in answer
}
