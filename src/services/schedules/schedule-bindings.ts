/**
 * Tells the log when a schedule has gone over to another volume of the same name, or is gone with its volume. The catalog sees to both by itself, in
 * the transaction that brings a volume to life or ends it; here is only noticed what has changed since the last look.
 */

import type { Log } from '../../driver.ts'
import type { Schedule } from '../../model.ts'

type Known = Pick<Schedule, 'volumeId' | 'createdAt'>

export class ScheduleBindings {
  readonly #log: Log
  readonly #removed = new Set<string>()
  #known = new Map<string, Known>()

  constructor(log: Log) {
    this.#log = log
  }

  /** Compares all schedules with those of the last look; the first look tells nothing. */
  look(schedules: readonly Schedule[]): void {
    const found = new Map(schedules.map((schedule) => [schedule.name, schedule]))
    for (const [name, before] of this.#known) {
      const schedule = found.get(name)
      const fields = { schedule: name, volumeId: before.volumeId }
      if (!schedule && this.#removed.delete(name)) continue
      if (!schedule) this.#log.warn(fields, 'a schedule is gone: its volume was removed for good')
      else if (schedule.createdAt === before.createdAt && schedule.volumeId !== before.volumeId) {
        const now = { ...fields, volumeId: schedule.volumeId, before: before.volumeId }
        this.#log.warn(now, 'a schedule goes on with another volume of the same name: its own is in the trash')
      }
    }
    this.#known = found
  }

  /** A user removes it: nothing to tell of. */
  expectRemoval(name: string): void {
    this.#removed.add(name)
  }
}
