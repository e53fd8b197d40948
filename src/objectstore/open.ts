/** Opens the object store that a URL names (store-url.ts). What it gives retries and keeps the limits. */

import { AppError } from '../errors.ts'
import { openDirStore } from './dir.ts'
import { type Limits, limited } from './limited.ts'
import type { ObjectStore } from './objectstore.ts'
import { type RetryPolicy, retrying } from './retrying.ts'
import type { S3StoreOptions } from './s3.ts'
import { parseStoreUrl } from './store-url.ts'

/** Everything but the URL. What does not concern the URL's kind of store is ignored. */
export interface OpenStoreOptions extends Omit<S3StoreOptions, 'bucket' | 'prefix'>, Partial<Limits> {
  /** Make a directory that is not there; buckets are never made. */
  readonly create?: boolean | undefined
  readonly retry?: RetryPolicy | undefined
  readonly signal?: AbortSignal | undefined
}

const parallelS3 = 8
const parallelDir = 4

/**
 * Opens a store. Whether an S3 server can be reached and likes its keys shows with the first call.
 * @throws INVALID_ARGUMENT for a bad URL or endpoint, FAILED_PRECONDITION when the directory is not there
 */
export async function openObjectStore(url: string, options: OpenStoreOptions = {}): Promise<ObjectStore> {
  const parsed = parseStoreUrl(url)
  if (parsed.kind === 'dir') {
    const store = await openDirStore(parsed.path, options)
    return retrying(limited(store, { ...options, parallel: options.parallel ?? parallelDir }), options.retry)
  }
  checkEndpoint(options.endpoint)
  checkRegions(parsed.region, options.region)
  const { bucket, prefix, region = options.region } = parsed
  // Not before it is wanted: what it is made of doubles the time that a job's process takes to load its modules.
  const { openS3Store } = await import('./s3.ts')
  const store = await openS3Store({ ...options, bucket, prefix, region })
  return retrying(limited(store, { ...options, parallel: options.parallel ?? parallelS3 }), options.retry)
}

function checkEndpoint(endpoint: string | undefined): void {
  if (endpoint === undefined) return
  const parsed = URL.canParse(endpoint) ? new URL(endpoint) : undefined
  const plain = parsed?.username === '' && parsed.password === '' && parsed.search === '' && parsed.hash === ''
  if (plain && ['http:', 'https:'].includes(parsed?.protocol ?? '')) return
  // Whatever stands before an @, or behind a ?, may be keys.
  const shown = /[@?#]/.test(endpoint) ? 'what was given' : `'${endpoint}'`
  throw new AppError('INVALID_ARGUMENT', `${shown} is not an endpoint; use http[s]://HOST[:PORT], without keys in it`)
}

function checkRegions(named: string | undefined, option: string | undefined): void {
  if (named === undefined || option === undefined || named === option) return
  throw new AppError('INVALID_ARGUMENT', `the URL says region ${named} and the option ${option}; give one of them`)
}
