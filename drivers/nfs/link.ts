/**
 * The daemon's side of one export. Everything that touches the share is done by a process of its own (child.ts), which
 * may hang as long as it likes: a call that is not answered in time fails with the name of the server, and the process
 * is killed and a new one started for the next call. One that cannot be killed is left behind; when too many are, none
 * is started any more.
 */

import { extname } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { DriverContext, Log, SharedNews, TreeArchive } from '../../src/driver.ts'
import { AppError } from '../../src/errors.ts'
import { type ChildEnd, type TalkingChild, talk } from '../../src/system/exec.ts'
import { ArchiveDesk } from './archive-desk.ts'
import { labelOf } from './options.ts'
import type { FromChild, SiteOptions, ToChild } from './protocol.ts'

const source = extname(import.meta.url) === '.ts'
const childProgram = fileURLToPath(new URL(`./child${extname(import.meta.url)}`, import.meta.url))
/**
 * As for the engine's processes: types are stripped by a WebAssembly module whose wrappers must not be compiled anew.
 */
const nodeArgs = source ? ['--wasm-wrapper-tiering-budget=2000000000'] : []
/** Calls that hang keep a thread each. */
const env = { UV_THREADPOOL_SIZE: '32', MALLOC_ARENA_MAX: '2' }

/**
 * How a call is waited for. `look` changes nothing; `short` takes some round trips; `long` takes what it takes while
 * the server answers; `local` is made even when the server is known to be away.
 */
export type Patience = 'look' | 'short' | 'long' | 'local'

/** A user waits 20 s for a server that is away, and Docker 60 for one that is slow. */
const shortMs = 15_000
const slowMs = 50_000
/** A long call goes on when the server is back by then. */
const awayMs = 45_000
/** A server that has been away for so long is not waited for by calls that come then. */
const knownAwayMs = 12_000
/** A cancelled call has so long to leave nothing behind. */
const cancelMs = 5_000
const killMs = 2_000
const mostAbandoned = 8
/** After a process has died. */
const restartMs = 2_000

interface Waiting {
  readonly patience: Patience
  readonly begunAt: number
  readonly ctx: DriverContext | null
  readonly answer: PromiseWithResolvers<unknown>
}

/** One life of the process. */
interface Life {
  readonly child: TalkingChild
  readonly calls: Map<number, Waiting>
  readonly left: PromiseWithResolvers<void>
  readonly archive: ArchiveDesk
  /** Since when the server does not answer, and what it is like; null while it does. */
  away: { readonly since: number; readonly reason: string } | null
}

export class Link {
  readonly label: string
  readonly #options: SiteOptions
  readonly #log: Log
  readonly #tell: (news: SharedNews) => void
  readonly #archive: TreeArchive
  readonly #lost = new Map<string, (reason: AppError) => void>()
  readonly #timer: NodeJS.Timeout
  #life: Life | undefined
  #ids = 0
  #abandoned = 0
  #watched = false
  #stopped = false

  /**
   * Starts nothing yet.
   * @param tell news, once it is watched
   * @param archive of snapshots that the server cannot copy
   */
  constructor(options: SiteOptions, log: Log, tell: (news: SharedNews) => void, archive: TreeArchive) {
    this.label = labelOf(options.place)
    this.#options = options
    this.#log = log
    this.#tell = tell
    this.#archive = archive
    this.#timer = setInterval(() => this.#lookAtTheClock(), 500).unref()
  }

  /**
   * Has the process call a method of its own.
   * @throws what it throws; UNAVAILABLE when the server does not answer; the signal's reason
   */
  async call<T>(ctx: DriverContext, patience: Patience, method: string, ...args: readonly unknown[]): Promise<T> {
    ctx.signal.throwIfAborted()
    const life = this.#alive()
    if (life.away && patience !== 'local' && performance.now() - life.away.since > knownAwayMs) {
      throw this.#unreachable(life.away.reason)
    }
    const id = ++this.#ids
    const answer = Promise.withResolvers<unknown>()
    life.calls.set(id, { patience, ctx, answer, begunAt: performance.now() })
    life.child.send({ type: 'call', id, method, args } satisfies ToChild)
    const stopWaiting = onAbort(ctx.signal, () => this.#cancel(life, id))
    try {
      return (await answer.promise) as T
    } finally {
      stopWaiting()
      life.calls.delete(id)
    }
  }

  /** Keeps the process running from now on, and has it tell what is on the share. */
  watch(): void {
    this.#watched = true
    if (!this.#stopped) this.#alive().child.send({ type: 'watch' } satisfies ToChild)
  }

  /** Calls `lost` once when the process says that it has lost `key`, or dies. @returns what ends that */
  onLost(key: string, lost: (reason: AppError) => void): () => void {
    this.#lost.set(key, lost)
    return () => void this.#lost.delete(key)
  }

  /** Lets the process say good-bye, and ends it. Idempotent. */
  async stop(): Promise<void> {
    this.#stopped = true
    clearInterval(this.#timer)
    const life = this.#life
    if (!life) return
    life.child.send({ type: 'end' } satisfies ToChild)
    await Promise.race([
      life.left.promise,
      life.child.ended,
      pause(life.away ? 0 : cancelMs, undefined, { ref: false }),
    ])
    this.#end(life, new AppError('CANCELLED', 'the daemon is stopping'))
    await Promise.race([life.child.ended, pause(killMs, undefined, { ref: false })])
  }

  #alive(): Life {
    if (this.#stopped) throw new AppError('UNAVAILABLE', 'the nfs driver is stopping')
    if (this.#life) return this.#life
    if (this.#abandoned >= mostAbandoned) {
      throw new AppError(
        'UNAVAILABLE',
        `${this.#abandoned} processes hang on ${this.label} in the kernel; see to the server ${this.#options.place.server}`,
      )
    }
    return this.#begin()
  }

  #begin(): Life {
    const child = talk(childProgram, [this.label, this.#options.root], {
      ...{ nodeArgs, env, nice: 0 },
      onMessage: (message) => this.#hear(life, message as FromChild),
    })
    const archive = new ArchiveDesk(this.#archive, this.#log)
    const life: Life = { child, calls: new Map(), left: Promise.withResolvers(), archive, away: null }
    this.#life = life
    child.send({ type: 'open', options: this.#options } satisfies ToChild)
    if (this.#watched) child.send({ type: 'watch' } satisfies ToChild)
    void child.ended.then((end) => this.#died(life, end))
    return life
  }

  #hear(life: Life, message: FromChild): void {
    if (this.#life !== life) return
    if (message.type === 'log') this.#log[message.level](message.fields, message.message)
    else if (message.type === 'news') this.#news(life, message.news)
    else if (message.type === 'lost')
      this.#lose(message.key, `this node's ${message.key} on ${this.label} is over: the server was away for too long`)
    else if (message.type === 'ended') life.left.resolve()
    else if (message.type === 'archive' || message.type === 'archive-cancel')
      life.archive.hear(message, (answer) => life.child.send(answer satisfies ToChild))
    else this.#answered(life, message)
  }

  #news(life: Life, news: SharedNews): void {
    if (news.kind === 'reach')
      life.away = news.reason === null ? null : { since: performance.now(), reason: news.reason }
    if (this.#watched) this.#tell(news)
  }

  #answered(life: Life, message: Extract<FromChild, { type: 'done' | 'failed' | 'progress' }>): void {
    const call = life.calls.get(message.id)
    if (!call) return
    if (message.type === 'progress') call.ctx?.progress(message.done, message.total, message.unit)
    else if (message.type === 'done') call.answer.resolve(message.result)
    else if (message.cancelled && call.ctx?.signal.aborted) call.answer.reject(call.ctx.signal.reason)
    else call.answer.reject(new AppError(message.error.code, message.error.message, { details: message.error.details }))
  }

  /** What only looks can be left alone; what changes something is given the time to undo it. */
  #cancel(life: Life, id: number): void {
    const call = life.calls.get(id)
    if (!call?.ctx) return
    const { answer, ctx, patience } = call
    life.child.send({ type: 'cancel', id } satisfies ToChild)
    void pause(patience === 'look' ? 0 : cancelMs, undefined, { ref: false }).then(() =>
      answer.reject(ctx.signal.reason),
    )
  }

  /**
   * Fails the calls that have waited too long; when a long one waits for a server that is away, the process is ended
   * with it.
   */
  #lookAtTheClock(): void {
    const life = this.#life
    if (!life) return
    const now = performance.now()
    const { away } = life
    const waiting = [...life.calls]
    const isHopeless = ({ patience, begunAt }: Waiting) =>
      patience === 'long' && away !== null && now - Math.max(away.since, begunAt) > awayMs
    if (away && waiting.some(([, call]) => isHopeless(call))) {
      this.#end(life, this.#unreachable(away.reason))
      return
    }
    for (const [id, { patience, begunAt, answer }] of waiting) {
      if (patience === 'long' || now - begunAt < (away ? shortMs : slowMs)) continue
      // It may still come to its end: calls about the same volume wait for it there.
      life.child.send({ type: 'cancel', id } satisfies ToChild)
      answer.reject(away ? this.#unreachable(away.reason) : this.#late())
    }
  }

  #unreachable(reason: string): AppError {
    const { server } = this.#options.place
    return new AppError(
      'UNAVAILABLE',
      `the NFS server ${server} does not answer (${this.label}: ${reason}); see to it, and try again`,
    )
  }

  #late(): AppError {
    return new AppError('TIMEOUT', `${this.label} has not done what was asked within ${slowMs / 1000} s; try again`)
  }

  /** Fails all that waits, and kills the process. */
  #end(life: Life, reason: AppError): void {
    if (this.#life === life) this.#life = undefined
    for (const { answer } of life.calls.values()) answer.reject(reason)
    life.calls.clear()
    for (const key of [...this.#lost.keys()]) this.#lose(key, reason.message)
    life.archive.end()
    this.#abandoned++
    void life.child.kill(killMs)
    void life.child.ended.then(() => this.#abandoned--)
    if (!this.#stopped && this.#watched) this.#restart()
  }

  #lose(key: string, why: string): void {
    const lost = this.#lost.get(key)
    this.#lost.delete(key)
    lost?.(new AppError('ABORTED', why))
  }

  #died(life: Life, { how, stderr }: ChildEnd): void {
    if (this.#life !== life) return
    if (!this.#stopped) this.#log.error({ share: this.label, how, stderr }, 'the process of an NFS export died')
    const why = life.child.pid === undefined ? `cannot be started: ${how}` : `died: ${how}`
    this.#end(life, new AppError('UNAVAILABLE', `the process that works on ${this.label} ${why}; try again`))
  }

  #restart(): void {
    setTimeout(() => {
      if (this.#stopped || this.#life || this.#abandoned >= mostAbandoned) return
      this.#begin()
    }, restartMs).unref()
  }
}

function onAbort(signal: AbortSignal, act: () => void): () => void {
  signal.addEventListener('abort', act, { once: true })
  return () => signal.removeEventListener('abort', act)
}
