/**
 * The main thread's side of the workers: starts them, serves what they ask of the store and of other programs, and gives tasks of the
 * *lead* (who runs a job such as a backup) to the *hands* (who read, compress, encrypt, write). Computes nothing itself, so that the daemon's event
 * loop stays free. Workers live as long as one job: their memory is given back with them.
 */

import { MessageChannel, Worker } from 'node:worker_threads'
import { AppError, isAppError, toAppError } from '../errors.ts'
import type { ObjectStore } from '../objectstore/objectstore.ts'
import {
  type AnswerMessage,
  errorMessage,
  fromErrorMessage,
  type ListedObject,
  type RequestMessage,
  type Requests,
} from './bridge.ts'
import { pageLength } from './pack-listing.ts'
import type { SealSecrets } from './seal.ts'

/** What a repository needs of other programs. `exec` of system/exec.ts fits. */
export interface Tools {
  /** Runs a program without a shell. @returns its stdout @throws AppError when it fails */
  exec(
    program: string,
    args: readonly string[],
    options: { readonly signal?: AbortSignal; readonly timeoutMs: number },
  ): Promise<string>
}

export interface CrewOptions {
  readonly store: ObjectStore
  readonly tools: Tools
  readonly secrets: SealSecrets
  readonly signal: AbortSignal
  /** Threads that do the heavy part. */
  readonly hands: number
  progress(done: number, total: number | null, unit: 'bytes' | 'files'): void
  /** Takes what a job hands out; it goes on when this has resolved. */
  take?(items: readonly unknown[]): Promise<void>
}

/** What a worker is started with. */
export interface WorkerStart {
  readonly secrets: SealSecrets
  readonly port: MessagePort
  readonly bell: SharedArrayBuffer
}

/** Node's buffers share ArrayBuffers up to this length; larger ones are a pack's, of which a part is in use. */
const mostShared = 2 ** 20
/**
 * Room for young objects. A hand makes few objects that stand for many bytes outside of the heap: only with little room are they collected before these
 * have become a hundred megabytes.
 */
const leadYoungMb = 8
const handYoungMb = 1
const entry = new URL(import.meta.url.endsWith('.ts') ? './worker.ts' : './worker.js', import.meta.url)

type MessagePort = import('node:worker_threads').MessagePort

/** One worker: takes one task at a time. */
class Member {
  readonly #worker: Worker
  #settle: { resolve(answer: unknown): void; reject(error: unknown): void } | undefined
  busy = false

  constructor(crew: Crew, youngGenerationMb: number) {
    const { port1, port2 } = new MessageChannel()
    const bell = new SharedArrayBuffer(4)
    const workerData: WorkerStart = { secrets: crew.options.secrets, port: port2, bell }
    this.#worker = new Worker(entry, {
      workerData,
      transferList: [port2],
      resourceLimits: { maxYoungGenerationSizeMb: youngGenerationMb },
    })
    port1.on('message', (request: RequestMessage) => void answerTo(crew, request, port1, new Int32Array(bell)))
    this.#worker.on('message', (message: AnswerMessage) => this.#settled(message))
    this.#worker.on('error', (error) => this.#settle?.reject(toAppError(error)))
    this.#worker.on('exit', () => {
      port1.close()
      this.#settle?.reject(new AppError('CANCELLED', 'a worker was stopped'))
    })
  }

  /** Runs a task to its end. */
  run(task: string, args: unknown): Promise<unknown> {
    const result = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject }
    })
    this.#worker.postMessage({ task, args })
    return result
  }

  #settled(message: AnswerMessage): void {
    const settle = this.#settle
    this.#settle = undefined
    this.busy = false
    if (message.error) settle?.reject(fromErrorMessage(message.error))
    else settle?.resolve(message.answer)
  }

  async end(): Promise<void> {
    await this.#worker.terminate()
  }
}

export class Crew {
  readonly options: CrewOptions
  #lead: Member | undefined
  readonly #hands: Member[] = []
  readonly #aside: Member[] = []
  readonly #waiting: (() => void)[] = []
  readonly #pending = new Set<Promise<unknown>>()
  readonly #ending = new AbortController()

  constructor(options: CrewOptions) {
    this.options = options
  }

  /**
   * Runs a job in a worker of its own, the lead; ends all workers after, and waits for what they still had under way.
   * @throws what the job threw, or the signal's reason
   */
  async run<T>(job: string, args: unknown): Promise<T> {
    try {
      return await this.step<T>(job, args)
    } finally {
      await this.stop()
    }
  }

  /**
   * Runs a job in the lead, which remembers what earlier ones left; one at a time. End with `stop`.
   * @throws what the job threw, or the signal's reason
   */
  async step<T>(job: string, args: unknown): Promise<T> {
    const { signal } = this.options
    signal.throwIfAborted()
    const stop = () => void this.stop()
    signal.addEventListener('abort', stop, { once: true })
    this.#lead ??= new Member(this, leadYoungMb)
    try {
      return (await this.#lead.run(job, args)) as T
    } catch (error) {
      throw signal.aborted ? signal.reason : error
    } finally {
      signal.removeEventListener('abort', stop)
    }
  }

  /** Ends all workers, and waits for what they had under way. Programs first: a worker may be waiting for one in the kernel. */
  async stop(): Promise<void> {
    this.#ending.abort(new AppError('CANCELLED', 'the job has ended'))
    const members = [...this.#hands, ...this.#aside, ...(this.#lead ? [this.#lead] : [])]
    await Promise.all(members.map((member) => member.end()))
    await Promise.allSettled(this.#pending)
  }

  /** Ends what workers have asked for; aborted when the job has ended, for whatever reason. */
  get signal(): AbortSignal {
    return this.#ending.signal
  }

  /** Gives a task to a free hand, or waits for one. */
  async hand(task: string, args: unknown): Promise<unknown> {
    const member = await this.#freeHand()
    try {
      return await member.run(task, args)
    } finally {
      this.#waiting.shift()?.()
    }
  }

  /** Gives a task to a worker that is neither lead nor hand. */
  async aside(task: string, args: unknown): Promise<unknown> {
    const member = new Member(this, handYoungMb)
    this.#aside.push(member)
    return await member.run(task, args)
  }

  async #freeHand(): Promise<Member> {
    for (;;) {
      const free = this.#hands.find((member) => !member.busy)
      const member = free ?? this.#hire()
      if (member) {
        member.busy = true
        return member
      }
      await new Promise<void>((resolve) => this.#waiting.push(resolve))
    }
  }

  #hire(): Member | undefined {
    if (this.#hands.length === this.options.hands) return undefined
    const member = new Member(this, handYoungMb)
    this.#hands.push(member)
    return member
  }

  /** Runs a task once on every hand that was started. */
  async everyHand(task: string, args: unknown): Promise<unknown[]> {
    return Promise.all(this.#hands.map((member) => member.run(task, args)))
  }

  /** Keeps `work` in mind until it has ended. */
  track<T>(work: Promise<T>): Promise<T> {
    this.#pending.add(work)
    return work.finally(() => this.#pending.delete(work))
  }
}

async function answerTo(crew: Crew, request: RequestMessage, port: MessagePort, bell: Int32Array): Promise<void> {
  let message: AnswerMessage
  const transfer: ArrayBuffer[] = []
  try {
    const work = serve(crew, request.method, request.args)
    // Tasks of workers end with the workers.
    const answer = await (['hand', 'aside'].includes(request.method) ? work : crew.track(work))
    message = { id: request.id, answer: answer instanceof Uint8Array ? transferable(answer, transfer) : answer }
  } catch (error) {
    message = { id: request.id, error: errorMessage(error) }
  }
  port.postMessage(message, transfer)
  Atomics.add(bell, 0, 1)
  Atomics.notify(bell, 0)
}

/** The bytes, to be moved to the worker; copied only when they share an ArrayBuffer with others. */
function transferable(bytes: Uint8Array, transfer: ArrayBuffer[]): Uint8Array {
  const isOwn = bytes.byteLength === bytes.buffer.byteLength || bytes.buffer.byteLength > mostShared
  const own = isOwn ? bytes : Uint8Array.from(bytes)
  transfer.push(own.buffer as ArrayBuffer)
  return own
}

function serve(crew: Crew, method: keyof Requests, args: unknown): Promise<unknown> {
  return services[method](crew, args as never)
}

type Services = { [M in keyof Requests]: (crew: Crew, args: Requests[M]['args']) => Promise<unknown> }

const services: Services = {
  get: ({ options, signal }, { key, start, end }) => options.store.get(key, { start, end }, { signal }),
  getIfThere: async ({ options, signal }, { key, start, end }) => {
    const range = start === undefined || end === undefined ? undefined : { start, end }
    try {
      return await options.store.get(key, range, { signal })
    } catch (error) {
      if (isAppError(error, 'NOT_FOUND')) return null
      throw error
    }
  },
  put: async ({ options, signal }, { key, bytes }) => {
    await options.store.put(key, bytes, { signal })
    return null
  },
  list: (crew, { prefix, after }) => page(crew, prefix, after),
  stat: async ({ options, signal }, { key }) => (await options.store.stat(key, { signal }))?.size ?? null,
  delete: async ({ options, signal }, { keys }) => {
    await options.store.delete(keys, { signal })
    return null
  },
  exec: ({ options, signal }, { program, args, timeoutMs }) => options.tools.exec(program, args, { signal, timeoutMs }),
  execOrNull: async ({ options, signal }, { program, args, timeoutMs }) => {
    try {
      return await options.tools.exec(program, args, { signal, timeoutMs })
    } catch (error) {
      signal.throwIfAborted()
      if (isAppError(error, 'FAILED_PRECONDITION', 'TIMEOUT')) throw error
      return null
    }
  },
  hand: (crew, { task, args }) =>
    task.startsWith('every:') ? crew.everyHand(task.slice(6), args) : crew.hand(task, args),
  aside: (crew, { task, args }) => crew.aside(task, args),
  emit: async ({ options }, { items }) => {
    await options.take?.(items)
    return null
  },
  progress: async ({ options }, { done, total, unit }) => {
    options.progress(done, total, unit)
    return null
  },
}

async function page({ options, signal }: Crew, prefix: string, after: string | null): Promise<ListedObject[]> {
  const objects: ListedObject[] = []
  const listing = options.store.list(prefix, { signal, ...(after !== null && { after }) })
  for await (const { key, size, modifiedAt } of listing) {
    objects.push({ key, size, modifiedAtMs: modifiedAt.getTime() })
    if (objects.length === pageLength) break
  }
  return objects
}
