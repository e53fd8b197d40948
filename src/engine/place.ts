/**
 * Where a repository is and how it is reached, as plain JSON that a catalog may keep: secrets are named by their files,
 * never held. What opens it is site.ts.
 */

import type { Bytes } from '../model.ts'

/** One repository. What does not concern the URL's kind of store is ignored. */
export interface Place {
  /** `s3://BUCKET[@REGION][/PREFIX]` or `file:///DIR`. */
  readonly url: string
  /** Of the repository that was there before: another one, or none, is then an error. */
  readonly repositoryId?: string | undefined
  /** Make a directory that is not there. */
  readonly create?: boolean | undefined
  /** `https://HOST[:PORT]` of an S3 server that is not Amazon's. */
  readonly endpoint?: string | undefined
  readonly region?: string | undefined
  /** Absolute paths; each holds one value. Without them the SDK's own chain applies. */
  readonly accessKeyFile?: string | undefined
  readonly secretKeyFile?: string | undefined
  readonly sessionTokenFile?: string | undefined
  /** Certificates (PEM) of authorities to trust, besides those that Node knows. */
  readonly caFile?: string | undefined
  readonly pathStyle?: boolean | undefined
  readonly storageClass?: string | undefined
  /** Encryption by the server: with its own keys, or with KMS. */
  readonly sse?: 'sse-s3' | 'kms' | undefined
  readonly kmsKeyId?: string | undefined
  readonly checksums?: 'when-supported' | 'when-required' | undefined
  readonly deletes?: 'batch' | 'single' | undefined
  /** Bytes a second. */
  readonly uploadLimit?: Bytes | undefined
  readonly downloadLimit?: Bytes | undefined
  /** Absolute; its first line is the passphrase. Absent: the repository is not encrypted. */
  readonly passphraseFile?: string | undefined
  /** How long a prune waits between condemning and deleting; default 24 h. All nodes must agree on it. */
  readonly graceMs?: number | undefined
}
