/** What a worker makes for its first task and keeps for all further ones. */

import type { TaskContext } from './tasks.ts'

/** @returns a function that calls `make` once in each worker, and from then gives what it made, whatever the other arguments are */
export function perWorker<A extends unknown[], T>(
  make: (context: TaskContext, ...args: A) => T,
): (context: TaskContext, ...args: A) => T {
  const made = new WeakMap<TaskContext, { readonly value: T }>()
  return (context, ...args) => {
    const known = made.get(context) ?? { value: make(context, ...args) }
    made.set(context, known)
    return known.value
  }
}
