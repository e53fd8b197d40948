/**
 * What the admin API takes and gives about backups, as JSON Schema. Names of repositories and backups are in bodies: they hold
 * slashes, and how a store is reached goes with them.
 */

import type {
  BackupFileView,
  BackupService,
  BackupView,
  ForgetDecision,
  PruneView,
  RestoredView,
  VerifyView,
} from '../../services/backups/contract.ts'
import { array, nullable, object, viewOf } from '../json-schema.ts'
import { volumeView } from '../schemas.ts'
import { newVolume, newVolumeKeys } from './new-volume.ts'
import { amount, repositoryFields } from './target.ts'
import { bytes, count, detach, text, textMap, textOrNull, time, yesOrNo } from './words.ts'

/** What forget has decided and what its prune has done. */
export type ForgetView = Awaited<ReturnType<BackupService['forget']>>
/** What a repair has done. */
export type RepairView = Awaited<ReturnType<BackupService['repair']>>

/** The types of the views, for those who may not know the services. */
export type { BackupFileView, BackupView, ForgetDecision, PruneView, RestoredView, VerifyView }

/** A backup. */
export const backupView = viewOf<BackupView>()(
  object(
    {
      id: text,
      url: text,
      volume: text,
      snapshot: textOrNull,
      createdAt: time,
      size: { ...bytes, description: 'logical bytes' },
      added: { ...bytes, description: 'bytes that it stored' },
      kind: { enum: ['tree', 'block'] },
      host: text,
      labels: textMap,
      parent: textOrNull,
      files: { ...count, description: 'entries of a tree' },
      changed: { ...count, description: 'files that changed while they were read' },
      damaged: { enum: [true], description: 'a verify found that it lacks something' },
    },
    ['damaged'],
  ),
)

/** A volume, and the backup that is in it now. */
export const restoredView = viewOf<RestoredView>()(
  object({ ...volumeView.properties, restoredFrom: backupView }, ['statusDetail']),
)

/** An entry of a tree. */
export const backupFileView = viewOf<BackupFileView>()(
  object({
    path: text,
    type: { enum: ['file', 'directory', 'symlink', 'fifo', 'character', 'block', 'socket'] },
    mode: { ...count, description: 'permission bits' },
    uid: count,
    gid: count,
    size: bytes,
    modifiedAt: time,
    target: { type: ['string', 'null'], description: 'of a symlink' },
  }),
)

/** What a prune has done, or with dryRun would do. */
export const pruneView = viewOf<PruneView>()(
  object({
    deleted: amount,
    condemned: { ...amount, description: 'a prune after the grace period deletes it' },
    copied: bytes,
    remaining: bytes,
  }),
)

/** What is kept, why, and what is not. */
export const forgetView = viewOf<ForgetView>()(
  object({
    decisions: array(object({ backup: backupView, keep: yesOrNo, reasons: array(text) })),
    prune: nullable(pruneView),
  }),
)

const problem = object({ object: text, fact: text })

/** What verify has found; damage is no error of the request. */
export const verifyView = viewOf<VerifyView>()(
  object({
    backups: count,
    packs: count,
    chunks: count,
    bytesRead: bytes,
    problems: { ...array(problem), description: 'none when all is well' },
    damaged: array(object({ url: text, volume: text, paths: array(text) })),
  }),
)

export const repairView = viewOf<RepairView>()(object({ packs: count, leftOut: array(problem), lostChunks: count }))

const backupFields = {
  backup: { type: 'string', description: 'TARGET/ID or URL?backup=ID; VOLUME@latest for an id' },
  access: repositoryFields.access,
} as const

const repositoryRef = object(repositoryFields, ['access'])
const backupRef = object(backupFields, ['access'])
const readData = { type: 'boolean', description: 'read and check every byte' } as const

/** Bodies. */
export const createBackupBody = object(
  {
    volume: text,
    snapshot: { type: 'string', description: 'an existing one; without it, what the volume holds now' },
    to: repositoryRef,
    labels: textMap,
    pause: { type: 'boolean', description: 'pause the containers that use the volume while it is read or copied' },
    detach,
  },
  ['snapshot', 'labels', 'pause', 'detach'],
)
export const listBackupsBody = object({ ...repositoryFields, volume: text }, ['access', 'volume'])
export const backupBody = backupRef
export const listFilesBody = object({ ...backupFields, path: { type: 'string', description: 'none: all' } }, [
  'access',
  'path',
])
export const restoreBackupBody = object(
  {
    from: backupRef,
    to: { type: 'string', description: 'the volume' },
    path: { type: 'string', minLength: 1, description: 'only this and what is below it' },
    inPlace: { type: 'boolean', description: "replace the volume's content, after a snapshot of it" },
    detach,
    ...newVolume,
  },
  ['path', 'inPlace', 'detach', ...newVolumeKeys],
)
export const removeBackupsBody = object({ backups: array(backupRef) })
export const verifyBody = object({ of: { anyOf: [repositoryRef, backupRef] }, readData, detach }, [
  'readData',
  'detach',
])
export const repairBody = object({ ...repositoryFields, readData, detach }, ['access', 'readData', 'detach'])
export const forgetBody = object(
  {
    ...repositoryFields,
    volume: text,
    keep: { type: 'string', description: 'such as last=3,daily=7,within=30d' },
    labels: { ...textMap, description: 'only backups with all of these; the others are neither counted nor removed' },
    timeZone: text,
    dryRun: yesOrNo,
    prune: yesOrNo,
    detach,
  },
  ['access', 'labels', 'timeZone', 'dryRun', 'prune', 'detach'],
)
export const pruneBody = object({ ...repositoryFields, dryRun: yesOrNo, detach }, ['access', 'dryRun', 'detach'])
