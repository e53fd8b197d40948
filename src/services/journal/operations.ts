/**
 * The journal: every change is written down before its side effect and closed together with its result, so that a crash at
 * any moment leaves a `running` entry from which recovery.ts finishes or undoes it. Also what runs now, its progress and its
 * cancellation. One log line for each operation, with its duration.
 */

import { randomUUID } from 'node:crypto'
import type { Catalog } from '../../catalog/catalog.ts'
import { beginOperation, type Change, finishOperation, noteFailure, pruneOperations } from '../../catalog/changes.ts'
import type { DriverContext, Log } from '../../driver.ts'
import { AppError, type ErrorCode, errno, isAppError, toAppError } from '../../errors.ts'
import type { Json, Operation, OperationState } from '../../model.ts'
import { now } from '../now.ts'
import type { OperationService, OperationView } from './contract.ts'

/** What is to be done, as the journal keeps it. */
export interface Work {
  readonly kind: string
  readonly subject: string
  /** What recovery needs. No secrets. */
  readonly payload: Json
  /** Chosen by the caller, or made here. */
  readonly id?: string | undefined
  /** Told its id once it is in the journal. */
  readonly onStarted?: ((id: string) => void) | undefined
  /** The daemon's end leaves it open, and neither undoes nor closes it: the next start resumes it. */
  readonly resumable?: boolean | undefined
}

/** What came out of it: the changes are committed in one transaction with the journal's closing. */
export interface Outcome<T> {
  readonly result: T
  readonly changes: readonly Change[]
  /** What the result says is wrong: the caller gets the result, the journal shows this. */
  readonly verdict?: AppError | undefined
}

/** A step that the journal has reached; after `journalled`, `driven` and `committed` a crash leaves different things. */
export type Phase = 'journalled' | 'driven' | 'committed'

interface Progress {
  readonly done: number
  readonly total: number | null
  readonly unit: string
}

interface Running {
  readonly operation: Operation
  readonly abort: AbortController
  readonly startedMs: number
  readonly resumable: boolean
  progress: Progress | null
}

type Body<T> = (ctx: DriverContext) => Promise<Outcome<T>>
type Undo = (ctx: DriverContext) => Promise<void>

/** How many of a kind have ended in a state. */
interface EndedOperations {
  readonly kind: string
  readonly state: OperationState
  readonly count: number
}

/** How many finished operations are remembered. */
export const keepFinished = 1_000
/** How many operations end before the oldest are forgotten. */
const pruneEvery = 250

/** Kinds that are begun on a full disk, too. */
const makingRoom: ReadonlySet<string> = new Set(['volume.discard', 'volume.delete', 'snapshot.delete'])

/** Of an id that is cut short. */
const leastDigits = 8
const wholeId = 36

const operationId = /^[a-zA-Z0-9-]{8,64}$/

export class Operations implements OperationService {
  readonly #catalog: Catalog
  readonly #log: Log
  readonly #onPhase: (kind: string, phase: Phase) => void
  readonly #running = new Map<string, Running>()
  #finished = 0
  readonly #ended = new Map<string, EndedOperations>()
  #stopping = false
  /** When this life began, in ms since the epoch: what is open from before it, is a crash's. */
  readonly startedMs = Date.now()

  /** @param onPhase told of each phase, before the next begins; tests kill the daemon there */
  constructor(catalog: Catalog, log: Log, onPhase: (kind: string, phase: Phase) => void = () => undefined) {
    this.#catalog = catalog
    this.#log = log
    this.#onPhase = onPhase
  }

  /**
   * Runs one piece of journalled work.
   * @param undo called when `body` or the commit has failed; should it fail too, the entry stays open for the next start
   * @throws what `body` throws; ALREADY_EXISTS for an id in use; the catalog's errors, before any side effect
   */
  async run<T>(work: Work, body: Body<T>, undo?: Undo): Promise<T> {
    return this.#carryOut(await this.#begin(work), body, undo)
  }

  /**
   * Goes on, under its id, with what an earlier life has left open. What its caller was told has failed is only undone.
   * @throws as `run`; UNAVAILABLE when the daemon stops before it has begun, or in its middle
   */
  async resume<T>(operation: Operation, body: Body<T>, undo: Undo): Promise<T> {
    this.#requireStarted()
    const running = this.#enter(operation, true)
    const { error } = operation
    if (error === null) return this.#carryOut(running, body, undo)
    try {
      throw await this.#fail(running, new AppError(error.code as ErrorCode, error.message), undo)
    } finally {
      this.#running.delete(operation.id)
    }
  }

  async #carryOut<T>(running: Running, body: Body<T>, undo: Undo | undefined): Promise<T> {
    const { id, kind } = running.operation
    try {
      const { result, changes, verdict } = await body(this.#context(running))
      this.#onPhase(kind, 'driven')
      const state = verdict ? 'failed' : 'done'
      await this.#catalog.write(...changes, finishOperation(id, state, now(), verdict ? brief(verdict) : null))
      this.#end(running, state, verdict)
      this.#onPhase(kind, 'committed')
      return result
    } catch (error) {
      const failure = toAppError(error)
      const isCancelled = running.abort.signal.aborted && !isLeftOpen(failure)
      throw await this.#fail(running, isCancelled ? cancelled(running) : failure, undo)
    } finally {
      this.#running.delete(id)
    }
  }

  /** Nothing is begun any more. */
  get stopping(): boolean {
    return this.#stopping
  }

  /** A context for short calls that change nothing that a crash could leave half-made. */
  plainContext(signal: AbortSignal = new AbortController().signal): DriverContext {
    return { signal, log: this.#log, progress: () => undefined }
  }

  list(all = false): OperationView[] {
    const operations = all ? this.#catalog.operations() : this.#catalog.runningOperations()
    return operations.map((operation) => this.#view(operation))
  }

  inspect(id: string): OperationView {
    const operation = this.#running.get(id)?.operation ?? this.#catalog.operation(id) ?? this.#beginningWith(id)
    if (!operation) throw new AppError('NOT_FOUND', `there is no operation ${id}; see: holdfast operation ls --all`)
    return this.#view(operation)
  }

  /** @throws INVALID_ARGUMENT for digits of several */
  #beginningWith(digits: string): Operation | undefined {
    if (digits.length < leastDigits || digits.length >= wholeId) return undefined
    const running = [...this.#running.values()].map(({ operation }) => operation)
    // One that is being begun is not in the journal yet.
    const known = new Map([...this.#catalog.operations(), ...running].map((operation) => [operation.id, operation]))
    const [found, other] = [...known.values()].filter(({ id }) => id.startsWith(digits.toLowerCase()))
    if (other) throw new AppError('INVALID_ARGUMENT', `several operations begin with ${digits}; give more digits`)
    return found
  }

  cancel(given: string): OperationView {
    const view = this.inspect(given)
    const { id } = view
    const running = this.#running.get(id)
    if (!running) throw new AppError('FAILED_PRECONDITION', `operation ${id} ${whyNot(view)}`)
    running.abort.abort(new AppError('CANCELLED', `${view.kind} of ${view.subject} was cancelled`))
    return view
  }

  /** How many have ended since the start, recovered ones too. */
  ended(): EndedOperations[] {
    return [...this.#ended.values()]
  }

  #countEnd(kind: string, state: OperationState): void {
    const key = `${kind} ${state}`
    this.#ended.set(key, { kind, state, count: (this.#ended.get(key)?.count ?? 0) + 1 })
  }

  /** Entries that nothing works on: left by a crash, or by an undo that failed; a start of the daemon recovers them. */
  stranded(): OperationView[] {
    return this.list().filter(({ id }) => !this.#running.has(id))
  }

  /** Begins nothing any more, asks everything that runs to stop, and waits until it has been undone, at most `timeoutMs`. */
  async stop(timeoutMs: number): Promise<void> {
    this.#stopping = true
    for (const { abort, operation, resumable } of this.#running.values()) {
      abort.abort(resumable ? suspended(operation) : new AppError('CANCELLED', 'the daemon is stopping'))
    }
    const deadline = Date.now() + timeoutMs
    while (this.#running.size > 0 && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 20))
  }

  /** Closes an entry that an earlier life has left open, together with what recovery changed. */
  async close(
    operation: Operation,
    state: OperationState,
    changes: readonly Change[],
    error?: AppError,
  ): Promise<void> {
    await this.#catalog.write(...changes, finishOperation(operation.id, state, now(), error ? brief(error) : null))
    this.#countEnd(operation.kind, state)
    this.#log.info({ operation: operation.kind, subject: operation.subject, state, error: error?.message }, 'recovered')
  }

  async #begin(work: Work): Promise<Running> {
    if (work.id !== undefined && !operationId.test(work.id)) {
      throw new AppError('INVALID_ARGUMENT', `'${work.id}' is not an operation id; give a UUID`)
    }
    const operation: Operation = {
      id: work.id ?? randomUUID(),
      kind: work.kind,
      subject: work.subject,
      state: 'running',
      payload: work.payload,
      startedAt: now(),
      finishedAt: null,
      error: null,
    }
    this.#requireStarted()
    if (!makingRoom.has(work.kind)) this.#catalog.requireRoom()
    const running = this.#enter(operation, work.resumable === true)
    try {
      await this.#catalog.write(beginOperation(operation))
    } catch (error) {
      this.#running.delete(operation.id)
      throw error
    }
    this.#onPhase(work.kind, 'journalled')
    work.onStarted?.(operation.id)
    return running
  }

  #requireStarted(): void {
    if (this.#stopping) throw new AppError('UNAVAILABLE', 'the daemon is stopping; try again when it is back')
  }

  #enter(operation: Operation, resumable: boolean): Running {
    if (this.#running.has(operation.id)) {
      throw new AppError('ALREADY_EXISTS', `operation ${operation.id} runs already; give a new id`)
    }
    const abort = new AbortController()
    const running: Running = { operation, abort, startedMs: performance.now(), resumable, progress: null }
    this.#running.set(operation.id, running)
    return running
  }

  async #fail(running: Running, error: AppError, undo: Undo | undefined): Promise<AppError> {
    const { operation } = running
    if (isLeftOpen(error)) {
      const { kind, subject } = operation
      this.#log.warn({ operation: kind, subject, error: error.message }, 'stays open, and is gone on with later')
      return error
    }
    const state = isAppError(error, 'CANCELLED') ? 'cancelled' : 'failed'
    try {
      await undo?.(this.plainContext())
      await this.#closeFailed(finishOperation(operation.id, state, now(), brief(error)))
    } catch (undoError) {
      await this.#closeFailed(noteFailure(operation.id, brief(error)))
      this.#log.error(
        { operation: operation.kind, subject: operation.subject, error: (undoError as Error).message },
        'could not undo; the next start tries again',
      )
    }
    this.#end(running, state, error)
    return error
  }

  /** An undone entry must not stay open on a full disk: a later start would do again what the user has been told has failed. */
  async #closeFailed(closing: Change): Promise<void> {
    await this.#catalog.write(closing).catch(() => this.#catalog.owe(closing))
  }

  #end(running: Running, state: OperationState, error?: AppError): void {
    const { kind, subject } = running.operation
    this.#countEnd(kind, state)
    const durationMs = Math.round((performance.now() - running.startedMs) * 10) / 10
    const fields = {
      operation: kind,
      subject,
      state,
      durationMs,
      ...(error && { code: error.code, error: error.message }),
    }
    if (error && (error.code === 'INTERNAL' || error.code === 'CORRUPT')) {
      this.#log.error({ ...fields, cause: causeOf(error) }, 'operation failed')
    } else if (error) this.#log.warn(fields, 'operation failed')
    else this.#log.info(fields, 'operation done')
    if (++this.#finished % pruneEvery === 0)
      void this.#catalog.write(pruneOperations(keepFinished)).catch(() => undefined)
  }

  #context(running: Running): DriverContext {
    return {
      signal: running.abort.signal,
      log: this.#log,
      progress: (done, total, unit) => {
        running.progress = { done, total, unit }
      },
    }
  }

  #view(operation: Operation): OperationView {
    const running = this.#running.get(operation.id)
    const seconds = running ? Math.max((performance.now() - running.startedMs) / 1000, 0.001) : 1
    const { id, kind, subject, state, startedAt, finishedAt, error } = operation
    const progress = running?.progress ? paced(running.progress, seconds) : null
    return { id, kind, subject, state, progress, startedAt, finishedAt, error }
  }
}

function paced(progress: Progress, seconds: number): OperationView['progress'] {
  const { done, total } = progress
  const rate = Math.round(done / seconds)
  const secondsLeft = total === null || rate === 0 ? null : Math.max(Math.round((total - done) / rate), 0)
  return { ...progress, rate, secondsLeft }
}

function whyNot({ state }: OperationView): string {
  if (state !== 'running') return `has ended (${state})`
  return 'does not run: a crash or a failed undo has left it open, and recovery sees to it; it cannot be cancelled'
}

function brief(error: AppError): { code: string; message: string } {
  return { code: error.code, message: error.message }
}

/** Why resumable work stops with the daemon. */
function suspended({ id, kind, subject }: Operation): AppError {
  const message = `the daemon is stopping; ${kind} of ${subject} goes on when it is back: holdfast operation watch ${id}`
  return leftOpen(new AppError('UNAVAILABLE', message))
}

/** A failure that ends nothing: its operation is neither undone nor closed, but gone on with by recovery. */
export function leftOpen({ code, message, cause }: AppError): AppError {
  return new AppError(code, message, { details: { leftOpen: true }, cause })
}

function isLeftOpen(error: AppError): boolean {
  return error.details['leftOpen'] === true
}

function cancelled(running: Running): AppError {
  return toAppError(running.abort.signal.reason)
}

function causeOf(error: AppError): string | undefined {
  const { cause } = error
  return cause instanceof Error ? `${errno(cause) ?? cause.name}: ${cause.stack ?? cause.message}` : undefined
}
