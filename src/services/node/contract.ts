/** What the doors may ask about this node. Rules for all of it are in ../contract.ts. */

import type { Bytes, Finding, Timestamp } from '../../model.ts'
import type { TargetView } from '../backups/contract.ts'

export interface DriverView {
  readonly name: string
  readonly scope: 'local' | 'global'
  readonly state: 'starting' | 'ready' | 'failed'
  /** Why it is not ready. */
  readonly error?: string
  readonly volumes: number
  readonly capabilities: readonly string[]
  readonly facts: Readonly<Record<string, string>>
  readonly storage: { readonly size: Bytes; readonly free: Bytes } | null
}

export interface InfoView {
  readonly version: string
  readonly node: string
  readonly pid: number
  readonly startedAt: Timestamp
  readonly root: string
  readonly socket: string
  readonly pluginSocket: string
  readonly defaultDriver: string
  readonly drivers: readonly DriverView[]
  readonly counts: {
    readonly volumes: number
    readonly mounted: number
    readonly snapshots: number
    readonly trash: number
    readonly schedules: number
  }
  readonly targets: readonly TargetView[]
  readonly trashKeepMs: number
}

export interface NodeService {
  info(): Promise<InfoView>
  /** Findings, errors first; empty when all is well. Each check has a deadline: one that hangs is itself a finding. */
  doctor(): Promise<Finding[]>
  /** The node in numbers, in Prometheus' text format; within 2 s, whatever a driver does. */
  metrics(): Promise<string>
}
