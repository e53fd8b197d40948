/**
 * The options that say how a repository's store is reached. Secrets are in files whose names go to the daemon, which reads them:
 * their paths are made absolute here, where the user's working directory is known.
 */

import { AppError } from '../errors.ts'
import type { StoreAccess } from '../server/schemas/target.ts'
import { parseSize } from '../units.ts'
import type { OptionSpecs } from './command.ts'

/** For every command that takes a URL. */
export const accessOptions = {
  endpoint: { type: 'string', placeholder: 'URL', help: "of an S3 server that is not Amazon's: http[s]://HOST[:PORT]" },
  region: { type: 'string', placeholder: 'REGION', help: 'of the bucket' },
  'access-key-file': { type: 'string', placeholder: 'FILE', help: "the S3 access key (default: the AWS SDK's chain)" },
  'secret-key-file': { type: 'string', placeholder: 'FILE', help: 'the S3 secret key' },
  'passphrase-file': { type: 'string', placeholder: 'FILE', help: 'its first line opens an encrypted repository' },
  'path-style': { type: 'boolean', help: "the bucket is in the URL's path, not in the host's name" },
} as const satisfies OptionSpecs

/** For a target, which keeps them. */
export const targetOptions = {
  ...accessOptions,
  'storage-class': { type: 'string', placeholder: 'CLASS', help: 'of S3, such as STANDARD_IA' },
  encryption: { type: 'string', placeholder: 'sse-s3|kms', help: 'encryption by the S3 server' },
  'kms-key-id': { type: 'string', placeholder: 'ID', help: 'the key for --encryption kms' },
  'upload-limit': { type: 'string', placeholder: 'SIZE', help: 'the most that one job sends in a second, such as 10M' },
  'download-limit': { type: 'string', placeholder: 'SIZE', help: 'the most that one job receives in a second' },
} as const satisfies OptionSpecs

type Given<O extends OptionSpecs> = { readonly [K in keyof O]?: O[K]['type'] extends 'boolean' ? boolean : string }

function absolute(file: string | undefined): string | undefined {
  return file === undefined ? undefined : process.getBuiltinModule('node:path').resolve(file)
}

function bytes(size: string | undefined): number | undefined {
  return size === undefined ? undefined : parseSize(size)
}

const encryptions = ['sse-s3', 'kms'] as const

/** @throws INVALID_ARGUMENT */
function encryptionOf(text: string | undefined): StoreAccess['encryption'] {
  const known = encryptions.find((one) => one === text)
  if (text === undefined || known) return known
  throw new AppError(
    'INVALID_ARGUMENT',
    `--encryption '${text}' is not one of ${encryptions.join(', ')}; it is the S3 server's, and --passphrase-file that of backups`,
  )
}

/** @returns undefined when none is given @throws INVALID_ARGUMENT for a limit that is no size, an encryption that is none */
export function accessOf(options: Given<typeof targetOptions>): StoreAccess | undefined {
  const access = {
    endpoint: options.endpoint,
    region: options.region,
    accessKeyFile: absolute(options['access-key-file']),
    secretKeyFile: absolute(options['secret-key-file']),
    passphraseFile: absolute(options['passphrase-file']),
    pathStyle: options['path-style'],
    storageClass: options['storage-class'],
    encryption: encryptionOf(options.encryption),
    kmsKeyId: options['kms-key-id'],
    uploadLimit: bytes(options['upload-limit']),
    downloadLimit: bytes(options['download-limit']),
  }
  return Object.values(access).some((value) => value !== undefined) ? access : undefined
}
