/**
 * What the daemon and the process of a job say to each other: structured clones over the IPC channel, nowhere else.
 * Types only.
 */

import type { ErrorCode, ErrorDetails } from '../errors.ts'
import type { KnownKey } from '../repository/repository.ts'
import type { Place } from './place.ts'

/** The first message to the child; one job, one process. */
export interface StartMessage {
  readonly type: 'start'
  readonly place: Place
  readonly job: string
  readonly args: unknown
  readonly knownKey: KnownKey | null
}

export type ToChild =
  | StartMessage
  /** What was handed out has been taken. */
  | { readonly type: 'taken' }
  | { readonly type: 'cancel' }

export interface ErrorMessage {
  readonly code: ErrorCode
  readonly message: string
  readonly details: ErrorDetails
}

/** The last message is `done` or `failed`. */
export type FromChild =
  | {
      readonly type: 'progress'
      readonly done: number
      readonly total: number | null
      readonly unit: 'bytes' | 'files'
    }
  | { readonly type: 'take'; readonly items: readonly unknown[] }
  | { readonly type: 'key'; readonly knownKey: KnownKey }
  | { readonly type: 'done'; readonly result: unknown }
  | { readonly type: 'failed'; readonly error: ErrorMessage }
