/**
 * Watches the pool: its status as of a moment ago for whoever asks, one line in the log each time a mark is crossed, and more
 * room as soon as its devices have got some.
 */

import type { Log } from '../../src/driver.ts'
import { isAppError } from '../../src/errors.ts'
import type { Settings } from './options.ts'
import { extendPool, type Pool, readStatus } from './pool.ts'
import type { PoolStatus, Room } from './status.ts'

/** How old a status may be, and how often it is looked at when nobody asks. */
const freshMs = 3_000
const periodMs = 5_000
/** Percent. */
const marks = [80, 90] as const

export class PoolWatch {
  readonly #pool: Pool
  readonly #settings: Settings
  readonly #log: Log
  readonly #timer: NodeJS.Timeout
  readonly #stopped = new AbortController()
  #last: { readonly status: PoolStatus; readonly at: number }
  #running: Promise<PoolStatus> | undefined

  /** @param status as it is now */
  constructor(pool: Pool, settings: Settings, status: PoolStatus, log: Log) {
    this.#pool = pool
    this.#settings = settings
    this.#log = log
    this.#last = { status, at: performance.now() }
    this.#tellRoom(undefined, status)
    this.#timer = setInterval(() => void this.#look(), periodMs).unref()
  }

  /** At most seconds old. */
  async status(): Promise<PoolStatus> {
    if (performance.now() - this.#last.at < freshMs) return this.#last.status
    return this.#refresh()
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer)
    this.#stopped.abort(new Error('the driver stops'))
    await this.#running?.catch(() => undefined)
  }

  async #look(): Promise<void> {
    try {
      if (!(await extendPool(this.#pool, this.#settings, await this.#refresh()))) return
      this.#log.info({ pool: this.#pool.name }, 'the thin pool has grown with its devices')
      await this.#refresh()
    } catch (error) {
      if (this.#stopped.signal.aborted || !isAppError(error)) return
      this.#log.warn({ pool: this.#pool.name, error: error.message }, 'cannot look at the thin pool')
    }
  }

  /** One at a time, however many ask. */
  #refresh(): Promise<PoolStatus> {
    this.#running ??= this.#read().finally(() => (this.#running = undefined))
    return this.#running
  }

  async #read(): Promise<PoolStatus> {
    const status = await readStatus(this.#pool, this.#stopped.signal)
    const before = this.#last.status
    this.#last = { status, at: performance.now() }
    this.#tellRoom(before, status)
    this.#tellMode(before, status)
    return status
  }

  #tellRoom(before: PoolStatus | undefined, now: PoolStatus): void {
    for (const what of ['data', 'metadata'] as const) {
      const mark = crossedMark(before?.[what], now[what])
      if (mark === null) continue
      const { used, total } = now[what]
      const text = `more than ${mark} % of the thin pool's ${what} are used; remove snapshots and volumes, or enlarge it`
      this.#log.warn({ pool: this.#pool.name, used, total }, text)
    }
  }

  #tellMode(before: PoolStatus, { mode, needsCheck }: PoolStatus): void {
    if (mode === before.mode && needsCheck === before.needsCheck) return
    const fields = { pool: this.#pool.name, mode, needsCheck }
    if (mode === 'rw') this.#log.info(fields, 'the thin pool can be written to again')
    else this.#log.error(fields, 'the thin pool cannot be written to; see holdfast doctor')
  }
}

/** The highest mark, in percent, that was passed between two looks, or null. Pure. */
export function crossedMark(before: Room | undefined, now: Room): number | null {
  const percent = ({ used, total }: Room): number => (total === 0 ? 0 : (used / total) * 100)
  const was = before ? percent(before) : 0
  return marks.findLast((mark) => was < mark && percent(now) >= mark) ?? null
}
