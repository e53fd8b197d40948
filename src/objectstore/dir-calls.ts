/**
 * File-system calls for a store in a directory that may be on a disk that is pulled out or a server that stops
 * answering.
 *
 * A call into such a file system may never return, and holds one of the few threads that Node has for all files while
 * it hangs. So only a few calls are made at a time: when they all hang, later ones fail at once with UNAVAILABLE, and
 * the rest of the daemon still has threads. Nothing here knows about objects.
 */

import { AppError, errno, fromErrno } from '../errors.ts'
import { bounded, createGate, type Gate, type WaitLimit } from './waiting.ts'

/** Of the 4 threads that Node has by default. */
const callsAtOnce = 2

export interface DirCalls {
  /**
   * Makes one file-system call. A call that is late or aborted goes on by itself.
   * @throws the signal's reason, or an AppError for whatever the call failed with
   */
  call<T>(doing: string, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T>
}

/** Calls below the directory `path`, each with a time limit. */
export function createDirCalls(path: string, timeoutMs: number): DirCalls {
  const gate = createGate(callsAtOnce)
  return {
    async call(doing, signal, work) {
      const limit = { ms: timeoutMs, signal, late: () => silent(path, doing, timeoutMs) }
      const leave = await enterWithin(gate, limit)
      try {
        // The place is given back when the call has ended, not when its caller has given up waiting.
        return await bounded(limit, () => work().finally(leave))
      } catch (error) {
        throw signal?.aborted ? error : dirError(path, doing, error)
      }
    },
  }
}

async function enterWithin(gate: Gate, limit: WaitLimit): Promise<() => void> {
  let entering: Promise<() => void> | undefined
  try {
    const leave = await bounded(limit, (signal) => {
      entering = gate.enter(signal)
      return entering
    })
    if (!limit.signal?.aborted) return leave
    throw limit.signal.reason
  } catch (error) {
    // It may have been let in at the very moment in which it gave up.
    entering?.then((leave) => leave()).catch(() => undefined)
    throw error
  }
}

function silent(path: string, doing: string, timeoutMs: number): AppError {
  const message = `${path} does not answer (${doing}, ${timeoutMs} ms); see whether its disk or server is there`
  return new AppError('TIMEOUT', message)
}

/** What is wrong with the storage below, as Linux says it; trying again may help. */
const passing = [
  'EIO',
  'ESTALE',
  'ENOTCONN',
  'ENODEV',
  'ENXIO',
  'EHOSTDOWN',
  'EHOSTUNREACH',
  'EAGAIN',
  'EINTR',
  'EMFILE',
  'ENFILE',
]

function dirError(path: string, doing: string, error: unknown): AppError {
  const code = errno(error) ?? ''
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    const what = code === 'EDQUOT' ? 'its quota is used up' : 'it is full'
    return new AppError('NO_SPACE', `${path}: ${doing}: ${what}; free space or enlarge it`, { cause: error })
  }
  if (code === 'EROFS') {
    return new AppError('FAILED_PRECONDITION', `${path} is read-only; mount it writable`, { cause: error })
  }
  if (code === 'ELOOP') {
    return new AppError('FAILED_PRECONDITION', `${path}: ${doing}: it is a symlink, which is not followed`, {
      cause: error,
    })
  }
  if (passing.includes(code)) {
    return new AppError('UNAVAILABLE', `${path}: ${doing}: ${(error as Error).message}`, { cause: error })
  }
  return fromErrno(error, `${path}: ${doing}`)
}
