/**
 * What the admin API takes and gives, as JSON Schema; targets, backups and schedules have files of their own. The views are the services'; nothing here checks a value's meaning (a size,
 * a name): that is the services' part, so that every door refuses alike.
 */

import type { Finding } from '../model.ts'
import type { OperationView } from '../services/journal/contract.ts'
import type { InfoView } from '../services/node/contract.ts'
import type { SnapshotView } from '../services/snapshots/contract.ts'
import type {
  CreateVolumeRequest,
  NewVolume,
  TakeoverView,
  TrashView,
  UpdateVolumeRequest,
  VolumeView,
} from '../services/volumes/contract.ts'
import { array, nullable, object, viewOf } from './json-schema.ts'
import { newVolume, newVolumeKeys } from './schemas/new-volume.ts'
import { targetView } from './schemas/target.ts'
import { bytes, bytesOrNull, count, flag, text, textMap, time, timeOrNull } from './schemas/words.ts'

/** The types of the views, for those who may not know the services. */
export type {
  CreateVolumeRequest,
  Finding,
  InfoView,
  NewVolume,
  OperationView,
  SnapshotView,
  TakeoverView,
  TrashView,
  UpdateVolumeRequest,
  VolumeView,
}

const scope = { enum: ['local', 'global'] } as const

/** Every error's body; the code is one of the error table, and stands for the HTTP status. */
export const errorBody = object({
  error: object({ code: text, message: text, details: { type: 'object', additionalProperties: true } as const }),
})

const hooks = object(
  { pre: text, post: text, container: text, timeoutMs: { type: 'number', minimum: 0, description: 'ms' } },
  ['pre', 'post', 'container', 'timeoutMs'],
)

/** A volume. */
export const volumeView = viewOf<VolumeView>()(
  object(
    {
      name: text,
      driver: text,
      size: bytesOrNull,
      used: bytesOrNull,
      createdAt: time,
      labels: textMap,
      options: textMap,
      mountpoint: { type: ['string', 'null'], description: 'null when not mounted' },
      mounts: array(object({ id: text, since: time, stale: { type: 'boolean' } })),
      onRemove: { enum: ['trash', 'delete', 'retain'] },
      origin: {
        type: ['string', 'null'],
        description: 'VOLUME@SNAPSHOT that it was cloned from, or the URL of the backup that it was restored from',
      },
      hooks: { ...hooks, description: 'run before and after a snapshot' },
      scope,
      nodes: {
        ...array(object({ name: text, alive: { type: 'boolean', description: 'heard of in time' } })),
        description: 'other nodes that have it mounted',
      },
      status: { enum: ['ok', 'degraded', 'missing'] },
      statusDetail: text,
      snapshots: array(object({ name: text, createdAt: time })),
      lastBackup: nullable(object({ url: text, createdAt: time })),
    },
    ['statusDetail'],
  ),
)

/** A snapshot. */
export const snapshotView = viewOf<SnapshotView>()(
  object({
    volume: text,
    name: text,
    createdAt: time,
    size: bytesOrNull,
    used: bytesOrNull,
    labels: textMap,
    atomic: { type: 'boolean', description: 'false: copied file by file while the volume could be written to' },
    mountpoint: { type: ['string', 'null'], description: 'where it is mounted read-only' },
  }),
)

/** A volume in the trash. */
export const trashView = viewOf<TrashView>()(
  object({
    name: text,
    id: text,
    driver: text,
    size: bytesOrNull,
    createdAt: time,
    deletedAt: time,
    purgeAt: { type: ['string', 'null'], format: 'date-time', description: 'null: kept until it is emptied by name' },
    snapshots: count,
  }),
)

/** An operation; progress and error are null where there is none. */
export const operationView = viewOf<OperationView>()(
  object({
    id: text,
    kind: text,
    subject: text,
    state: { enum: ['running', 'done', 'failed', 'cancelled', 'interrupted'] },
    progress: nullable(
      object({
        done: { type: 'number' },
        total: { type: ['number', 'null'] },
        unit: text,
        rate: { type: 'number', description: 'units a second since the start' },
        secondsLeft: { type: ['number', 'null'], description: 'at that rate' },
      }),
    ),
    startedAt: time,
    finishedAt: timeOrNull,
    error: nullable(object({ code: text, message: text })),
  }),
)

const driverView = object(
  {
    name: text,
    scope,
    state: { enum: ['starting', 'ready', 'failed'] },
    error: text,
    volumes: count,
    capabilities: array(text),
    facts: textMap,
    storage: nullable(object({ size: bytes, free: bytes })),
  },
  ['error'],
)

/** The node. */
export const infoView = viewOf<InfoView>()(
  object({
    version: text,
    node: text,
    pid: count,
    startedAt: time,
    root: text,
    socket: text,
    pluginSocket: text,
    defaultDriver: text,
    drivers: array(driverView),
    counts: object({ volumes: count, mounted: count, snapshots: count, trash: count, schedules: count }),
    targets: array(targetView),
    trashKeepMs: count,
  }),
)

/** A finding of doctor. */
export const findingView = viewOf<Finding>()(
  object({ severity: { enum: ['error', 'warning'] }, check: text, subject: text, message: text, remedy: text }),
)

/** A takeover. */
export const takeoverView = viewOf<TakeoverView>()(
  object({
    name: text,
    from: { type: ['string', 'null'], description: 'the node that had it; null: nobody, or this one' },
    risk: { type: ['string', 'null'], description: 'what may be lost or damaged by it' },
  }),
)

/** Small answers. */
export const versionView = object({ version: text })
export const mountedView = object({ mountpoint: text })
export const removedView = object({ removed: array(text) })
export const trimmedView = object({ name: text, trimmed: bytes })
export const usageView = object({ name: text, used: bytesOrNull, size: bytesOrNull })
export const changeView = object({ path: text, change: { enum: ['added', 'removed', 'modified'] } })

/** Bodies: sizes and names are text as it was typed. */
export const createVolumeBody = object(
  {
    name: text,
    fromSnapshot: { type: 'string', description: 'VOLUME@SNAPSHOT' },
    fromBackup: {
      type: 'string',
      description: 'TARGET/VOLUME@latest, TARGET/ID or URL?backup=ID; with target only what is behind the slash',
    },
    target: { type: 'string', description: 'whose credentials open fromBackup' },
    ...newVolume,
  },
  ['fromSnapshot', 'fromBackup', 'target', ...newVolumeKeys],
)
export const createSnapshotBody = object(
  {
    name: text,
    labels: textMap,
    pause: { type: 'boolean', description: 'pause the containers that use the volume' },
    hookTimeout: { type: 'string', description: "a duration, instead of the volume's own" },
  },
  ['name', 'labels', 'pause', 'hookTimeout'],
)
export const resizeBody = object({ size: { type: 'string', description: 'such as 20G' } })
export const takeoverBody = object(
  { force: { type: 'boolean', description: 'also while the node that has it is alive' } },
  ['force'],
)
export const mountBody = object({ at: { type: 'string', description: 'a directory to mount it on as well' } }, ['at'])
export const namesBody = object({ names: { ...array(text), description: 'none: all' } }, ['names'])
export const restoreBody = object({ as: { type: 'string', description: 'the new name' } }, ['as'])
export const diffBody = object({ from: text, to: text })

/** Queries: flags are the words true and false. */
export const volumeFilterQuery = object(
  {
    driver: text,
    name: { type: 'string', description: '* and ? are wildcards' },
    label: { anyOf: [text, array(text)] },
    dangling: flag,
  },
  ['driver', 'name', 'label', 'dangling'],
)
export const removeVolumeQuery = object({ purge: flag }, ['purge'])
export const listSnapshotsQuery = object({ volume: text }, ['volume'])
export const listOperationsQuery = object({ all: flag }, ['all'])

/** Parts of paths. */
export const volumeParams = object({ name: text })
export const snapshotParams = object({ name: text, snapshot: text })
export const trashParams = object({ ref: { type: 'string', description: 'name or id' } })
export const operationParams = object({ id: text })

const uuid = '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$'

/** Lets the caller name the operation that its call starts, so that it can watch and cancel it while it waits. */
export const operationHeaders = {
  type: 'object',
  properties: {
    'holdfast-operation': { type: 'string', pattern: uuid, description: "the operation's id: a UUID of yours" },
  },
} as const
