/** What the doors may ask of operations, and how they follow one. Rules for all of it are in ../contract.ts. */

import type { OperationState, Timestamp } from '../../model.ts'

export interface OperationView {
  readonly id: string
  readonly kind: string
  readonly subject: string
  readonly state: OperationState
  readonly progress: {
    readonly done: number
    readonly total: number | null
    readonly unit: string
    /** Units a second since the start. */
    readonly rate: number
    /** Seconds left at that rate; null when the total is unknown. */
    readonly secondsLeft: number | null
  } | null
  readonly startedAt: Timestamp
  readonly finishedAt: Timestamp | null
  readonly error: { readonly code: string; readonly message: string } | null
}

/** How a door follows the work that its call starts. */
export interface CallOptions {
  /** Id for the operation, chosen by the caller (a UUID), so that it can watch and cancel it while it waits. */
  readonly operationId?: string | undefined
  /** Told once the operation is in the journal: from then it survives this process. */
  readonly onStarted?: ((id: string) => void) | undefined
}

/** Wherever an id is asked for, its first 8 digits or more do, when they are nobody else's. */
export interface OperationService {
  /** Running ones; with `all` the finished ones that are still remembered too. */
  list(all?: boolean): OperationView[]
  /** @throws NOT_FOUND */
  inspect(id: string): OperationView
  /** Asks a running one to stop; it has ended when its state says so. @throws NOT_FOUND, FAILED_PRECONDITION when it has ended */
  cancel(id: string): OperationView
}
