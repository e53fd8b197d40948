/**
 * An object store in a bucket of S3 or of a server that speaks its protocol (source: Amazon's S3 API reference).
 *
 * Objects go up in one request with a Content-Length and a signed hash: no multipart, no trailers, which every server
 * understands. After each upload the server is asked for the object's size: servers have been met that answer 200 and
 * have stored nothing. Nothing is tried twice here; retrying.ts does.
 */

import type { Readable } from 'node:stream'
import { finished } from 'node:stream/promises'
import type { ListObjectsV2CommandOutput, S3Client } from '@aws-sdk/client-s3'
import { AppError, isAppError } from '../errors.ts'
import { release } from '../system/release.ts'
import {
  type ByteRange,
  checkKey,
  checkPrefix,
  checkRange,
  isKey,
  type ListOptions,
  type ObjectStore,
  type PutOptions,
  type StoredObject,
  type StoreFacts,
} from './objectstore.ts'
import { createS3Client, type S3ClientOptions, type Sdk } from './s3-client.ts'
import { type S3Place, s3Error } from './s3-errors.ts'
import { bounded } from './waiting.ts'

const keysPerDelete = 1000
/** What a transfer must make at the least, or it is given up; bytes a second. */
const slowest = 8 * 1024
/** Classes whose objects cannot be read before hours have passed. */
const archives = ['GLACIER', 'DEEP_ARCHIVE']

export interface S3StoreOptions extends Omit<S3ClientOptions, 'timeoutMs'> {
  readonly bucket: string
  /** Components joined by '/', none in front or behind; '' for the whole bucket. */
  readonly prefix: string
  readonly storageClass?: string | undefined
  /** Encryption by the server: with its own keys, or with KMS and, if given, one key of it. */
  readonly encryption?: 'sse-s3' | 'kms' | undefined
  readonly kmsKeyId?: string | undefined
  /** One request for many keys, or one each; default: many, where the server can. */
  readonly deletes?: 'batch' | 'single' | undefined
  /** How long a server may be silent; ms, default one minute. */
  readonly timeoutMs?: number | undefined
}

/** What the functions of this file share. */
interface S3 {
  readonly sdk: Sdk
  readonly client: S3Client
  readonly options: S3StoreOptions
  readonly place: S3Place
  readonly timeoutMs: number
  deletes: 'batch' | 'single'
  ifAbsent: StoreFacts['ifAbsent']
  bucketSeen: boolean
}

/**
 * Opens a store; sends nothing. @throws INVALID_ARGUMENT for an archive class, FAILED_PRECONDITION for an unreadable CA
 * file
 */
export async function openS3Store(options: S3StoreOptions): Promise<ObjectStore> {
  if (archives.includes(options.storageClass ?? '')) {
    throw new AppError(
      'INVALID_ARGUMENT',
      `objects of class ${options.storageClass} cannot be read at once; use another`,
    )
  }
  const sdk = await import('@aws-sdk/client-s3')
  const timeoutMs = options.timeoutMs ?? 60_000
  const url = urlOf(options)
  const s3: S3 = {
    sdk,
    client: await createS3Client(sdk, { ...options, timeoutMs }),
    options,
    place: {
      store: options.endpoint ? `${url} at ${options.endpoint}` : url,
      bucket: options.bucket,
      storageClass: options.storageClass,
    },
    timeoutMs,
    deletes: options.deletes ?? 'batch',
    ifAbsent: 'unknown',
    bucketSeen: false,
  }
  return {
    url,
    get facts() {
      return { kind: 's3', ifAbsent: s3.ifAbsent, maxObjectSize: 5 * 2 ** 30, details: detailsOf(options) } as const
    },
    put: (key, data, putOptions) => put(s3, key, data, putOptions ?? {}),
    get: (key, range, getOptions) => get(s3, key, range, getOptions?.signal),
    stat: (key, statOptions) => statObject(s3, key, statOptions?.signal),
    list: (prefix, listOptions) => list(s3, prefix, listOptions ?? {}),
    delete: (keys, deleteOptions) => remove(s3, keys, deleteOptions?.signal),
    close: async () => s3.client.destroy(),
  }
}

function urlOf({ bucket, region, prefix }: S3StoreOptions): string {
  return `s3://${bucket}${region ? `@${region}` : ''}${prefix && `/${prefix}`}`
}

function detailsOf({ endpoint, region, storageClass, encryption, kmsKeyId }: S3StoreOptions): Record<string, string> {
  return {
    ...(endpoint && { endpoint }),
    ...(region && { region }),
    ...(storageClass && { storageClass }),
    ...(encryption && { encryption: kmsKeyId ? `${encryption} ${kmsKeyId}` : encryption }),
  }
}

function located(s3: S3, key: string): { Bucket: string; Key: string } {
  checkKey(key)
  return { Bucket: s3.options.bucket, Key: s3.options.prefix ? `${s3.options.prefix}/${key}` : key }
}

/**
 * Waits for one request; `size` is what it transfers. @throws the signal's reason, or what `s3Error` makes of the
 * answer
 */
async function request<T>(
  s3: S3,
  doing: string,
  signal: AbortSignal | undefined,
  work: (abortSignal: AbortSignal) => Promise<T>,
  size = 0,
): Promise<T> {
  const ms = s3.timeoutMs + (size / slowest) * 1000
  const fact = `${s3.place.store}: ${doing}: no end within ${Math.round(ms / 1000)} s`
  const late = () => new AppError('TIMEOUT', fact, { details: { status: null } })
  try {
    return await bounded({ ms, signal, late }, work)
  } catch (error) {
    throw signal?.aborted ? signal.reason : s3Error(s3.place, doing, error)
  }
}

async function put(s3: S3, key: string, data: Uint8Array, { ifAbsent, signal }: PutOptions): Promise<void> {
  const at = located(s3, key)
  const conditional = ifAbsent === true && s3.ifAbsent !== 'ignored'
  if (ifAbsent && !conditional && (await statObject(s3, key, signal))) throw alreadyThere(s3, key)
  const command = new s3.sdk.PutObjectCommand({
    ...at,
    // Not a Uint8Array of another kind: the SDK sends a Buffer as it is.
    Body: Buffer.from(data.buffer, data.byteOffset, data.byteLength),
    ContentLength: data.length,
    ...(conditional && { IfNoneMatch: '*' }),
    ...encryptionOf(s3.options),
  })
  try {
    await request(s3, `storing ${key}`, signal, (abortSignal) => s3.client.send(command, { abortSignal }), data.length)
  } catch (error) {
    if (isAppError(error, 'ALREADY_EXISTS')) throw alreadyThere(s3, key)
    if (!conditional || !isAppError(error, 'NOT_SUPPORTED') || error.details['status'] !== 501) throw error
    s3.ifAbsent = 'ignored'
    return await put(s3, key, data, { ifAbsent, signal })
  }
  await confirm(s3, key, data.length, signal)
}

function encryptionOf({ storageClass, encryption, kmsKeyId }: S3StoreOptions) {
  return {
    ...(storageClass && { StorageClass: storageClass as 'STANDARD' }),
    ...(encryption && { ServerSideEncryption: encryption === 'kms' ? ('aws:kms' as const) : ('AES256' as const) }),
    ...(encryption === 'kms' && kmsKeyId && { SSEKMSKeyId: kmsKeyId }),
  }
}

function alreadyThere(s3: S3, key: string): AppError {
  return new AppError('ALREADY_EXISTS', `${s3.place.store}: ${key} is there already`)
}

/** @throws UNAVAILABLE when the server does not have what it has just accepted */
async function confirm(s3: S3, key: string, size: number, signal: AbortSignal | undefined): Promise<void> {
  const found = await statObject(s3, key, signal)
  if (found?.size === size) return
  const fact = found ? `has ${found.size} of its ${size} bytes` : 'has not stored it'
  throw new AppError('UNAVAILABLE', `${s3.place.store}: the server accepted ${key} and ${fact}; see to the server`)
}

async function get(s3: S3, key: string, range: ByteRange | undefined, signal: AbortSignal | undefined) {
  if (range) checkRange(range)
  const command = new s3.sdk.GetObjectCommand({
    ...located(s3, key),
    ...(range && { Range: `bytes=${range.start}-${range.end - 1}` }),
  })
  const answer = await request(s3, `reading ${key}`, signal, (abortSignal) => s3.client.send(command, { abortSignal }))
  const body = answer.Body as Readable
  // Its errors are met by whoever reads it, and by nobody when it is not read.
  body.on('error', () => undefined)
  try {
    const size = expectedSize(s3, key, range, answer.ContentLength)
    return await request(s3, `reading ${key}`, signal, (abortSignal) => collect(body, size, abortSignal), size)
  } finally {
    body.destroy()
  }
}

/** @returns the number of bytes that the answer must have */
function expectedSize(s3: S3, key: string, range: ByteRange | undefined, offered: number | undefined): number {
  if (offered === undefined) {
    throw new AppError('NOT_SUPPORTED', `${s3.place.store}: the server does not say how long ${key} is`)
  }
  const wanted = range ? range.end - range.start : offered
  if (offered > wanted) throw new AppError('NOT_SUPPORTED', `${s3.place.store}: the server does not read ranges`)
  if (offered === wanted) return wanted
  const end = (range?.start ?? 0) + offered
  throw new AppError('CORRUPT', `${s3.place.store}: ${key} ends at ${end}, before ${range?.end}; verify the repository`)
}

async function collect(body: Readable, size: number, signal: AbortSignal): Promise<Uint8Array> {
  // Not zeroed first: it is filled to its end or not given out.
  const bytes = new Uint8Array(Buffer.allocUnsafeSlow(size).buffer)
  let filled = 0
  // Events cost a third less than an iteration, and chunks that are given back at once spare most collections of garbage.
  body.on('data', (chunk: Uint8Array) => {
    if (filled + chunk.length <= size) bytes.set(chunk, filled)
    else body.destroy()
    filled += chunk.length
    release(chunk)
  })
  await finished(body, { signal })
  if (filled === size) return bytes
  throw Object.assign(new Error(`the answer was cut off after ${filled} of ${size} bytes`), { code: 'ECONNRESET' })
}

async function statObject(s3: S3, key: string, signal: AbortSignal | undefined): Promise<StoredObject | undefined> {
  const command = new s3.sdk.HeadObjectCommand(located(s3, key))
  try {
    const answer = await request(s3, `looking at ${key}`, signal, (abortSignal) =>
      s3.client.send(command, { abortSignal }),
    )
    return { key, size: answer.ContentLength ?? 0, modifiedAt: answer.LastModified ?? new Date(0) }
  } catch (error) {
    if (!isAppError(error, 'NOT_FOUND')) throw error
    await checkBucket(s3, signal)
    return undefined
  }
}

/**
 * A 404 for HEAD has no body: it may mean the object or the whole bucket. @throws FAILED_PRECONDITION when there is no
 * bucket
 */
async function checkBucket(s3: S3, signal: AbortSignal | undefined): Promise<void> {
  if (s3.bucketSeen) return
  const command = new s3.sdk.HeadBucketCommand({ Bucket: s3.options.bucket })
  try {
    await request(s3, 'looking at the bucket', signal, (abortSignal) => s3.client.send(command, { abortSignal }))
  } catch (error) {
    if (isAppError(error, 'NOT_FOUND')) throw s3Error(s3.place, 'looking at the bucket', { name: 'NoSuchBucket' })
    if (!isAppError(error, 'PERMISSION_DENIED')) throw error
  }
  s3.bucketSeen = true
}

async function* list(s3: S3, prefix: string, { after, signal }: ListOptions): AsyncGenerator<StoredObject> {
  checkPrefix(prefix)
  const base = s3.options.prefix ? `${s3.options.prefix}/` : ''
  let last = after ? base + after : ''
  let token: string | undefined
  for (;;) {
    const page = await listPage(s3, base + prefix, last, token, signal)
    const before = last
    for (const object of ours(page, base)) {
      if (base + object.key <= last) throw unorderly(s3, object.key, last)
      last = base + object.key
      yield object
    }
    token = page.NextContinuationToken
    if (!page.IsTruncated) return
    if (!token && last === before) throw unorderly(s3, 'the same page', last)
  }
}

/** What of a page could be ours; the prefix taken off. */
function ours(page: ListObjectsV2CommandOutput, base: string): StoredObject[] {
  return (page.Contents ?? [])
    .map((it) => ({
      key: (it.Key ?? '').slice(base.length),
      size: it.Size ?? 0,
      modifiedAt: it.LastModified ?? new Date(0),
    }))
    .filter((it) => isKey(it.key))
}

async function listPage(s3: S3, prefix: string, last: string, token: string | undefined, signal?: AbortSignal) {
  const command = new s3.sdk.ListObjectsV2Command({
    Bucket: s3.options.bucket,
    Prefix: prefix,
    // A server that gives no token is asked to go on behind the last key.
    ...(token ? { ContinuationToken: token } : last && { StartAfter: last }),
  })
  const page = await request<ListObjectsV2CommandOutput>(s3, `listing ${prefix}`, signal, (abortSignal) =>
    s3.client.send(command, { abortSignal }),
  )
  if (page.IsTruncated !== undefined) return page
  // The page of a proxy, say, which must not pass for an empty listing.
  throw new AppError(
    'UNAVAILABLE',
    `${s3.place.store}: the answer is no listing; see whether the endpoint is an S3 server`,
  )
}

/** Such a server would have its listings never end, or leave objects out. */
function unorderly(s3: S3, key: string, last: string): AppError {
  return new AppError('NOT_SUPPORTED', `${s3.place.store}: the server lists ${key} behind ${last}; use another server`)
}

async function remove(s3: S3, keys: readonly string[], signal: AbortSignal | undefined): Promise<void> {
  const all = keys.map((key) => located(s3, key).Key)
  for (let start = 0; start < all.length; start += keysPerDelete) {
    const some = all.slice(start, start + keysPerDelete)
    if (s3.deletes === 'single' || some.length === 1 || !(await removeTogether(s3, some, signal))) {
      await removeEach(s3, some, signal)
    }
  }
}

/** @returns false when the server cannot delete many at once */
async function removeTogether(s3: S3, keys: readonly string[], signal: AbortSignal | undefined): Promise<boolean> {
  const Objects = keys.map((Key) => ({ Key }))
  const command = new s3.sdk.DeleteObjectsCommand({ Bucket: s3.options.bucket, Delete: { Objects, Quiet: true } })
  try {
    const answer = await request(s3, 'deleting', signal, (abortSignal) => s3.client.send(command, { abortSignal }))
    const failed = (answer.Errors ?? []).find((it) => it.Code !== 'NoSuchKey')
    if (failed) throw s3Error(s3.place, `deleting ${failed.Key}`, { name: failed.Code, message: failed.Message })
    return true
  } catch (error) {
    if (!isAppError(error, 'NOT_SUPPORTED')) throw error
    s3.deletes = 'single'
    return false
  }
}

async function removeEach(s3: S3, keys: readonly string[], signal: AbortSignal | undefined): Promise<void> {
  for (const Key of keys) {
    const command = new s3.sdk.DeleteObjectCommand({ Bucket: s3.options.bucket, Key })
    try {
      await request(s3, `deleting ${Key}`, signal, (abortSignal) => s3.client.send(command, { abortSignal }))
    } catch (error) {
      if (!isAppError(error, 'NOT_FOUND')) throw error
    }
  }
}
