/**
 * A worker's side of its talk with the main thread: it asks for store access and for other programs, and waits for the answers without
 * an event loop, so that everything in workers is plain synchronous code. The main side is crew.ts.
 */

import { type MessagePort, receiveMessageOnPort, type Transferable } from 'node:worker_threads'
import { AppError, type ErrorCode, type ErrorDetails, toAppError } from '../errors.ts'

/** What a worker may ask for: arguments and answers. Bytes are transferred, not copied. */
export interface Requests {
  get: { args: { key: string; start: number; end: number }; answer: Uint8Array<ArrayBuffer> }
  /** An object, or a range of it; null when there is none. */
  getIfThere: { args: { key: string; start?: number; end?: number }; answer: Uint8Array<ArrayBuffer> | null }
  /**
   * The bytes must not change before the answer. Packs are in shared memory: a thread to which it is transferred counts it as its own garbage,
   * and collects all of its garbage after a few packs.
   */
  put: { args: { key: string; bytes: Uint8Array }; answer: null }
  /** One page, in ascending order. */
  list: { args: { prefix: string; after: string | null }; answer: readonly ListedObject[] }
  /** Its size, or null when there is none. */
  stat: { args: { key: string }; answer: number | null }
  delete: { args: { keys: readonly string[] }; answer: null }
  exec: { args: { program: string; args: readonly string[]; timeoutMs: number }; answer: string }
  /** As `exec`; null when the program ran and failed. */
  execOrNull: { args: { program: string; args: readonly string[]; timeoutMs: number }; answer: string | null }
  /** Gives a task to one of the hands. */
  hand: { args: { task: string; args: unknown }; answer: unknown }
  /** Gives a task to a worker of its own, which works beside the lead and the hands. */
  aside: { args: { task: string; args: unknown }; answer: unknown }
  /** Hands results to the job's caller; answered when it has taken them. */
  emit: { args: { items: readonly unknown[] }; answer: null }
  progress: { args: { done: number; total: number | null; unit: 'bytes' | 'files' }; answer: null }
}

export interface ListedObject {
  readonly key: string
  readonly size: number
  readonly modifiedAtMs: number
}

/** An error on its way between threads. */
export interface ErrorMessage {
  readonly code: ErrorCode
  readonly message: string
  readonly details: ErrorDetails
}

export interface RequestMessage {
  readonly id: number
  readonly method: keyof Requests
  readonly args: unknown
}

export interface AnswerMessage {
  readonly id: number
  readonly answer?: unknown
  readonly error?: ErrorMessage
}

/** What the main thread gives a new worker for its bridge. */
export interface BridgeEnds {
  readonly port: MessagePort
  /** Counts answers sent. */
  readonly bell: SharedArrayBuffer
}

export function errorMessage(error: unknown): ErrorMessage {
  const { code, message, details } = toAppError(error)
  return { code, message, details }
}

export function fromErrorMessage({ code, message, details }: ErrorMessage): AppError {
  return new AppError(code, message, { details })
}

type Callback = (answer: unknown) => void

export class Bridge {
  readonly #port: MessagePort
  readonly #bell: Int32Array
  readonly #callbacks = new Map<number, Callback>()
  #nextId = 1
  #waiter: { readonly everyMs: number; act(): void } | undefined

  constructor({ port, bell }: BridgeEnds) {
    this.#port = port
    this.#bell = new Int32Array(bell)
  }

  /** Asks, and goes on; `done` gets the answer from within a later `pump`. A failure is thrown by that `pump`. */
  post<M extends keyof Requests>(
    method: M,
    args: Requests[M]['args'],
    done: (answer: Requests[M]['answer']) => void,
    transfer: readonly Transferable[] = [],
  ): void {
    const id = this.#nextId++
    this.#callbacks.set(id, done as Callback)
    this.#port.postMessage({ id, method, args } satisfies RequestMessage, transfer)
  }

  /** Asks and waits. @throws what the main thread's side threw */
  call<M extends keyof Requests>(
    method: M,
    args: Requests[M]['args'],
    transfer: readonly Transferable[] = [],
  ): Requests[M]['answer'] {
    let result: { answer: Requests[M]['answer'] } | undefined
    this.post(method, args, (answer) => (result = { answer }), transfer)
    this.pumpUntil(() => result !== undefined)
    return (result as unknown as { answer: Requests[M]['answer'] }).answer
  }

  /** Has something done about every `everyMs` while this worker waits for an answer. */
  onWait(everyMs: number, act: () => void): void {
    this.#waiter = { everyMs, act }
  }

  /** Handles the answers that are there. */
  pump(): void {
    for (;;) {
      const received = receiveMessageOnPort(this.#port) as { message: AnswerMessage } | undefined
      if (!received) return
      const { id, answer, error } = received.message
      const callback = this.#callbacks.get(id)
      this.#callbacks.delete(id)
      if (error) throw fromErrorMessage(error)
      callback?.(answer)
    }
  }

  /** Handles answers, and waits for more, until `condition` holds. */
  pumpUntil(condition: () => boolean): void {
    for (;;) {
      const rung = Atomics.load(this.#bell, 0)
      this.pump()
      if (condition()) return
      Atomics.wait(this.#bell, 0, rung, this.#waiter?.everyMs)
      this.#waiter?.act()
    }
  }

  /** All objects below `prefix`, a page in memory at a time. */
  *list(prefix: string): Generator<ListedObject> {
    let after: string | null = null
    for (;;) {
      const page: readonly ListedObject[] = this.call('list', { prefix, after })
      yield* page
      const last = page.at(-1)
      if (!last) return
      after = last.key
    }
  }
}
