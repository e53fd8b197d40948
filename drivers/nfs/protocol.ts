/**
 * What the daemon and the process of an export say to each other: structured clones over the IPC channel. Types only.
 */

import type { SharedNews } from '../../src/driver.ts'
import type { ErrorCode, ErrorDetails } from '../../src/errors.ts'
import type { LeaseTimes } from './nodes.ts'
import type { NfsExport } from './options.ts'

/** What the process of an export is started with. */
export interface SiteOptions {
  readonly place: NfsExport
  /** The daemon's root directory, absolute. */
  readonly root: string
  /** This node, for the others. */
  readonly node: string
  readonly name: string
  readonly times: LeaseTimes
}

export type ToChild =
  | { readonly type: 'open'; readonly options: SiteOptions }
  | { readonly type: 'call'; readonly id: number; readonly method: string; readonly args: readonly unknown[] }
  | { readonly type: 'cancel'; readonly id: number }
  | { readonly type: 'watch' }
  | { readonly type: 'end' }
  | ArchiveAnswer

/** A call of `TreeArchive`, which the daemon makes for the process. */
export type ArchiveCall =
  | { readonly method: 'save'; readonly args: [root: string, copy: { readonly id: string; readonly group: string }] }
  | { readonly method: 'find'; readonly args: [id: string] }
  | { readonly method: 'restore'; readonly args: [id: string, directory: string] }
  | { readonly method: 'delete'; readonly args: [ids: readonly string[]] }
  | { readonly method: 'prune'; readonly args: [] }

/** What the daemon says of such a call. */
export type ArchiveAnswer =
  | { readonly type: 'archive-done'; readonly id: number; readonly result: unknown }
  | { readonly type: 'archive-failed'; readonly id: number; readonly error: ErrorMessage }
  | {
      readonly type: 'archive-progress'
      readonly id: number
      readonly done: number
      readonly total: number | null
      readonly unit: 'bytes' | 'files'
    }

export interface ErrorMessage {
  readonly code: ErrorCode
  readonly message: string
  readonly details: ErrorDetails
}

export type FromChild =
  | { readonly type: 'done'; readonly id: number; readonly result: unknown }
  /** `cancelled`: because it was asked to. */
  | { readonly type: 'failed'; readonly id: number; readonly error: ErrorMessage; readonly cancelled: boolean }
  | {
      readonly type: 'progress'
      readonly id: number
      readonly done: number
      readonly total: number | null
      readonly unit: 'bytes' | 'files'
    }
  | {
      readonly type: 'log'
      readonly level: 'debug' | 'info' | 'warn' | 'error'
      readonly fields: object
      readonly message: string
    }
  | { readonly type: 'news'; readonly news: SharedNews }
  /** What it held for this daemon, and has lost: its turn at a key, or a lease. */
  | { readonly type: 'lost'; readonly key: string }
  | { readonly type: 'archive'; readonly id: number; readonly call: ArchiveCall }
  | { readonly type: 'archive-cancel'; readonly id: number }
  | { readonly type: 'ended' }
