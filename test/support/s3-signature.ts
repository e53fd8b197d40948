/**
 * Verifies AWS Signature Version 4 in the Authorization header, as the S3 API reference describes it, written from that
 * page and not from the SDK, so that a mistake of one shows in the other.
 */

import { createHash, createHmac } from 'node:crypto'
import type { IncomingMessage } from 'node:http'

export interface Keyring {
  readonly accessKey: string
  readonly secretKey: string
  readonly region: string
  /** How far this server's clock is ahead; ms. */
  readonly clockAheadMs: number
}

export interface Refusal {
  readonly status: number
  readonly code: string
  readonly message: string
}

const skewMs = 15 * 60_000
const header =
  /^AWS4-HMAC-SHA256 Credential=([^/,\s]+)\/(\d{8})\/([^/]+)\/s3\/aws4_request, ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})$/

/** Undefined when the request is signed right by the one key there is. */
export function verifySignature(request: IncomingMessage, keys: Keyring): Refusal | undefined {
  const match = header.exec(request.headers.authorization ?? '')
  if (!match) return { status: 403, code: 'AccessDenied', message: 'Access Denied: not signed' }
  const [, accessKey = '', day = '', region = '', signedHeaders = '', signature = ''] = match
  if (accessKey !== keys.accessKey) {
    return { status: 403, code: 'InvalidAccessKeyId', message: 'The AWS access key Id you provided does not exist' }
  }
  if (region !== keys.region) {
    return {
      status: 400,
      code: 'AuthorizationHeaderMalformed',
      message: `the region '${region}' is wrong; expecting '${keys.region}'`,
    }
  }
  const wrongTime = checkTime(request, day, Date.now() + keys.clockAheadMs)
  if (wrongTime) return wrongTime
  const names = signedHeaders.split(';')
  const unsigned = unsignedHeader(request, names)
  if (unsigned) return { status: 403, code: 'AccessDenied', message: `${unsigned} is not signed` }
  if (sign(request, keys, day, names) === signature) return undefined
  return {
    status: 403,
    code: 'SignatureDoesNotMatch',
    message: 'The request signature we calculated does not match the signature you provided',
  }
}

function checkTime(request: IncomingMessage, day: string, now: number): Refusal | undefined {
  const stamp = String(request.headers['x-amz-date'] ?? '')
  const time = Date.parse(
    stamp.replace(
      /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/,
      (_, y, mo, d, h, mi, s) => `${y}-${mo}-${d}T${h}:${mi}:${s}Z`,
    ),
  )
  if (stamp.slice(0, 8) === day && Math.abs(now - time) < skewMs) return undefined
  return {
    status: 403,
    code: 'RequestTimeTooSkewed',
    message: 'The difference between the request time and now is too large',
  }
}

/** Host and every x-amz header must be signed, or they could be changed on the way. */
function unsignedHeader(request: IncomingMessage, signed: readonly string[]): string | undefined {
  const must = Object.keys(request.headers).filter((name) => name === 'host' || name.startsWith('x-amz-'))
  return [...must, 'x-amz-content-sha256', 'content-md5'].find(
    (name) => (request.headers[name] !== undefined || name === 'x-amz-content-sha256') && !signed.includes(name),
  )
}

function sign(request: IncomingMessage, keys: Keyring, day: string, names: readonly string[]): string {
  const canonical = [
    request.method,
    ...canonicalTarget(request.url ?? '/'),
    ...names.map(
      (name) =>
        `${name}:${String(request.headers[name] ?? '')
          .trim()
          .replace(/ +/g, ' ')}`,
    ),
    '',
    names.join(';'),
    request.headers['x-amz-content-sha256'],
  ].join('\n')
  const scope = `${day}/${keys.region}/s3/aws4_request`
  const hash = createHash('sha256').update(canonical).digest('hex')
  const text = ['AWS4-HMAC-SHA256', request.headers['x-amz-date'], scope, hash].join('\n')
  const parts = [day, keys.region, 's3', 'aws4_request', text]
  const start: string | Buffer = `AWS4${keys.secretKey}`
  return parts
    .reduce<string | Buffer>((key, part) => createHmac('sha256', key).update(part).digest(), start)
    .toString('hex')
}

function canonicalTarget(url: string): [path: string, query: string] {
  const [path = '/', query = ''] = url.split('?', 2)
  const pairs = [...new URLSearchParams(query)].map(([name, value]) => `${encode(name)}=${encode(value)}`)
  return [decodeURIComponent(path).split('/').map(encode).join('/'), pairs.sort().join('&')]
}

function encode(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (it) => `%${it.charCodeAt(0).toString(16).toUpperCase()}`)
}
