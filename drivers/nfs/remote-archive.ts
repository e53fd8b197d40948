/**
 * The archive of snapshots on a share, for exports whose server cannot copy by itself: its work is the daemon's, which
 * alone can start the engine's processes; here, in the process of the export, is the asking, and whose turn it is: one
 * node at a time works on it.
 */

import type { DriverContext, TreeArchive } from '../../src/driver.ts'
import { AppError } from '../../src/errors.ts'
import type { ArchiveAnswer, ArchiveCall, FromChild } from './protocol.ts'
import type { Turns } from './turns.ts'

/** No name and no id of a volume. */
const turnKey = '~archive'
/** Another node's copy may take as long. */
const waitMs = 15 * 60_000

interface Waiting {
  readonly ctx: DriverContext
  readonly answer: PromiseWithResolvers<unknown>
}

export class RemoteArchive implements TreeArchive {
  readonly #say: (message: FromChild) => void
  readonly #waiting = new Map<number, Waiting>()
  #turns: Turns | undefined
  #ids = 0

  constructor(say: (message: FromChild) => void) {
    this.#say = say
  }

  /** From now on nodes are kept apart by these. */
  use(turns: Turns): void {
    this.#turns = turns
  }

  save(ctx: DriverContext, root: string, copy: { readonly id: string; readonly group: string }) {
    return this.#ask<{ added: number }>(ctx, { method: 'save', args: [root, copy] })
  }

  find(ctx: DriverContext, id: string) {
    return this.#ask<{ added: number } | null>(ctx, { method: 'find', args: [id] })
  }

  restore(ctx: DriverContext, id: string, directory: string) {
    return this.#ask<void>(ctx, { method: 'restore', args: [id, directory] })
  }

  delete(ctx: DriverContext, ids: readonly string[]) {
    return this.#ask<void>(ctx, { method: 'delete', args: [ids] })
  }

  prune(ctx: DriverContext) {
    return this.#ask<void>(ctx, { method: 'prune', args: [] })
  }

  /** What the daemon says of a call. */
  hear(message: ArchiveAnswer): void {
    const waiting = this.#waiting.get(message.id)
    if (!waiting) return
    if (message.type === 'archive-progress') waiting.ctx.progress(message.done, message.total, message.unit)
    else if (message.type === 'archive-done') waiting.answer.resolve(message.result)
    else waiting.answer.reject(new AppError(message.error.code, message.error.message, message.error))
  }

  /** Another node may have the turn by now: what is under way is ended. */
  forfeit(): void {
    const lost = new AppError('ABORTED', 'the server was away for too long; try again')
    for (const [id, { answer }] of this.#waiting) {
      this.#say({ type: 'archive-cancel', id })
      answer.reject(lost)
    }
  }

  #ask<T>(ctx: DriverContext, call: ArchiveCall): Promise<T> {
    if (!this.#turns) throw new AppError('INTERNAL', 'the archive was asked before the share was open')
    return this.#turns.with(turnKey, ctx.signal, () => this.#call<T>(ctx, call), waitMs)
  }

  async #call<T>(ctx: DriverContext, call: ArchiveCall): Promise<T> {
    const id = ++this.#ids
    const answer = Promise.withResolvers<unknown>()
    this.#waiting.set(id, { ctx, answer })
    const cancel = () => this.#say({ type: 'archive-cancel', id })
    ctx.signal.addEventListener('abort', cancel, { once: true })
    this.#say({ type: 'archive', id, call })
    try {
      return (await answer.promise) as T
    } catch (error) {
      ctx.signal.throwIfAborted()
      throw error
    } finally {
      ctx.signal.removeEventListener('abort', cancel)
      this.#waiting.delete(id)
    }
  }
}
