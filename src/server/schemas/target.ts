/** What the admin API takes and gives about targets, as JSON Schema. */

import type { StoreAccess } from '../../model.ts'
import type { PassphraseView, TargetCheck, TargetService, TargetView } from '../../services/backups/contract.ts'
import { array, object, viewOf } from '../json-schema.ts'
import { bytes, count, text, textMap, time, yesOrNo } from './words.ts'

/** A target with what its repository says of itself, where that was asked. */
export type TargetDetails = ReturnType<TargetService['inspect']>

/** The types of the views, for those who may not know the services. */
export type { PassphraseView, StoreAccess, TargetCheck, TargetView }

const file = { type: 'string', description: "a file's absolute path, on the daemon's node" } as const
const bytesPerSecond = { type: 'integer', minimum: 1, description: 'bytes a second' } as const

/** How a store is reached: never a secret, only files that hold one. */
const storeAccess = viewOf<StoreAccess>()(
  object(
    {
      endpoint: { type: 'string', description: "of an S3 server that is not Amazon's" },
      region: text,
      accessKeyFile: file,
      secretKeyFile: file,
      passphraseFile: { type: 'string', description: 'absolute path; none: the repository is not encrypted' },
      pathStyle: yesOrNo,
      storageClass: text,
      encryption: { enum: ['sse-s3', 'kms'], description: 'by the S3 server' },
      kmsKeyId: text,
      uploadLimit: bytesPerSecond,
      downloadLimit: bytesPerSecond,
    },
    [
      'endpoint',
      'region',
      'accessKeyFile',
      'secretKeyFile',
      'passphraseFile',
      'pathStyle',
      'storageClass',
      'encryption',
      'kmsKeyId',
      'uploadLimit',
      'downloadLimit',
    ],
  ),
)

/** A way to open the repository. */
export const passphraseView = viewOf<PassphraseView>()(
  object({
    id: text,
    label: text,
    createdAt: time,
    inUse: { ...yesOrNo, description: "the one in the target's own file" },
  }),
)

const targetFields = {
  name: text,
  url: text,
  access: storeAccess,
  encrypted: yesOrNo,
  repositoryId: text,
  createdAt: time,
} as const

/** A target. */
export const targetView = viewOf<TargetView>()(object(targetFields))

/** A target, with the passphrases of its repository where they are known. */
export const targetDetails = viewOf<TargetDetails>()(
  object({ ...targetFields, passphrases: array(passphraseView) }, ['passphrases']),
)

/** What a look at a store and its repository has shown. */
export const targetCheck = viewOf<TargetCheck>()(
  object({
    name: text,
    url: text,
    store: object({
      kind: text,
      ifAbsent: { enum: ['kept', 'ignored'], description: 'whether the store keeps the condition of a write' },
      listing: { enum: ['at once', 'late'], description: 'when a listing shows what was written' },
      details: textMap,
    }),
    backups: count,
  }),
)

export const addTargetBody = object(
  { name: text, url: { type: 'string', description: 's3://BUCKET@REGION/PREFIX or file:///DIR' }, access: storeAccess },
  ['access'],
)
export const addPassphraseBody = object(
  {
    file: { ...file, description: 'absolute; its first line is the passphrase' },
    label: { type: 'string', description: 'to tell it from the others' },
  },
  ['label'],
)

/** Parts of paths. */
export const targetParams = object({ name: text })
export const passphraseParams = object({ name: text, id: text })

/** A URL or a target's name, and for a URL that is no target's how it is reached. */
export const repositoryFields = {
  at: { type: 'string', description: "a target's name or a URL" },
  access: { ...storeAccess, description: "for a URL that is no target's" },
} as const

/** A number of objects and their size. */
export const amount = object({ packs: count, bytes })
