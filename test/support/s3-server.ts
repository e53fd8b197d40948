/**
 * An S3 server in this process, on loopback, for tests: as strict as Amazon's where our store depends on it
 * (signatures, payload hashes, checksums, conditions, ranges, pages), and failing on demand. It knows the nine requests
 * that the store makes, both path and virtual-host style; anything else, also uploads in signed chunks, is refused with
 * 501. Objects are in memory.
 */

import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { setTimeout as later } from 'node:timers/promises'
import { crc32 } from 'node:zlib'
import { createFaultPlan, type Effect, type Fault, type Operation } from './s3-faults.ts'
import { verifySignature } from './s3-signature.ts'

export interface S3ServerOptions {
  readonly region?: string
  /** Keys on a page of a listing at most; default 1000. */
  readonly pageSize?: number
  /**
   * What it does with If-None-Match on a put: keep it (default), act as if it were not there, or refuse it with 501.
   */
  readonly conditions?: 'kept' | 'ignored' | 'refused'
  /** False: DeleteObjects is refused with 501. */
  readonly deletesMany?: boolean
  /** Gives no continuation tokens, as some servers do. */
  readonly tokenless?: boolean
  readonly clockAheadMs?: number
  /** PEM; with it the server speaks https, and `endpoint` names it as `localhost`. */
  readonly tls?: { readonly key: string; readonly cert: string }
}

export interface S3Request {
  readonly operation: Operation
  readonly key: string
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly style: 'path' | 'virtual'
}

interface S3Object {
  readonly data: Buffer
  readonly modifiedAt: Date
  readonly headers: Readonly<Record<string, string>>
}

export interface S3Server {
  readonly port: number
  readonly endpoint: string
  readonly region: string
  readonly clockAheadMs: number
  readonly accessKey: string
  /** Changing it makes every key of before wrong. */
  secretKey: string
  /** The one bucket there is. */
  readonly bucket: string
  readonly objects: Map<string, S3Object>
  /** Everything that was let in, in order. */
  readonly requests: S3Request[]
  plant(...faults: readonly Fault[]): void
  /** @throws for planted faults that never struck */
  assertAllFaultsMet(): void
  close(): Promise<void>
}

/** Below this name a bucket is a host: `BUCKET.s3.test`. */
export const virtualDomain = 's3.test'

class Refused extends Error {
  readonly status: number
  readonly code: string
  constructor(status: number, code: string, message = code) {
    super(message)
    this.status = status
    this.code = code
  }
}

interface Answer {
  readonly status: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: Buffer | string
}

interface Call {
  readonly operation: Operation
  readonly key: string
  readonly query: URLSearchParams
  readonly request: IncomingMessage
  readonly style: 'path' | 'virtual'
  readonly effect: Effect | undefined
}

export async function startS3Server(options: S3ServerOptions = {}): Promise<S3Server> {
  const faults = createFaultPlan()
  const listener = (request: IncomingMessage, response: ServerResponse) => {
    serve(server, options, faults.strike, request, response).catch(() => response.destroy())
  }
  const http = options.tls ? createTlsServer(options.tls, listener) : createServer(listener)
  http.keepAliveTimeout = 60_000
  http.listen(0, '127.0.0.1')
  await once(http, 'listening')
  const { port } = http.address() as AddressInfo
  const server: S3Server = {
    port,
    endpoint: options.tls ? `https://localhost:${port}` : `http://127.0.0.1:${port}`,
    region: options.region ?? 'us-east-1',
    clockAheadMs: options.clockAheadMs ?? 0,
    accessKey: 'TESTACCESSKEY',
    secretKey: 'test-secret/key+1',
    bucket: 'test-bucket',
    objects: new Map(),
    requests: [],
    plant: faults.add,
    assertAllFaultsMet: faults.assertAllMet,
    async close() {
      http.closeAllConnections()
      http.close()
      await once(http, 'close')
    },
  }
  return server
}

type Strike = (operation: Operation, key: string) => Effect | undefined

async function serve(
  server: S3Server,
  options: S3ServerOptions,
  strike: Strike,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  let call: Call | undefined
  let answer: Answer
  try {
    call = parse(server, strike, request)
    const { effect } = call
    if (effect?.kind === 'slow') await later(effect.ms)
    const body = await readBody(call)
    if (effect?.kind === 'stall') return
    answer = perform(server, options, call, body)
  } catch (error) {
    if (!(error instanceof Refused)) throw error
    answer = refusal(error)
  }
  response.setHeader('date', new Date(Date.now() + server.clockAheadMs).toUTCString())
  await reply(request, response, answer, call?.effect)
}

function refusal({ status, code, message }: Refused): Answer {
  return {
    status,
    headers: { 'content-type': 'application/xml' },
    body: xml('Error', { Code: code, Message: message }),
  }
}

function parse(server: S3Server, strike: Strike, request: IncomingMessage): Call {
  const url = new URL(request.url ?? '/', 'http://server')
  const path = decodeURIComponent(url.pathname).slice(1)
  const host = (request.headers.host ?? '').replace(/:\d+$/, '')
  const virtual = host.endsWith(`.${virtualDomain}`)
  const bucket = virtual ? host.slice(0, -virtualDomain.length - 1) : (path.split('/', 1)[0] ?? '')
  const key = virtual ? path : path.slice(bucket.length + 1)
  const operation = operationOf(request.method ?? '', key, url.searchParams)
  const subject = operation === 'list' ? (url.searchParams.get('prefix') ?? '') : key
  const effect = strike(operation, subject)
  if (effect?.kind === 'fail') throw new Refused(effect.status, effect.code)
  const wrong = verifySignature(request, server)
  if (wrong) throw new Refused(wrong.status, wrong.code, wrong.message)
  if (bucket !== server.bucket) throw new Refused(404, 'NoSuchBucket', 'The specified bucket does not exist')
  const style = virtual ? 'virtual' : 'path'
  server.requests.push({ operation, key: subject, headers: request.headers, style })
  return { operation, key, query: url.searchParams, request, style, effect }
}

function operationOf(method: string, key: string, query: URLSearchParams): Operation {
  if (key === '') {
    if (method === 'GET' && query.get('list-type') === '2') return 'list'
    if (method === 'POST' && query.has('delete')) return 'delete-many'
    if (method === 'HEAD') return 'head-bucket'
  }
  const operation = ({ PUT: 'put', GET: 'get', HEAD: 'head', DELETE: 'delete' } as const)[method]
  const unknown = [...query.keys()].find((name) => name !== 'x-id')
  if (key !== '' && operation && unknown === undefined) return operation
  throw new Refused(501, 'NotImplemented', `${method} ${key} ${unknown ?? ''} is not implemented`)
}

/** @throws Refused for a body that is not what its headers say */
async function readBody({ request, effect }: Call): Promise<Buffer> {
  const parts: Buffer[] = []
  let size = 0
  for await (const part of request as AsyncIterable<Buffer>) {
    parts.push(part)
    size += part.length
    if (effect?.kind === 'cut-upload' && size >= effect.after) {
      request.destroy()
      throw new Error('cut')
    }
  }
  const body = Buffer.concat(parts)
  if (effect?.kind === 'damage-upload') body[0] = (body[0] ?? 0) ^ 1
  const declared = request.headers['x-amz-content-sha256']
  if (declared?.includes('STREAMING')) throw new Refused(501, 'NotImplemented', 'chunked uploads are not implemented')
  if (declared !== 'UNSIGNED-PAYLOAD' && declared !== digest('sha256', body, 'hex')) {
    throw new Refused(400, 'XAmzContentSHA256Mismatch', "The provided 'x-amz-content-sha256' does not match what came")
  }
  checkDigests(request, body)
  return body
}

function checkDigests(request: IncomingMessage, body: Buffer): void {
  const crc = Buffer.alloc(4)
  crc.writeUInt32BE(crc32(body))
  const expected = { 'content-md5': digest('md5', body, 'base64'), 'x-amz-checksum-crc32': crc.toString('base64') }
  for (const [name, value] of Object.entries(expected)) {
    const given = request.headers[name]
    if (given !== undefined && given !== value)
      throw new Refused(400, 'BadDigest', `the ${name} does not match what came`)
  }
}

function digest(algorithm: string, data: Buffer | string, encoding: 'hex' | 'base64'): string {
  return createHash(algorithm).update(data).digest(encoding)
}

function perform(server: S3Server, options: S3ServerOptions, call: Call, body: Buffer): Answer {
  if (call.operation === 'put') return put(server, options, call, body)
  if (call.operation === 'list') return list(server, options, call)
  if (call.operation === 'delete-many') return deleteMany(server, options, call, body.toString())
  if (call.operation === 'head-bucket') return { status: 200 }
  if (call.operation === 'delete') {
    server.objects.delete(call.key)
    return { status: 204 }
  }
  return read(server, call)
}

function put(server: S3Server, options: S3ServerOptions, { key, request, effect }: Call, body: Buffer): Answer {
  if (request.headers['content-length'] === undefined) throw new Refused(411, 'MissingContentLength')
  if (request.headers['if-none-match'] !== undefined) {
    if (options.conditions === 'refused')
      throw new Refused(501, 'NotImplemented', 'A header you provided is not implemented')
    if (options.conditions !== 'ignored' && server.objects.has(key)) throw new Refused(412, 'PreconditionFailed')
  }
  const headers = Object.fromEntries(
    ['x-amz-storage-class', 'x-amz-server-side-encryption', 'x-amz-server-side-encryption-aws-kms-key-id'].flatMap(
      (it) => (typeof request.headers[it] === 'string' ? [[it, request.headers[it]]] : []),
    ),
  )
  const data = effect?.kind === 'lie' && effect.keep !== 'nothing' ? body.subarray(0, effect.keep) : body
  const stored = !(effect?.kind === 'lie' && effect.keep === 'nothing')
  if (stored) server.objects.set(key, { data, modifiedAt: new Date(), headers })
  return { status: 200, headers: { etag: `"${digest('md5', body, 'hex')}"` } }
}

function read(server: S3Server, { key, request }: Call): Answer {
  const object = server.objects.get(key)
  if (!object) throw new Refused(404, 'NoSuchKey', 'The specified key does not exist.')
  const headers = {
    ...object.headers,
    etag: `"${digest('md5', object.data, 'hex')}"`,
    'last-modified': object.modifiedAt.toUTCString(),
    'accept-ranges': 'bytes',
  }
  const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '')
  if (!range) return { status: 200, headers, body: object.data }
  const start = Number(range[1])
  const end = Math.min(Number(range[2]) + 1, object.data.length)
  if (start >= end) throw new Refused(416, 'InvalidRange', 'The requested range is not satisfiable')
  const part = { 'content-range': `bytes ${start}-${end - 1}/${object.data.length}` }
  return { status: 206, headers: { ...headers, ...part }, body: object.data.subarray(start, end) }
}

function list(server: S3Server, options: S3ServerOptions, { query, effect }: Call): Answer {
  const prefix = query.get('prefix') ?? ''
  const token = query.get('continuation-token')
  const after = token ? Buffer.from(token, 'base64url').toString() : (query.get('start-after') ?? '')
  const size = Math.min(Number(query.get('max-keys') ?? 1000), options.pageSize ?? 1000)
  const forgotten = effect?.kind === 'forget' ? effect.keys : undefined
  const keys = [...server.objects.keys()]
    .filter((key) => key.startsWith(prefix) && key > after && !forgotten?.test(key))
    .sort()
  const page = keys.slice(0, size)
  const more = keys.length > page.length
  const next = more && !options.tokenless ? Buffer.from(page.at(-1) ?? '').toString('base64url') : undefined
  const body = xml('ListBucketResult', {
    Name: server.bucket,
    Prefix: prefix,
    KeyCount: page.length,
    MaxKeys: size,
    IsTruncated: more,
    ...(next && { NextContinuationToken: next }),
    Contents: page.map((Key) => {
      const { data, modifiedAt } = server.objects.get(Key) as S3Object
      return { Key, LastModified: modifiedAt.toISOString(), Size: data.length, StorageClass: 'STANDARD' }
    }),
  })
  return { status: 200, headers: { 'content-type': 'application/xml' }, body }
}

function deleteMany(server: S3Server, options: S3ServerOptions, { request }: Call, body: string): Answer {
  if (options.deletesMany === false) throw new Refused(501, 'NotImplemented', 'DeleteObjects is not implemented')
  if (request.headers['content-md5'] === undefined) throw new Refused(400, 'InvalidRequest', 'Missing Content-MD5')
  const keys = [...body.matchAll(/<Key>([^<]*)<\/Key>/g)].map((it) => it[1] ?? '')
  if (keys.length === 0 || keys.length > 1000) throw new Refused(400, 'MalformedXML')
  for (const key of keys) server.objects.delete(key)
  return { status: 200, headers: { 'content-type': 'application/xml' }, body: xml('DeleteResult', {}) }
}

type Tree = { readonly [name: string]: string | number | boolean | readonly Tree[] }

function xml(root: string, tree: Tree): string {
  return `<?xml version="1.0" encoding="UTF-8"?>\n${element(root, tree, ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"')}`
}

function element(name: string, tree: Tree, attributes = ''): string {
  const inner = Object.entries(tree).flatMap(([key, value]) =>
    Array.isArray(value)
      ? (value as readonly Tree[]).map((it) => element(key, it))
      : [`<${key}>${String(value).replace(/[<>&]/g, (it) => `&#${it.charCodeAt(0)};`)}</${key}>`],
  )
  return `<${name}${attributes}>${inner.join('')}</${name}>`
}

async function reply(
  request: IncomingMessage,
  response: ServerResponse,
  answer: Answer,
  effect: Effect | undefined,
): Promise<void> {
  if (effect?.kind === 'lose-answer') {
    response.destroy()
    return
  }
  const body = Buffer.from(answer.body ?? '')
  if (effect?.kind === 'flip-bit') body[body.length >> 1] = (body[body.length >> 1] ?? 0) ^ 1
  response.writeHead(answer.status, { ...answer.headers, 'x-amz-request-id': 'TEST', 'content-length': body.length })
  if (effect?.kind === 'cut-answer') {
    response.flushHeaders()
    await new Promise((resolve) => response.write(body.subarray(0, effect.after), resolve))
    response.destroy()
    return
  }
  response.end(request.method === 'HEAD' ? undefined : body)
}
