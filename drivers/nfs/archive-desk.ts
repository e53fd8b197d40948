/**
 * The daemon's side of the archive on a share (remote-archive.ts): makes the calls that the process of the export asks
 * for.
 */

import type { DriverContext, Log, TreeArchive } from '../../src/driver.ts'
import { AppError, toAppError } from '../../src/errors.ts'
import type { ArchiveAnswer, ArchiveCall, FromChild } from './protocol.ts'

export class ArchiveDesk {
  readonly #archive: TreeArchive
  readonly #log: Log
  readonly #calls = new Map<number, AbortController>()

  constructor(archive: TreeArchive, log: Log) {
    this.#archive = archive
    this.#log = log
  }

  /** Makes one call, or cancels it. @param answer takes what comes of it */
  hear(
    message: Extract<FromChild, { type: 'archive' | 'archive-cancel' }>,
    answer: (answer: ArchiveAnswer) => void,
  ): void {
    if (message.type === 'archive') void this.#run(message.id, message.call, answer)
    else this.#calls.get(message.id)?.abort(new AppError('CANCELLED', 'cancelled'))
  }

  /** Cancels all: nobody waits for them any more, and another node may soon work on the archive. */
  end(): void {
    for (const call of this.#calls.values()) call.abort(new AppError('CANCELLED', 'nobody waits for this any more'))
    this.#calls.clear()
  }

  async #run(id: number, call: ArchiveCall, answer: (answer: ArchiveAnswer) => void): Promise<void> {
    const controller = new AbortController()
    this.#calls.set(id, controller)
    const progress: DriverContext['progress'] = (done, total, unit) =>
      answer({ type: 'archive-progress', id, done, total, unit })
    try {
      const result = await this.#make(call, { signal: controller.signal, log: this.#log, progress })
      answer({ type: 'archive-done', id, result: result ?? null })
    } catch (error) {
      const { code, message } = toAppError(error)
      answer({ type: 'archive-failed', id, error: { code, message, details: {} } })
    } finally {
      if (this.#calls.get(id) === controller) this.#calls.delete(id)
    }
  }

  #make(call: ArchiveCall, ctx: DriverContext): Promise<unknown> {
    switch (call.method) {
      case 'save':
        return this.#archive.save(ctx, ...call.args)
      case 'find':
        return this.#archive.find(ctx, ...call.args)
      case 'restore':
        return this.#archive.restore(ctx, ...call.args)
      case 'delete':
        return this.#archive.delete(ctx, ...call.args)
      case 'prune':
        return this.#archive.prune(ctx)
    }
  }
}
