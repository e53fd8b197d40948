/**
 * The daemon's side of repository work: each job runs in a process of its own (child.ts), so that Docker is answered
 * meanwhile, memory is given back at the end, and a crash costs that job only. Decides nothing about when and how many:
 * that is the services'.
 */

import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Log } from '../driver.ts'
import { AppError } from '../errors.ts'
import { type ChildEnd, type TalkingChild, talk } from '../system/exec.ts'
import type { JobArgs, JobName, JobResult } from './jobs.ts'
import { type KeySlot, KnownKeys } from './known-keys.ts'
import type { Place } from './place.ts'
import type { ErrorMessage, FromChild, StartMessage, ToChild } from './protocol.ts'

/** How a job is watched and cancelled. */
export interface EngineOptions {
  readonly signal?: AbortSignal | undefined
  /** At most ten times a second. */
  progress?(done: number, total: number | null, unit: 'bytes' | 'files'): void
  /** Takes what a job hands out (`listFiles`: pages of `ListedFile`); the job waits for it, and fails when it does. */
  take?(items: readonly unknown[]): Promise<void> | void
}

export interface Engine {
  /**
   * Runs one job to its end. When it has returned or thrown, nothing of it is at work any more.
   * @throws what the job threw; the signal's reason; INTERNAL when its process died; TIMEOUT when a cancelled one
   * cannot be ended because it waits for its storage in the kernel
   */
  run<M extends JobName>(place: Place, job: M, args: JobArgs<M>, options?: EngineOptions): Promise<JobResult<M>>
  /** Cancels what runs and waits for its end; forgets all keys. Idempotent; `run` fails afterwards. */
  stop(): Promise<void>
}

const source = extname(import.meta.url) === '.ts'
const childProgram = fileURLToPath(new URL(`./child${extname(import.meta.url)}`, import.meta.url))
/**
 * V8 lets garbage grow to a share of the most that a heap may have, in each thread: with Node's own limits a backup of a million files takes 200 MiB
 * more. No job needs so much (test/bench/backup-scale.ts). But what passes through a thread counts as its garbage: with V8's own share of so small a heap, a
 * restore from S3 spends a quarter of its time collecting.
 */
const heapArgs = ['--max-old-space-size=1024', '--max-semi-space-size=2', '--heap-growing-percent=200']
/**
 * Source files are stripped of types by a WebAssembly module, whose wrappers Node must not compile anew while a thread
 * ends.
 */
const nodeArgs = source ? [...heapArgs, '--wasm-wrapper-tiering-budget=2000000000'] : heapArgs
const nice = 10
/**
 * Threads for file calls: those of a store that hangs must not hold up the others. And few arenas: with one for each
 * thread, the C library keeps what packs have left in all of them; a restore then peaks at up to 460 MiB, not 270.
 */
const env = { UV_THREADPOOL_SIZE: '16', MALLOC_ARENA_MAX: '2' }
/** A cancelled job has so long to end by itself. */
const cancelWaitMs = 5_000
/** So long a killed process may take to be gone. */
const killWaitMs = 10_000

/** Starts nothing yet. */
export function createEngine({ log }: { readonly log: Log }): Engine {
  const keys = new KnownKeys()
  const running = new Set<Promise<unknown>>()
  const stopping = new AbortController()

  async function run(place: Place, job: JobName, args: unknown, options: EngineOptions): Promise<unknown> {
    const signals = [stopping.signal, ...(options.signal ? [options.signal] : [])]
    const signal = AbortSignal.any(signals)
    signal.throwIfAborted()
    const slot = await keys.slot(place)
    signal.throwIfAborted()
    const start: StartMessage = { type: 'start', place, job, args, knownKey: keys.find(slot) }
    return runJob(start, { ...options, signal }, { log, keys, slot })
  }

  return {
    run: (place, job, args, options = {}) => {
      const work = run(place, job, args, options)
      running.add(work)
      const forget = () => void running.delete(work)
      work.then(forget, forget)
      return work as Promise<never>
    },
    stop: async () => {
      stopping.abort(new AppError('CANCELLED', 'the daemon is stopping'))
      await Promise.allSettled(running)
      keys.clear()
    },
  }
}

interface Desk {
  readonly log: Log
  readonly keys: KnownKeys
  readonly slot: KeySlot
}

async function runJob(start: StartMessage, options: EngineOptions & { signal: AbortSignal }, desk: Desk) {
  const answer = Promise.withResolvers<unknown>()
  const child = talk(childProgram, [start.job], {
    nodeArgs,
    env,
    nice,
    onMessage: (message) => {
      try {
        hear(message as FromChild, child, options, desk, answer)
      } catch (error) {
        answer.reject(error)
      }
    },
  })
  child.send(start satisfies ToChild)
  let answered = false
  void child.ended.then((end) => answered || answer.reject(died(end, child, start.job, desk.log)))
  const stopWaiting = onCancel(options.signal, child, answer)
  try {
    const result = await answer.promise.finally(() => (answered = true))
    // It has nothing left to do, and nobody has to wait until its memory is given back.
    void child.kill(killWaitMs)
    return result
  } catch (error) {
    await end(child, start.job)
    throw options.signal.aborted ? options.signal.reason : error
  } finally {
    stopWaiting()
  }
}

/** Asks the child to stop, and gives up on it when it takes too long. @returns what ends this */
function onCancel(signal: AbortSignal, child: TalkingChild, answer: PromiseWithResolvers<unknown>): () => void {
  let hurry: NodeJS.Timeout | undefined
  const cancel = () => {
    child.send({ type: 'cancel' } satisfies ToChild)
    hurry = setTimeout(() => answer.reject(signal.reason), cancelWaitMs)
  }
  signal.addEventListener('abort', cancel, { once: true })
  return () => {
    signal.removeEventListener('abort', cancel)
    clearTimeout(hurry)
  }
}

async function end(child: TalkingChild, job: string): Promise<void> {
  if (await child.kill(killWaitMs)) return
  throw new AppError(
    'TIMEOUT',
    `process ${child.pid} (${job}) cannot be ended: it waits for its storage in the kernel; see to the storage`,
  )
}

function died({ how, stderr }: ChildEnd, child: TalkingChild, job: string, log: Log): AppError {
  log.error({ job, how, stderr: stderr.trim().split('\n').slice(-20) }, 'a backup process died')
  if (child.pid === undefined) {
    return new AppError('FAILED_PRECONDITION', `the backup process cannot be started: ${how}; install util-linux`)
  }
  return new AppError('INTERNAL', `the backup process died (${how}); nothing is lost, try again`)
}

function hear(
  message: FromChild,
  child: TalkingChild,
  options: EngineOptions,
  { keys, slot }: Desk,
  answer: PromiseWithResolvers<unknown>,
): void {
  if (message.type === 'progress') options.progress?.(message.done, message.total, message.unit)
  else if (message.type === 'key') keys.keep(slot, message.knownKey)
  else if (message.type === 'done') answer.resolve(message.result)
  else if (message.type === 'failed') answer.reject(fromMessage(message.error))
  else void takeItems(message.items, child, options, answer)
}

function fromMessage({ code, message, details }: ErrorMessage): AppError {
  return new AppError(code, message, { details })
}

async function takeItems(
  items: readonly unknown[],
  child: TalkingChild,
  options: EngineOptions,
  answer: PromiseWithResolvers<unknown>,
): Promise<void> {
  try {
    await options.take?.(items)
    child.send({ type: 'taken' } satisfies ToChild)
  } catch (error) {
    answer.reject(error)
  }
}
