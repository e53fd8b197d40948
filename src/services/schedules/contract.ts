/** What the doors may ask of schedules. Rules for all of it are in ../contract.ts. */

import type { Schedule, ScheduleState } from '../../model.ts'
import type { CallOptions } from '../journal/contract.ts'

export interface ScheduleView extends Omit<Schedule, 'volumeId' | 'paused' | 'state'>, ScheduleState {
  /** Its name. */
  readonly volume: string
  /** `asleep`: its volume is in the trash; it goes on when that, or another one of its name, is alive. */
  readonly status: 'ok' | 'running' | 'failing' | 'paused' | 'asleep'
}

export interface CreateScheduleRequest {
  readonly volume: string
  readonly cron: string
  /** Default: VOLUME, with `-2`, `-3` … behind it when that is taken. */
  readonly name?: string | undefined
  /** Default: the daemon's own. */
  readonly timeZone?: string | undefined
  readonly snapshot?: boolean | undefined
  readonly target?: string | undefined
  readonly trim?: boolean | undefined
  readonly keep?: string | undefined
  readonly keepSnapshots?: string | undefined
  /** A duration; default 0. */
  readonly jitter?: string | undefined
}

export interface ScheduleService {
  /**
   * The same again, under any name when none is given, is success and makes nothing.
   * @throws INVALID_ARGUMENT for a cron expression, time zone or retention; ALREADY_EXISTS, with the differences listed, for another one of that
   * name; NOT_FOUND for volume or target; NOT_SUPPORTED when the volume's driver has no trim
   */
  create(request: CreateScheduleRequest): Promise<ScheduleView>
  list(volume?: string): ScheduleView[]
  inspect(name: string): ScheduleView
  remove(name: string): Promise<void>
  /** Runs it now and waits for it; a run under way is joined. @throws what the run throws; FAILED_PRECONDITION while it is asleep */
  run(name: string, call?: CallOptions): Promise<ScheduleView>
  pause(name: string): Promise<ScheduleView>
  /** @throws FAILED_PRECONDITION while it is asleep */
  resume(name: string): Promise<ScheduleView>
}
