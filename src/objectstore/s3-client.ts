/**
 * The AWS SDK's client, set up for any S3-compatible server. The SDK is loaded when the first store is opened: it costs
 * time and memory.
 *
 * The SDK's own retries are off (retrying.ts does them, with one policy for all stores), as are its waiting for `100
 * Continue`, which costs a new connection for each upload. Payloads are always signed: the server refuses what was
 * damaged on its way, over http and https. Their hash is made here in slices, since the SDK would hold up the daemon
 * while it hashes a pack.
 */

import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { Agent } from 'node:https'
import { setImmediate } from 'node:timers/promises'
import type { S3Client, S3ClientConfig } from '@aws-sdk/client-s3'
import { AppError } from '../errors.ts'
import type { S3KeyFiles } from './s3-credentials.ts'
import { keysFromFiles } from './s3-credentials.ts'

export type Sdk = typeof import('@aws-sdk/client-s3')

export interface S3ClientOptions {
  /** Default: the SDK's chain for Amazon, `us-east-1` for an endpoint. */
  readonly region?: string | undefined
  /** `https://HOST[:PORT]` of a server that is not Amazon's. */
  readonly endpoint?: string | undefined
  /** The bucket in the path rather than in the host name; default: with an endpoint. */
  readonly pathStyle?: boolean | undefined
  /** Certificates (PEM) of authorities to trust, besides those that Node knows. */
  readonly caFile?: string | undefined
  /** Default: the SDK's chain. */
  readonly keyFiles?: S3KeyFiles | undefined
  /**
   * CRC32 besides the signed hash, stored with the object: always, or only where S3 demands it; default: always, but
   * not with an endpoint.
   */
  readonly checksums?: 'when-supported' | 'when-required' | undefined
  /** How long a connection may be silent; ms. */
  readonly timeoutMs: number
}

const connectMs = 10_000
const sockets = 32
/** Hashed in less than a millisecond. */
const sliceSize = 2 ** 20

export async function createS3Client(sdk: Sdk, options: S3ClientOptions): Promise<S3Client> {
  const region = options.region ?? (options.endpoint ? 'us-east-1' : undefined)
  const checksums = options.checksums ?? (options.endpoint ? 'when-required' : 'when-supported')
  const config: S3ClientConfig = {
    maxAttempts: 1,
    expectContinueHeader: false,
    requestChecksumCalculation: checksums === 'when-supported' ? 'WHEN_SUPPORTED' : 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    requestHandler: {
      connectionTimeout: connectMs,
      socketTimeout: options.timeoutMs,
      httpAgent: { keepAlive: true, maxSockets: sockets },
      httpsAgent: new Agent({ keepAlive: true, maxSockets: sockets, ...(await authorities(options.caFile)) }),
    },
    ...(region && { region }),
    ...(options.endpoint && { endpoint: options.endpoint }),
    forcePathStyle: options.pathStyle ?? options.endpoint !== undefined,
    ...(options.keyFiles && { credentials: keysFromFiles(options.keyFiles) }),
  }
  const client = new sdk.S3Client(config)
  addHashes(client)
  return client
}

async function authorities(caFile: string | undefined): Promise<{ ca?: string[] }> {
  if (!caFile) return {}
  const { rootCertificates } = await import('node:tls')
  try {
    return { ca: [...rootCertificates, await readFile(caFile, 'utf8')] }
  } catch (error) {
    throw new AppError('FAILED_PRECONDITION', `the CA file ${caFile} cannot be read: ${(error as Error).message}`)
  }
}

interface Request {
  readonly headers: Record<string, string>
  readonly body?: unknown
}

/** Adds the payload's hash to uploads, and to DeleteObjects the Content-MD5 that some servers insist on. */
function addHashes(client: S3Client): void {
  client.middlewareStack.add(
    (next, context) => async (args) => {
      const request = args.request as Request
      if (request.body instanceof Uint8Array) request.headers['x-amz-content-sha256'] = await hashSlices(request.body)
      if (context.commandName === 'DeleteObjectsCommand' && typeof request.body === 'string') {
        request.headers['content-md5'] = createHash('md5').update(request.body).digest('base64')
      }
      return await next(args)
    },
    { step: 'build', name: 'holdfastHashes', priority: 'low' },
  )
}

async function hashSlices(data: Uint8Array): Promise<string> {
  const hash = createHash('sha256')
  for (let start = 0; start < data.length; start += sliceSize) {
    if (start > 0) await setImmediate()
    hash.update(data.subarray(start, start + sliceSize))
  }
  return hash.digest('hex')
}
