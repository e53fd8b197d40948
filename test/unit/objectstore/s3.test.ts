import { execFileSync } from 'node:child_process'
import dns from 'node:dns'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { isAppError } from '../../../src/errors.ts'
import type { ObjectStore } from '../../../src/objectstore/objectstore.ts'
import { retrying } from '../../../src/objectstore/retrying.ts'
import { openS3Store, type S3StoreOptions } from '../../../src/objectstore/s3.ts'
import type { S3KeyFiles } from '../../../src/objectstore/s3-credentials.ts'
import { writeKeyFiles } from '../../support/s3-keys.ts'
import { type S3Server, startS3Server, virtualDomain } from '../../support/s3-server.ts'

let server: S3Server
let directory: string
let opened: ObjectStore[]

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'holdfast-test-'))
  opened = []
  server = await startS3Server()
})

afterEach(async () => {
  for (const store of opened) await store.close()
  await server.close()
  rmSync(directory, { recursive: true, force: true })
  vi.restoreAllMocks()
})

/** With key files that are right at the moment. */
async function open(options: Partial<S3StoreOptions> = {}): Promise<ObjectStore> {
  return await openWith(writeKeyFiles(directory, server), options)
}

async function openWith(keyFiles: S3KeyFiles, options: Partial<S3StoreOptions> = {}): Promise<ObjectStore> {
  const place = { bucket: server.bucket, prefix: 'p', endpoint: server.endpoint }
  const store = await openS3Store({ ...place, keyFiles, timeoutMs: 500, ...options })
  opened.push(store)
  return store
}

async function failure(call: Promise<unknown>): Promise<Error & { code: string }> {
  const error = await call.then(
    () => undefined,
    (it: unknown) => it,
  )
  if (isAppError(error)) return error
  throw new Error('it did not fail with an AppError', { cause: error })
}

const data = new Uint8Array(200_000).map((_, index) => index % 251)
const quick = { firstWaitMs: 1, longestWaitMs: 5 }

function expectSame(bytes: Uint8Array): void {
  expect(Buffer.compare(bytes, data)).toBe(0)
}

describe('requests', () => {
  it('are plain uploads of known size, with a signed hash', async () => {
    await (await open()).put('a', data)
    const [put, head] = server.requests
    expect(put).toMatchObject({ operation: 'put', key: 'p/a', style: 'path' })
    expect(put?.headers).toMatchObject({ 'content-length': '200000' })
    expect(put?.headers['x-amz-content-sha256']).toMatch(/^[0-9a-f]{64}$/)
    expect(Object.keys(put?.headers ?? {})).not.toContain('x-amz-checksum-crc32')
    expect(Object.keys(put?.headers ?? {})).not.toContain('expect')
    expect(head).toMatchObject({ operation: 'head', key: 'p/a' })
  })

  it('carry a checksum when that is asked for', async () => {
    await (await open({ checksums: 'when-supported' })).put('a', data)
    expect(server.requests[0]?.headers['x-amz-checksum-crc32']).toMatch(/=$/)
  })

  it('name encryption and storage class', async () => {
    await (await open({ encryption: 'kms', kmsKeyId: 'key-1', storageClass: 'STANDARD_IA' })).put('a', data)
    await (await open({ encryption: 'sse-s3' })).put('b', data)
    expect(server.objects.get('p/a')?.headers).toEqual({
      'x-amz-storage-class': 'STANDARD_IA',
      'x-amz-server-side-encryption': 'aws:kms',
      'x-amz-server-side-encryption-aws-kms-key-id': 'key-1',
    })
    expect(server.objects.get('p/b')?.headers).toEqual({ 'x-amz-server-side-encryption': 'AES256' })
  })

  it('name the bucket in the host when the path style is off', async () => {
    const lookup = dns.lookup
    vi.spyOn(dns, 'lookup').mockImplementation(((name: string, ...rest: unknown[]) =>
      Reflect.apply(lookup, dns, [name.endsWith(virtualDomain) ? '127.0.0.1' : name, ...rest])) as typeof dns.lookup)
    const store = await open({ endpoint: `http://${virtualDomain}:${server.port}`, pathStyle: false })
    await store.put('a', data)
    expectSame(await store.get('a'))
    await store.delete(['a', 'b'])
    expect(server.requests.map((it) => it.style)).toEqual(['virtual', 'virtual', 'virtual', 'virtual'])
    expect(server.objects.size).toBe(0)
  })

  it('delete a thousand at a time with Content-MD5', async () => {
    const store = await open()
    await store.delete(Array.from({ length: 1001 }, (_, index) => `k${index}`))
    expect(server.requests.map((it) => it.operation)).toEqual(['delete-many', 'delete'])
    expect(server.requests[0]?.headers['content-md5']).toMatch(/==$/)
  })
})

describe('errors', () => {
  it('say what to do about keys, and never hold them', async () => {
    const good = await open()
    server.secretKey = 'another-secret'
    const wrongSecret = await failure(good.get('a'))
    expect(wrongSecret).toMatchObject({
      code: 'PERMISSION_DENIED',
      message: expect.stringMatching(/correct the secret key/),
    })
    const tokenFile = join(directory, 'token')
    writeFileSync(tokenFile, 'token-of-session')
    const keyFiles = { ...writeKeyFiles(directory, { ...server, accessKey: 'NOBODY' }), sessionTokenFile: tokenFile }
    const nobody = await failure((await openWith(keyFiles)).put('a', data))
    expect(nobody).toMatchObject({ code: 'PERMISSION_DENIED', message: expect.stringMatching(/access key/) })
    for (const thing of [wrongSecret, nobody, good]) {
      const shown = `${inspect(thing, { showHidden: true, depth: 20 })} ${JSON.stringify(thing)} ${String(thing)}`
      for (const secret of ['test-secret', 'another-secret', 'token-of-session', 'Signature=']) {
        expect(shown).not.toContain(secret)
      }
    }
  })

  it('tell a missing bucket from a missing object, also where S3 does not', async () => {
    const store = await open({ bucket: 'no-such-bucket' })
    const calls = [() => store.get('a'), () => store.stat('a'), () => store.put('a', data), () => store.delete(['a'])]
    for (const call of calls) {
      expect(await failure(call())).toMatchObject({
        code: 'FAILED_PRECONDITION',
        message: expect.stringMatching(/create the bucket/),
      })
    }
    expect(await (await open()).stat('a')).toBeUndefined()
  })

  it('tell the region of a bucket', async () => {
    expect(await failure((await open({ region: 'eu-west-1' })).get('a'))).toMatchObject({
      code: 'FAILED_PRECONDITION',
      message: expect.stringMatching(/expecting 'us-east-1'.*s3:\/\/BUCKET@REGION/),
    })
  })

  it.each([
    [503, 'SlowDown', 'UNAVAILABLE'],
    [500, 'InternalError', 'UNAVAILABLE'],
    [502, 'SomethingNew', 'UNAVAILABLE'],
    [429, 'TooManyRequests', 'UNAVAILABLE'],
    [400, 'RequestTimeout', 'TIMEOUT'],
    [409, 'ConditionalRequestConflict', 'ABORTED'],
    [403, 'AccessDenied', 'PERMISSION_DENIED'],
    [403, 'QuotaExceeded', 'NO_SPACE'],
    [507, 'XMinioStorageFull', 'NO_SPACE'],
    [400, 'ExpiredToken', 'PERMISSION_DENIED'],
    [403, 'InvalidObjectState', 'FAILED_PRECONDITION'],
    [400, 'BadDigest', 'UNAVAILABLE'],
    [418, 'Teapot', 'FAILED_PRECONDITION'],
  ] as const)('%i %s is %s', async (status, code, expected) => {
    const store = await open()
    server.plant({ on: 'put', effect: { kind: 'fail', status, code } })
    expect(await failure(store.put('a', data))).toMatchObject({
      code: expected,
      message: expect.stringContaining(`s3://test-bucket/p at ${server.endpoint}: storing a: ${code}`),
    })
    server.assertAllFaultsMet()
  })

  it('tell a server that is not there, has no name, or is no S3 server', async () => {
    const refused = await open({ endpoint: 'http://127.0.0.1:1' })
    expect(await failure(refused.get('a'))).toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringMatching(/ECONNREFUSED/),
    })
    const nameless = await open({ endpoint: 'http://no-such-host.invalid' })
    expect(await failure(nameless.get('a'))).toMatchObject({ code: 'UNAVAILABLE' })
    const page = createServer((_, response) => response.end('<html><body>Log in</body></html>')).listen(0, '127.0.0.1')
    await new Promise((resolve) => page.once('listening', resolve))
    const proxy = await open({ endpoint: `http://127.0.0.1:${(page.address() as AddressInfo).port}` })
    const list = async () => {
      for await (const _ of proxy.list('')) throw new Error('a proxy lists nothing')
    }
    expect(await failure(list())).toMatchObject({ code: 'UNAVAILABLE' })
    expect(await failure(proxy.put('a', data))).toMatchObject({ code: 'UNAVAILABLE' })
    page.closeAllConnections()
    page.close()
  })

  it('tell that there are no keys or they cannot be read', async () => {
    const keyFiles = { accessKeyFile: join(directory, 'none'), secretKeyFile: join(directory, 'none') }
    expect(await failure((await open({ keyFiles })).get('a'))).toMatchObject({
      code: 'FAILED_PRECONDITION',
      message: expect.stringMatching(/key file .*none cannot be read/),
    })
    writeFileSync(join(directory, 'none'), 'two\nkeys\n')
    const error = await failure((await open({ keyFiles })).get('a'))
    expect(error).toMatchObject({ code: 'FAILED_PRECONDITION', message: expect.stringMatching(/must hold one key/) })
    expect(inspect(error)).not.toContain('two')
  })
})

describe('a server that is none', () => {
  it('is given up after some seconds when nobody answers, and is not when it has answered once', async () => {
    const begun = performance.now()
    const dead = retrying(await open({ endpoint: 'http://127.0.0.1:1' }))
    expect(await failure(dead.stat('config'))).toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringMatching(/^[^\n]*ECONNREFUSED[^\n]*tried 3 times\)$/),
    })
    expect(performance.now() - begun).toBeLessThan(8000)
    const alive = retrying(await open(), quick)
    await alive.stat('config')
    server.plant({ on: 'head', times: 6, effect: { kind: 'lose-answer' } })
    expect(await alive.stat('config')).toBeUndefined()
    server.assertAllFaultsMet()
  })

  it('and one that speaks no TLS, or wants keys, or has no such class, is said so in one plain line', async () => {
    const port = new URL(server.endpoint).port
    const tls = await failure((await open({ endpoint: `https://127.0.0.1:${port}` })).stat('a'))
    expect(tls.message).toMatch(/^s3:[^\n]*looking at a; the server does not speak TLS; is it http:\/\/\?$/)
    const keys = writeKeyFiles(directory, { accessKey: server.accessKey, secretKey: 'wrong' })
    const denied = await failure((await openWith(keys)).stat('a'))
    expect(denied).toMatchObject({ code: 'PERMISSION_DENIED', message: expect.stringContaining('403; see whether') })
    server.plant({ on: 'put', effect: { kind: 'fail', status: 400, code: 'InvalidArgument' } })
    const odd = await failure((await open({ storageClass: 'ODD' })).put('a', data))
    expect(odd).toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(/InvalidArgument.*class ODD$/),
    })
    for (const { message } of [tls, denied, odd]) expect(message).not.toMatch(/Unknown|object Object|\n/)
    const bucket = await failure((await open({ bucket: 'none' })).stat('a'))
    expect(bucket.message).toMatch(/: NoSuchBucket; create the bucket/)
  })
})

describe('keys in files', () => {
  it('are read again when they change', async () => {
    const store = await open()
    await store.put('a', data)
    server.secretKey = 'the-next-secret'
    expect(await failure(store.get('a'))).toMatchObject({ code: 'PERMISSION_DENIED' })
    const { secretKeyFile } = writeKeyFiles(directory, server)
    expect(readFileSync(secretKeyFile, 'utf8')).toBe('the-next-secret')
    expectSame(await store.get('a'))
  })
})

describe('a server that fails', () => {
  it('is asked again until it answers', async () => {
    const store = retrying(await open(), quick)
    server.plant(
      { on: 'put', times: 2, effect: { kind: 'fail', status: 503, code: 'SlowDown' } },
      { on: 'put', effect: { kind: 'cut-upload', after: 70_000 } },
      { on: 'put', effect: { kind: 'lose-answer' } },
      { on: 'head', effect: { kind: 'fail', status: 500, code: 'InternalError' } },
      { on: 'get', effect: { kind: 'cut-answer', after: 100 } },
      { on: 'get', effect: { kind: 'cut-answer', after: 150_000 } },
      { on: 'list', effect: { kind: 'cut-answer', after: 40 } },
      { on: 'delete', effect: { kind: 'lose-answer' } },
    )
    await store.put('a', data)
    expectSame(await store.get('a'))
    const keys: string[] = []
    for await (const object of store.list('')) keys.push(object.key)
    expect(keys).toEqual(['a'])
    await store.delete(['a'])
    expect(await store.stat('a')).toBeUndefined()
    server.assertAllFaultsMet()
  })

  it('is given up when it stalls, at the head of an answer and in its middle', async () => {
    const store = await open()
    await store.put('a', data)
    for (const on of ['get', 'put', 'head', 'list', 'delete'] as const) server.plant({ on, effect: { kind: 'stall' } })
    const list = async () => {
      for await (const _ of store.list('')) throw new Error('it stalls')
    }
    const calls = [store.get('a'), store.put('b', data), store.stat('a'), list(), store.delete(['a'])]
    const start = performance.now()
    for (const error of await Promise.all(calls.map(failure))) expect(error).toMatchObject({ code: 'TIMEOUT' })
    expect(performance.now() - start).toBeLessThan(5000)
    server.assertAllFaultsMet()
  })

  it('is left at once when the signal aborts in a stall', async () => {
    const store = retrying(await open({ timeoutMs: 60_000 }), quick)
    server.plant({ on: 'put', effect: { kind: 'stall' } })
    const controller = new AbortController()
    setTimeout(() => controller.abort(new Error('enough')), 100)
    const start = performance.now()
    await expect(store.put('a', data, { signal: controller.signal })).rejects.toThrow('enough')
    expect(performance.now() - start).toBeLessThan(2000)
    server.assertAllFaultsMet()
  })

  it('may be slow', async () => {
    const store = await open()
    server.plant({ on: 'put', effect: { kind: 'slow', ms: 200 } })
    await store.put('a', data)
    expectSame(await store.get('a'))
    server.assertAllFaultsMet()
  })

  it.each(['nothing', 1000] as const)('is not believed when it has stored %s', async (keep) => {
    server.plant({ on: 'put', times: 2, effect: { kind: 'lie', keep } })
    const store = await open()
    expect(await failure(store.put('a', data))).toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringMatching(/accepted a and has (not stored it|1000 of its 200000 bytes)/),
    })
    await retrying(store, quick).put('a', data)
    expectSame(await store.get('a'))
    server.assertAllFaultsMet()
  })

  it('may lose the answer to a conditional put', async () => {
    const store = retrying(await open(), quick)
    server.plant({ on: 'put', effect: { kind: 'lose-answer' } })
    await store.put('lease', data, { ifAbsent: true })
    await expect(store.put('lease', new Uint8Array(1), { ifAbsent: true })).rejects.toMatchObject({
      code: 'ALREADY_EXISTS',
    })
    server.assertAllFaultsMet()
  })

  it('may forget in its listings what it has: get knows', async () => {
    const store = await open()
    await store.put('a', data)
    server.plant({ on: 'list', effect: { kind: 'forget', keys: /a$/ } })
    for await (const _ of store.list('')) throw new Error('it was to be forgotten')
    expectSame(await store.get('a'))
    server.assertAllFaultsMet()
  })

  it('is sent again what was damaged on its way to it', async () => {
    const store = await open()
    server.plant({ on: 'put', times: 2, effect: { kind: 'damage-upload' } })
    expect(await failure(store.put('a', data))).toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringMatching(/XAmzContentSHA256Mismatch.*damaged on its way/),
    })
    expect(server.objects.size).toBe(0)
    await retrying(store, quick).put('a', data)
    expectSame(await store.get('a'))
    server.assertAllFaultsMet()
  })

  it('may turn bits, which is for the caller to find', async () => {
    const store = await open()
    await store.put('a', data)
    server.plant({ on: 'get', effect: { kind: 'flip-bit' } })
    expect(Buffer.compare(await store.get('a'), data)).not.toBe(0)
    server.assertAllFaultsMet()
  })
})

describe('a planted fault', () => {
  it('that was never met is told', () => {
    server.plant({ on: 'get', effect: { kind: 'stall' } })
    expect(() => server.assertAllFaultsMet()).toThrow(/never met/)
  })
})

describe('a node whose clock is wrong', () => {
  it('is set right by the server', async () => {
    await server.close()
    server = await startS3Server({ clockAheadMs: 3 * 3_600_000 })
    const store = await open()
    expect(await failure(store.put('a', data))).toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringMatching(/RequestTimeTooSkewed.*clock right/),
    })
    await store.put('a', data)
    expectSame(await store.get('a'))
  })
})

describe('https', () => {
  it('is trusted by its authority’s certificate, and not without', async () => {
    await server.close()
    const files = { key: join(directory, 'key.pem'), cert: join(directory, 'cert.pem') }
    const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost']
    const request = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', ...subject]
    execFileSync('openssl', [...request, '-keyout', files.key, '-out', files.cert], { stdio: 'ignore' })
    server = await startS3Server({
      tls: { key: readFileSync(files.key, 'utf8'), cert: readFileSync(files.cert, 'utf8') },
    })
    expect(await failure((await open()).get('a'))).toMatchObject({
      code: 'FAILED_PRECONDITION',
      message: expect.stringMatching(/CA file/),
    })
    const store = await open({ caFile: files.cert })
    await store.put('a', data)
    expectSame(await store.get('a'))
    await expect(open({ caFile: join(directory, 'none') })).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' })
  })
})
