import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { buildPluginApp } from '../../../plugin/routes.ts'
import { AppError } from '../../../src/errors.ts'
import { dockerRequest, RawConnection } from '../../support/raw-http.ts'
import { type FakeServices, fakeServices } from './fake-services.ts'

let directory: string
let socket: string
let app: FastifyInstance
let fake: FakeServices
let connection: RawConnection
let logged: string[]

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'holdfast-plugin-'))
  socket = join(directory, 'p.sock')
  fake = fakeServices('db', 'web')
  logged = []
  app = buildPluginApp(fake.services, {
    log: { error: (_fields, message) => logged.push(message) },
    answerWithinMs: { long: 300, short: 200 },
  })
  await app.listen({ path: socket })
  connection = await RawConnection.open(socket)
})

afterEach(async () => {
  connection.close()
  await app.close()
  await rm(directory, { recursive: true, force: true })
})

async function call(path: string, body?: unknown): Promise<Record<string, unknown>> {
  const { status, body: text } = await connection.request(path, body)
  expect(status).toBe(200)
  return JSON.parse(text) as Record<string, unknown>
}

const withBody = ['Create', 'Get', 'Remove', 'Path', 'Mount', 'Unmount']

describe('the nine endpoints', () => {
  it('activates as a volume driver after the counts were reset', async () => {
    expect(await call('/Plugin.Activate')).toEqual({ Implements: ['VolumeDriver'] })
    expect(fake.calls).toEqual(['resetCounts'])
  })

  it('answers an activation that failed with a status, because Docker keeps a 200 for ever', async () => {
    fake.before['resetCounts'] = () => {
      throw new AppError('INTERNAL', 'the catalog cannot be written')
    }
    const { status, body } = await connection.request('/Plugin.Activate')
    expect(status).toBe(500)
    expect(JSON.parse(body)).toEqual({ Err: 'the catalog cannot be written' })
  })

  it('says its scope', async () => {
    expect(await call('/VolumeDriver.Capabilities', {})).toEqual({ Capabilities: { Scope: 'local' } })
  })

  it('creates with options, with null and without', async () => {
    expect(await call('/VolumeDriver.Create', { Name: 'a1', Opts: { size: '1G', 'label.k': 'v', uid: '5' } })).toEqual({
      Err: '',
    })
    expect(await call('/VolumeDriver.Create', { Name: 'a2', Opts: null })).toEqual({ Err: '' })
    expect(await call('/VolumeDriver.Create', { Name: 'a3' })).toEqual({ Err: '' })
    const opts = { 'from-backup': 'latest', target: 'nas', 'pre-snapshot': 'sync' }
    expect(await call('/VolumeDriver.Create', { Name: 'a4', Opts: opts })).toEqual({ Err: '' })
    expect(fake.requests).toEqual([
      { name: 'a1', size: '1G', labels: { k: 'v' }, options: { uid: '5' } },
      { name: 'a2', labels: {}, options: {} },
      { name: 'a3', labels: {}, options: {} },
      { name: 'a4', fromBackup: 'latest', target: 'nas', preSnapshot: 'sync', labels: {}, options: {} },
    ])
  })

  it('takes Create of a volume that is there as the service does', async () => {
    expect(await call('/VolumeDriver.Create', { Name: 'db', Opts: {} })).toEqual({ Err: '' })
    fake.before['create'] = () => {
      throw new AppError('ALREADY_EXISTS', 'volume db exists with another size')
    }
    expect(await call('/VolumeDriver.Create', { Name: 'db', Opts: {} })).toEqual({
      Err: 'volume db exists with another size',
    })
  })

  it('gets with the fields that Docker reads', async () => {
    expect(await call('/VolumeDriver.Get', { Name: 'db' })).toEqual({
      Volume: { Name: 'db', Mountpoint: '/m/db', CreatedAt: '2026-01-02T03:04:05.678Z', Status: { driver: 'vfs' } },
      Err: '',
    })
    expect(await call('/VolumeDriver.Get', { Name: 'gone' })).toEqual({ Err: 'no such volume: gone' })
    expect(await call('/VolumeDriver.Get', { Name: '../db' })).toEqual({ Err: 'no such volume: ../db' })
  })

  it('answers Path', async () => {
    expect(await call('/VolumeDriver.Path', { Name: 'db' })).toEqual({ Mountpoint: '/m/db', Err: '' })
    expect(await call('/VolumeDriver.Path', { Name: 'gone' })).toEqual({ Err: 'no such volume: gone' })
  })

  it('renders the list once for each generation', async () => {
    const listed = {
      Volumes: [
        { Name: 'db', Mountpoint: '' },
        { Name: 'web', Mountpoint: '' },
      ],
      Err: '',
    }
    expect(await call('/VolumeDriver.List', {})).toEqual(listed)
    expect(await call('/VolumeDriver.List', {})).toEqual(listed)
    expect(fake.listed).toBe(1)
    await call('/VolumeDriver.Remove', { Name: 'web' })
    expect(await call('/VolumeDriver.List', {})).toMatchObject({ Volumes: [{ Name: 'db' }] })
    expect(fake.listed).toBe(2)
  })

  it('removes; what is gone is success, what is used is not', async () => {
    expect(await call('/VolumeDriver.Remove', { Name: 'gone' })).toEqual({ Err: '' })
    fake.before['remove'] = () => {
      throw new AppError('IN_USE', 'volume db is mounted by 2 containers')
    }
    expect(await call('/VolumeDriver.Remove', { Name: 'db' })).toEqual({ Err: 'volume db is mounted by 2 containers' })
  })

  it('does not take a volume whose data is missing for one that is gone', async () => {
    fake.before['remove'] = () => {
      throw new AppError('NOT_FOUND', 'the data of volume db is missing')
    }
    expect(await call('/VolumeDriver.Remove', { Name: 'db' })).toEqual({ Err: 'the data of volume db is missing' })
  })

  it('mounts and unmounts by id', async () => {
    expect(await call('/VolumeDriver.Mount', { Name: 'db', ID: 'i1' })).toEqual({ Mountpoint: '/m/db', Err: '' })
    expect([...fake.held]).toEqual([['db i1', 1]])
    expect(await call('/VolumeDriver.Unmount', { Name: 'db', ID: 'i1' })).toEqual({ Err: '' })
    expect([...fake.held]).toEqual([])
    expect(fake.calls).toEqual(['mount db i1', 'unmount db i1'])
  })

  it('says that it speaks the plugin protocol', async () => {
    const { headers } = await connection.request('/VolumeDriver.List', {})
    expect(headers['content-type']).toBe('application/vnd.docker.plugins.v1.2+json')
  })
})

describe('requests that are not whole', () => {
  it.each(withBody)('%s without a body, as Docker repeats a broken request, is an error', async (endpoint) => {
    const { Err, ...rest } = await call(`/VolumeDriver.${endpoint}`)
    expect(Err).toMatch(/without its body/)
    expect(rest).toEqual({})
    expect(fake.calls).toEqual([])
  })

  it.each(withBody)('%s with a broken or an unfit body is an error', async (endpoint) => {
    for (const text of ['{"Name":"d', 'null', '[]', '"db"', '{}', '{"Name":""}', '{"Name":7}', '\n', '<html>']) {
      connection.write(
        `POST /VolumeDriver.${endpoint} HTTP/1.1\r\nHost: \r\nContent-Length: ${text.length}\r\n\r\n${text}`,
      )
      const { status, body } = await connection.read()
      expect(status).toBe(200)
      expect((JSON.parse(body) as { Err: string }).Err, text).toMatch(/body|names no volume/)
    }
    expect(fake.calls).toEqual([])
  })

  it.each(['Create', 'Remove', 'Mount', 'Unmount'])('%s refuses a name that is a path', async (endpoint) => {
    for (const Name of ['../x', 'a/b', '.hid', 'a b', 'ä', 'x'.repeat(129)]) {
      const { Err } = await call(`/VolumeDriver.${endpoint}`, { Name, ID: 'i' })
      expect(Err).toMatch(/is not a volume name/)
    }
    expect(fake.calls).toEqual([])
  })

  it('refuses a mount without an id and options that are no strings', async () => {
    expect(await call('/VolumeDriver.Mount', { Name: 'db' })).toEqual({ Err: expect.stringMatching(/no mount id/) })
    expect(await call('/VolumeDriver.Unmount', { Name: 'db', ID: '' })).toEqual({
      Err: expect.stringMatching(/no mount id/),
    })
    for (const Opts of [[], 'size=1', { size: 1 }, { size: null }]) {
      expect((await call('/VolumeDriver.Create', { Name: 'n', Opts }))['Err']).toMatch(/option/)
    }
    expect(fake.calls).toEqual([])
  })

  it('does nothing for half a request whose client goes', async () => {
    const half = await RawConnection.open(socket)
    half.write('POST /VolumeDriver.Create HTTP/1.1\r\nHost: \r\nContent-Length: 40\r\n\r\n{"Name":"half"')
    await sleep(50)
    half.close()
    await sleep(50)
    expect(await call('/VolumeDriver.Get', { Name: 'half' })).toEqual({ Err: 'no such volume: half' })
    expect(fake.calls).toEqual([])
    expect(logged).toEqual([])
  })

  it('answers unknown paths and methods with an Err', async () => {
    for (const request of ['POST /VolumeDriver.Nothing', 'GET /VolumeDriver.List', 'POST /%zz', 'POST /']) {
      connection.write(`${request} HTTP/1.1\r\nHost: \r\nContent-Length: 0\r\n\r\n`)
      const { status, body } = await connection.read()
      expect(status).toBe(404)
      expect(JSON.parse(body)).toEqual({ Err: expect.any(String) })
    }
  })

  it('says what failed when something unknown is thrown, and logs it', async () => {
    fake.before['create'] = () => {
      throw new TypeError('x is not a function')
    }
    expect(await call('/VolumeDriver.Create', { Name: 'n' })).toEqual({ Err: 'x is not a function' })
    expect(logged).toHaveLength(1)
  })
})

describe('the wire', () => {
  it('needs no Host and takes any Content-Type', async () => {
    for (const header of [
      '',
      'Content-Type: application/json\r\n',
      'Content-Type: text/plain\r\n',
      'Content-Type: ;;\r\n',
    ]) {
      connection.write(`POST /VolumeDriver.Get HTTP/1.1\r\n${header}Content-Length: 13\r\n\r\n{"Name":"db"}`)
      expect(JSON.parse((await connection.read()).body), header).toMatchObject({ Volume: { Name: 'db' } })
    }
  })

  it('takes a chunked body', async () => {
    const body = 'd\r\n{"Name":"db"}\r\n0\r\n\r\n'
    connection.write(`POST /VolumeDriver.Get HTTP/1.1\r\nHost: \r\nTransfer-Encoding: chunked\r\n\r\n${body}`)
    expect(JSON.parse((await connection.read()).body)).toMatchObject({ Volume: { Name: 'db' } })
  })

  it('answers pipelined requests in their order', async () => {
    connection.write(['db', 'gone', 'web'].map((Name) => dockerRequest('/VolumeDriver.Get', { Name })).join(''))
    expect((await connection.read()).body).toContain('"db"')
    expect((await connection.read()).body).toContain('no such volume: gone')
    expect((await connection.read()).body).toContain('"web"')
  })

  it('takes a body of 1 MB and goes on after one that is too large', async () => {
    const { Err } = await call('/VolumeDriver.Create', { Name: 'big', Opts: { x: 'y'.repeat(2 ** 20) } })
    expect(Err).toBe('')
    const other = await RawConnection.open(socket)
    other.write('POST /VolumeDriver.Create HTTP/1.1\r\nHost: \r\nContent-Length: 100000000\r\n\r\n')
    expect(JSON.parse((await other.read()).body)).toEqual({ Err: expect.stringMatching(/large/) })
    other.close()
    expect(await call('/VolumeDriver.Get', { Name: 'db' })).toMatchObject({ Err: '' })
  })

  it('never closes an idle connection, used or fresh', { timeout: 20_000 }, async () => {
    const all = await Promise.all(Array.from({ length: 20 }, () => RawConnection.open(socket)))
    const used = all.slice(0, 10)
    for (const each of used) await each.request('/VolumeDriver.Get', { Name: 'db' })
    await sleep(7_500)
    for (const each of all) {
      expect(each.closed).toBe(false)
      expect(JSON.parse((await each.request('/VolumeDriver.Get', { Name: 'db' })).body)).toMatchObject({ Err: '' })
      each.close()
    }
  })

  it('has no deadline on headers, requests and idle connections', () => {
    const { keepAliveTimeout, headersTimeout, requestTimeout, timeout } = app.server
    expect({ keepAliveTimeout, headersTimeout, requestTimeout, timeout }).toEqual({
      keepAliveTimeout: 0,
      headersTimeout: 0,
      requestTimeout: 0,
      timeout: 0,
    })
  })

  it('answers what is under way when it is closed, and then closes every connection', async () => {
    const { promise, resolve } = Promise.withResolvers<void>()
    fake.before['create'] = () => promise
    connection.write(dockerRequest('/VolumeDriver.Create', { Name: 'late' }))
    await vi.waitFor(() => expect(fake.calls).toEqual(['create late']))
    const [half, fresh] = [await RawConnection.open(socket), await RawConnection.open(socket)]
    const request = dockerRequest('/VolumeDriver.Get', { Name: 'db' })
    half.write(request.slice(0, 30))
    await sleep(50)
    const closed = app.close()
    await sleep(50)
    half.write(request.slice(30))
    expect(JSON.parse((await half.read()).body)).toMatchObject({ Volume: { Name: 'db' } })
    resolve()
    expect(JSON.parse((await connection.read()).body)).toEqual({ Err: '' })
    await closed
    expect(fresh.closed).toBe(true)
  })
})

describe('clients that do not wait', () => {
  it('takes a Mount back when the client has gone while it ran', async () => {
    const { promise, resolve } = Promise.withResolvers<void>()
    fake.before['mount'] = () => promise
    const client = await RawConnection.open(socket)
    client.write(dockerRequest('/VolumeDriver.Mount', { Name: 'db', ID: 'i1' }))
    await vi.waitFor(() => expect(fake.calls).toEqual(['mount db i1']))
    client.close()
    await sleep(50)
    expect(fake.calls).toEqual(['mount db i1'])
    resolve()
    await vi.waitFor(() => expect(fake.calls).toEqual(['mount db i1', 'unmount db i1']))
    await vi.waitFor(() => expect([...fake.held]).toEqual([]))
  })

  it('does not take back a Mount that failed: its id may be a running container', async () => {
    await call('/VolumeDriver.Mount', { Name: 'db', ID: 'c1' })
    fake.before['mount'] = () => {
      throw new AppError('UNAVAILABLE', 'the storage does not answer')
    }
    expect(await call('/VolumeDriver.Mount', { Name: 'db', ID: 'c1' })).toEqual({ Err: 'the storage does not answer' })
    await sleep(50)
    expect([...fake.held]).toEqual([['db c1', 1]])
    expect(fake.calls).toEqual(['mount db c1', 'mount db c1'])
  })

  it('takes back one of two Mounts with the same id', async () => {
    await call('/VolumeDriver.Mount', { Name: 'db', ID: 'c1' })
    const { promise, resolve } = Promise.withResolvers<void>()
    fake.before['mount'] = () => promise
    expect((await call('/VolumeDriver.Mount', { Name: 'db', ID: 'c1' }))['Err']).toMatch(/still being mounted/)
    resolve()
    await vi.waitFor(() => expect(fake.calls).toEqual(['mount db c1', 'mount db c1', 'unmount db c1']))
    await vi.waitFor(() => expect([...fake.held]).toEqual([['db c1', 1]]))
  })

  it('keeps a Mount whose answer was read, though the client goes at once', async () => {
    const client = await RawConnection.open(socket)
    await client.request('/VolumeDriver.Mount', { Name: 'db', ID: 'i1' })
    client.close()
    await sleep(100)
    expect(fake.calls).toEqual(['mount db i1'])
  })

  it('never answers a mountpoint that is not absolute', async () => {
    fake.services.mounts.mount = () => Promise.resolve('')
    expect((await call('/VolumeDriver.Mount', { Name: 'db', ID: 'i1' }))['Err']).toMatch(/not an absolute path/)
    await vi.waitFor(() => expect(fake.calls).toEqual(['unmount db i1']))
  })

  it.each([
    ['Create', 'create'],
    ['Remove', 'remove'],
    ['Mount', 'mount'],
    ['Unmount', 'unmount'],
  ])('answers %s in time, says that it goes on, and lets it end', async (endpoint, method) => {
    const { promise, resolve } = Promise.withResolvers<void>()
    fake.before[method] = () => promise
    const begun = performance.now()
    const { Err } = await call(`/VolumeDriver.${endpoint}`, { Name: 'db', ID: 'i' })
    expect(performance.now() - begun).toBeLessThan(2_000)
    expect(Err).toMatch(
      /^volume db is still being (created|removed|mounted|unmounted) after .* the work goes on; try again/,
    )
    resolve()
    if (endpoint === 'Create') {
      await vi.waitFor(async () => expect(await call('/VolumeDriver.Create', { Name: 'db' })).toEqual({ Err: '' }))
    }
    await sleep(20)
    expect(logged).toEqual([])
  })

  it('does not let a slow call delay another', async () => {
    const { promise, resolve } = Promise.withResolvers<void>()
    fake.before['mount'] = () => promise
    const slow = await RawConnection.open(socket)
    slow.write(dockerRequest('/VolumeDriver.Mount', { Name: 'db', ID: 'i1' }))
    await vi.waitFor(() => expect(fake.calls).toHaveLength(1))
    const begun = performance.now()
    await call('/VolumeDriver.Get', { Name: 'db' })
    expect(performance.now() - begun).toBeLessThan(150)
    resolve()
    expect(JSON.parse((await slow.read()).body)).toEqual({ Mountpoint: '/m/db', Err: '' })
    slow.close()
  })
})
