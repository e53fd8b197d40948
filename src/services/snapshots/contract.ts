/** What the doors may ask of snapshots. Rules for all of it are in ../contract.ts. */

import type { Bytes, Timestamp } from '../../model.ts'
import type { CallOptions } from '../journal/contract.ts'

export interface SnapshotView {
  readonly volume: string
  readonly name: string
  readonly createdAt: Timestamp
  readonly size: Bytes | null
  readonly used: Bytes | null
  readonly labels: Readonly<Record<string, string>>
  readonly atomic: boolean
  /** Where it is mounted read-only, or null. */
  readonly mountpoint: string | null
}

export interface SnapshotService {
  /**
   * @param request.name default: `auto-` and the time in UTC, `auto-20261123-100000`
   * @param request.pause pause the containers that use the volume (through Docker) while a slow copy is made
   */
  create(
    volume: string,
    request: {
      name?: string | undefined
      labels?: Readonly<Record<string, string>> | undefined
      pause?: boolean | undefined
      /** Instead of the volume's own; a duration. */
      hookTimeout?: string | undefined
    },
    call?: CallOptions,
  ): Promise<SnapshotView>
  list(volume?: string): SnapshotView[]
  inspect(volume: string, snapshot: string): SnapshotView
  remove(volume: string, snapshot: string, call?: CallOptions): Promise<void>
  /** @throws IN_USE while the volume is used */
  revert(volume: string, snapshot: string, call?: CallOptions): Promise<void>
  /** Mounts it read-only; a second call changes nothing. @returns the mountpoint @param at also bind-mount it there */
  mount(volume: string, snapshot: string, at?: string): Promise<string>
  unmount(volume: string, snapshot: string): Promise<void>
  /** Compares two snapshots, `VOLUME@S` each; `changes` are what happened from `from` to `to`. */
  diff(
    from: string,
    to: string,
    call?: CallOptions,
  ): Promise<{ path: string; change: 'added' | 'removed' | 'modified' }[]>
}
