/**
 * An object store that tries again when that may help: UNAVAILABLE, TIMEOUT and ABORTED, with waits that double, each
 * of a random length up to that ("full jitter": writers that failed together do not come back together). What only a
 * user can mend fails at once. A server that has never answered is given up after some seconds: most likely there is none.
 */

import { randomInt } from 'node:crypto'
import { AppError, isAppError } from '../errors.ts'
import type { ListOptions, ObjectStore, PutOptions, StoredObject } from './objectstore.ts'
import { sleep } from './waiting.ts'

export interface RetryPolicy {
  /** Tries of one call, the first one included; default 10. */
  readonly attempts?: number | undefined
  /** No new try begins after this long; ms, default 15 minutes. */
  readonly deadlineMs?: number | undefined
  /** The first wait is up to this long; ms, default 200. */
  readonly firstWaitMs?: number | undefined
  /** No wait is longer; ms, default 30 s. */
  readonly longestWaitMs?: number | undefined
  /** Told of each failure that is followed by another try. */
  readonly onRetry?: ((error: AppError, attempt: number) => void) | undefined
}

/** A policy without gaps. */
interface Rules extends Pick<RetryPolicy, 'onRetry'> {
  readonly attempts: number
  readonly deadlineMs: number
  readonly firstWaitMs: number
  readonly longestWaitMs: number
  /** Whether the store has answered once, be it with an error. */
  hasAnswered: boolean
}

/** For a server that has not answered yet. */
const firstAttempts = 3
const firstDeadlineMs = 5_000

/** Wraps a store; closing the wrapper closes it. */
export function retrying(store: ObjectStore, policy: RetryPolicy = {}): ObjectStore {
  const rules: Rules = {
    attempts: policy.attempts ?? 10,
    deadlineMs: policy.deadlineMs ?? 15 * 60_000,
    firstWaitMs: policy.firstWaitMs ?? 200,
    longestWaitMs: policy.longestWaitMs ?? 30_000,
    onRetry: policy.onRetry,
    hasAnswered: false,
  }
  return {
    url: store.url,
    get facts() {
      return store.facts
    },
    put: (key, data, options = {}) => put(store, rules, key, data, options),
    get: (key, range, options) => again(rules, options?.signal, () => store.get(key, range, options)),
    stat: (key, options) => again(rules, options?.signal, () => store.stat(key, options)),
    list: (prefix, options) => list(store, rules, prefix, options ?? {}),
    delete: (keys, options) => again(rules, options?.signal, () => store.delete(keys, options)),
    close: () => store.close(),
  }
}

/** Decides, after a failure, whether and when there is another try. */
interface Tries {
  /** Waits for the next try. @throws `error` when there is none */
  next(error: unknown): Promise<void>
}

function countTries(rules: Rules, signal: AbortSignal | undefined): Tries {
  const begun = performance.now()
  const end = begun + rules.deadlineMs
  let attempt = 1
  return {
    async next(error) {
      rules.hasAnswered ||= !isSilence(error)
      if (!isAppError(error, 'UNAVAILABLE', 'TIMEOUT', 'ABORTED') || signal?.aborted) throw error
      const longest = Math.min(rules.longestWaitMs, rules.firstWaitMs * 2 ** (attempt - 1))
      const wait = randomInt(Math.max(1, Math.ceil(longest)))
      const most = rules.hasAnswered ? rules.attempts : Math.min(rules.attempts, firstAttempts)
      const last = rules.hasAnswered ? end : Math.min(end, begun + firstDeadlineMs)
      if (attempt >= most || performance.now() + wait > last) throw givenUp(error, attempt)
      rules.onRetry?.(error, attempt)
      attempt++
      await sleep(wait, signal)
    },
  }
}

/** Of what a server has answered, the status is known; what has no status at all did not come over a network. */
function isSilence(error: unknown): boolean {
  return isAppError(error) && error.details['status'] === null && isAppError(error, 'UNAVAILABLE', 'TIMEOUT')
}

function givenUp(error: AppError, attempts: number): AppError {
  if (attempts === 1) return error
  const details = { ...error.details, attempts }
  return new AppError(error.code, `${error.message} (tried ${attempts} times)`, { details, cause: error })
}

async function again<T>(
  rules: Rules,
  signal: AbortSignal | undefined,
  work: (attempt: number) => Promise<T>,
): Promise<T> {
  const tries = countTries(rules, signal)
  for (let attempt = 1; ; attempt++) {
    try {
      const result = await work(attempt)
      rules.hasAnswered = true
      return result
    } catch (error) {
      await tries.next(error)
    }
  }
}

async function put(
  store: ObjectStore,
  rules: Rules,
  key: string,
  data: Uint8Array,
  options: PutOptions,
): Promise<void> {
  await again(rules, options.signal, async (attempt) => {
    try {
      await store.put(key, data, options)
    } catch (error) {
      // A try that was thought lost may have got through: what is there is then what was to be stored.
      if (attempt === 1 || !isAppError(error, 'ALREADY_EXISTS')) throw error
      const there = await store.get(key, undefined, options)
      if (Buffer.compare(there, data) !== 0) throw error
    }
  })
}

/** Goes on behind the last key that was given; each failure after progress counts as a first one. */
async function* list(
  store: ObjectStore,
  rules: Rules,
  prefix: string,
  options: ListOptions,
): AsyncGenerator<StoredObject> {
  let after = options.after
  let tries = countTries(rules, options.signal)
  for (;;) {
    const objects = store.list(prefix, { ...options, ...(after !== undefined && { after }) })[Symbol.asyncIterator]()
    try {
      for (;;) {
        const next = await nextOrFailure(objects)
        if ('error' in next) {
          await tries.next(next.error)
          break
        }
        rules.hasAnswered = true
        if (next.done) return
        if (after !== next.value.key) tries = countTries(rules, options.signal)
        after = next.value.key
        yield next.value
      }
    } finally {
      await objects.return?.()
    }
  }
}

/** Keeps what the listing throws apart from what its reader throws into it. */
async function nextOrFailure(objects: AsyncIterator<StoredObject>) {
  try {
    return await objects.next()
  } catch (error) {
    return { error }
  }
}
