/** Key files for a test server. */

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { S3KeyFiles } from '../../src/objectstore/s3-credentials.ts'

/** Writes the server's keys into two files of `directory`, over those that are there. */
export function writeKeyFiles(directory: string, keys: { accessKey: string; secretKey: string }): S3KeyFiles {
  const files = { accessKeyFile: join(directory, 'access-key'), secretKeyFile: join(directory, 'secret-key') }
  writeFileSync(files.accessKeyFile, `${keys.accessKey}\n`, { mode: 0o600 })
  writeFileSync(files.secretKeyFile, keys.secretKey, { mode: 0o600 })
  return files
}
