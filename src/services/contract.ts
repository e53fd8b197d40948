/**
 * What the doors (the admin API in server/, Docker's protocol in plugin/) may ask of Holdfast. Services know no HTTP; every
 * method throws only `AppError`. Times are RFC 3339 UTC, sizes bytes; lists are ordered by creation time, oldest first.
 */

import type { BackupService, TargetService } from './backups/contract.ts'
import type { OperationService } from './journal/contract.ts'
import type { NodeService } from './node/contract.ts'
import type { ScheduleService } from './schedules/contract.ts'
import type { SnapshotService } from './snapshots/contract.ts'
import type { MountService, TrashService, VolumeService } from './volumes/contract.ts'

/** Everything behind the doors. */
export interface Services {
  readonly version: string
  readonly volumes: VolumeService
  readonly mounts: MountService
  readonly snapshots: SnapshotService
  readonly trash: TrashService
  readonly targets: TargetService
  readonly backups: BackupService
  readonly schedules: ScheduleService
  readonly operations: OperationService
  readonly node: NodeService
}
