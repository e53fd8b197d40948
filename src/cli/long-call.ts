/**
 * Calls that may take long. Each gives its operation an id of its own, by which it shows the progress while it waits; Ctrl-C asks
 * the daemon to cancel it and goes on waiting for the answer, a second one leaves at once.
 */

import { AppError, errno, isAppError } from '../errors.ts'
import type { OperationView } from '../server/schemas.ts'
import { api, type Client, type Method } from './client.ts'
import type { Door } from './command.ts'
import type { Output } from './output.ts'

/** What is answered within this time has no progress. */
const patienceMs = 300
const pollMs = 250

/** @returns the answer @throws what the daemon answers; CANCELLED after a Ctrl-C */
export async function longCall<T>(
  { client, output }: Pick<Door, 'client' | 'output'>,
  method: Method,
  path: string,
  body?: object,
): Promise<T> {
  const operationId = crypto.randomUUID()
  const [leave, answered] = [new AbortController(), new AbortController()]
  const stopListening = onInterrupt(() => void cancel(client, output, operationId, leave))
  const answer = client.request<T>(method, path, { body, operationId, signal: leave.signal })
  const watched = watch(client, output, operationId, answered.signal)
  try {
    return await answer
  } catch (error) {
    if (!leave.signal.aborted) throw isCut(error) ? goingOn(error, operationId) : error
    throw new AppError('CANCELLED', 'left without an answer; the daemon may still finish it', { cause: error })
  } finally {
    answered.abort()
    stopListening()
    await watched
  }
}

/** The daemon has ended before it answered. */
function isCut(error: unknown): error is AppError {
  return isAppError(error, 'UNAVAILABLE') && ['ECONNRESET', 'EPIPE'].includes(errno(error.cause) ?? '')
}

function goingOn({ code, message, cause }: AppError, id: string): AppError {
  const remedy = `what it had begun may go on when it is back: holdfast operation watch ${id}`
  return new AppError(code, `${message}; ${remedy}`, { details: { operation: id }, cause })
}

/** @returns what takes the listener away again */
function onInterrupt(first: () => void): () => void {
  let times = 0
  const listener = (): void => {
    if (++times > 1) process.exit(130)
    first()
  }
  process.on('SIGINT', listener)
  return () => process.removeListener('SIGINT', listener)
}

async function cancel(client: Client, output: Output, id: string, leave: AbortController): Promise<void> {
  output.note(`${output.terminal ? '\n' : ''}holdfast: cancelling; Ctrl-C again leaves at once\n`)
  try {
    await client.request('POST', api`/v1/operations/${id}/cancel`)
  } catch (error) {
    // It has ended, and its answer is on the way; or it never was an operation, and nobody can stop it.
    if (!isAppError(error, 'FAILED_PRECONDITION')) leave.abort()
  }
}

async function watch(client: Client, output: Output, id: string, answered: AbortSignal): Promise<void> {
  await pause(patienceMs, answered)
  if (answered.aborted || output.quiet) return
  const { ProgressLine } = await import('./progress.ts')
  const line = new ProgressLine(output)
  while (!answered.aborted) {
    try {
      const operation = await client.request<OperationView>('GET', api`/v1/operations/${id}`, { signal: answered })
      line.show(operation)
    } catch {
      // It may not have begun yet; whatever else is wrong, the call itself will say.
    }
    await pause(pollMs, answered)
  }
  line.end()
}

/** Resolves after the time, or at once when the signal comes. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve()
    const timer = setTimeout(resolve, ms)
    signal?.addEventListener(
      'abort',
      () => {
        clearTimeout(timer)
        resolve()
      },
      { once: true },
    )
  })
}
