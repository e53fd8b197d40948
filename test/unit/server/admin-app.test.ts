import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { FastifyInstance, InjectOptions } from 'fastify'
import { Check } from 'typebox/schema'
import { afterEach, beforeAll, beforeEach, describe, expect, it, test } from 'vitest'
import { buildAdminApp } from '../../../src/server/app.ts'
import { type FakeServices, fakeServices } from '../../support/fake-services.ts'
import { RawConnection } from '../../support/raw-http.ts'

interface Documented {
  readonly summary?: string
  readonly tags?: readonly string[]
  readonly responses?: Readonly<Record<string, { content?: { 'application/json': { schema: object } } }>>
}

let services: FakeServices
let app: FastifyInstance

beforeEach(() => {
  services = fakeServices()
  app = buildAdminApp(services)
})

afterEach(() => app.close())

async function call(method: InjectOptions['method'] & string, url: string, payload?: object, headers = {}) {
  const answer = await app.inject({ method, url, headers, ...(payload ? { payload } : {}) } as InjectOptions)
  return { status: answer.statusCode, body: answer.body === '' ? undefined : answer.json() }
}

async function documentedRoutes(): Promise<[string, string, Documented][]> {
  const { body } = await call('GET', '/v1/openapi.json')
  return Object.entries<Record<string, Documented>>(body.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, route]): [string, string, Documented] => [method.toUpperCase(), path, route]),
  )
}

describe('the description', () => {
  it('gives every route a summary, a tag, an answer and errors', async () => {
    const routes = await documentedRoutes()
    expect(routes.length).toBeGreaterThanOrEqual(25)
    for (const [method, path, { summary, tags, responses = {} }] of routes) {
      const name = `${method} ${path}`
      expect.soft(summary?.length, name).toBeGreaterThan(9)
      expect.soft(tags, name).toHaveLength(1)
      expect
        .soft(Object.keys(responses), name)
        .toEqual(expect.arrayContaining([expect.stringMatching(/^2\d\d$/), '4XX', '5XX']))
    }
  })

  it('is the same when asked for again', async () => {
    const first = await call('GET', '/v1/openapi.json')
    expect(first.body.openapi).toBe('3.1.0')
    expect(await call('GET', '/v1/openapi.json')).toEqual(first)
  })
})

const requests: [string, string, string, object | undefined, number][] = [
  ['GET', '/v1/version', '/v1/version', undefined, 200],
  ['GET', '/v1/info', '/v1/info', undefined, 200],
  ['GET', '/v1/doctor', '/v1/doctor', undefined, 200],
  ['GET', '/v1/volumes', '/v1/volumes', undefined, 200],
  ['POST', '/v1/volumes', '/v1/volumes', { name: 'new', size: '1G' }, 201],
  ['POST', '/v1/volumes', '/v1/volumes', { name: 'db' }, 200],
  ['GET', '/v1/volumes/db', '/v1/volumes/{name}', undefined, 200],
  ['DELETE', '/v1/volumes/web?purge=true', '/v1/volumes/{name}', undefined, 204],
  ['PATCH', '/v1/volumes/db', '/v1/volumes/{name}', { preSnapshot: 'sync', postSnapshot: '' }, 200],
  ['POST', '/v1/volumes/db/resize', '/v1/volumes/{name}/resize', { size: '20G' }, 200],
  ['POST', '/v1/volumes/db/mount', '/v1/volumes/{name}/mount', undefined, 200],
  ['POST', '/v1/volumes/db/umount', '/v1/volumes/{name}/umount', undefined, 204],
  ['POST', '/v1/volumes/trim', '/v1/volumes/trim', { names: ['db'] }, 200],
  ['POST', '/v1/volumes/db/takeover', '/v1/volumes/{name}/takeover', { force: true }, 200],
  ['POST', '/v1/volumes/usage', '/v1/volumes/usage', undefined, 200],
  ['GET', '/v1/trash', '/v1/trash', undefined, 200],
  ['POST', '/v1/trash/old/restore', '/v1/trash/{ref}/restore', { as: 'older' }, 200],
  ['DELETE', '/v1/trash', '/v1/trash', undefined, 200],
  ['DELETE', '/v1/trash/old', '/v1/trash/{ref}', undefined, 200],
  ['GET', '/v1/snapshots?volume=db', '/v1/snapshots', undefined, 200],
  ['POST', '/v1/volumes/db/snapshots', '/v1/volumes/{name}/snapshots', { name: 's2', pause: true }, 201],
  ['GET', '/v1/volumes/db/snapshots/s1', '/v1/volumes/{name}/snapshots/{snapshot}', undefined, 200],
  ['DELETE', '/v1/volumes/db/snapshots/s1', '/v1/volumes/{name}/snapshots/{snapshot}', undefined, 204],
  ['POST', '/v1/volumes/db/snapshots/s1/revert', '/v1/volumes/{name}/snapshots/{snapshot}/revert', undefined, 204],
  ['POST', '/v1/volumes/db/snapshots/s1/mount', '/v1/volumes/{name}/snapshots/{snapshot}/mount', { at: '/mnt' }, 200],
  ['POST', '/v1/volumes/db/snapshots/s1/umount', '/v1/volumes/{name}/snapshots/{snapshot}/umount', undefined, 204],
  ['POST', '/v1/snapshots/diff', '/v1/snapshots/diff', { from: 'db@s1', to: 'db@s2' }, 200],
  ['GET', '/v1/targets', '/v1/targets', undefined, 200],
  ['POST', '/v1/targets', '/v1/targets', { name: 'off', url: 's3://bucket', access: { pathStyle: true } }, 201],
  ['GET', '/v1/targets/nas', '/v1/targets/{name}', undefined, 200],
  ['DELETE', '/v1/targets/nas', '/v1/targets/{name}', undefined, 204],
  ['POST', '/v1/targets/nas/check', '/v1/targets/{name}/check', undefined, 200],
  ['GET', '/v1/targets/nas/passphrases', '/v1/targets/{name}/passphrases', undefined, 200],
  ['POST', '/v1/targets/nas/passphrases', '/v1/targets/{name}/passphrases', { file: '/new' }, 201],
  ['DELETE', '/v1/targets/nas/passphrases/p1', '/v1/targets/{name}/passphrases/{id}', undefined, 204],
  ['POST', '/v1/backups', '/v1/backups', { volume: 'db', to: { at: 'nas' } }, 201],
  ['POST', '/v1/backups', '/v1/backups', { volume: 'lag', to: { at: 'nas' }, detach: true }, 202],
  ['POST', '/v1/backups/list', '/v1/backups/list', { at: 'nas', volume: 'db' }, 200],
  ['POST', '/v1/backups/inspect', '/v1/backups/inspect', { backup: 'nas/evil' }, 200],
  ['POST', '/v1/backups/files', '/v1/backups/files', { backup: 'nas/1' }, 200],
  ['POST', '/v1/backups/files', '/v1/backups/files', { backup: 'nas/empty', path: 'etc' }, 200],
  ['POST', '/v1/backups/restore', '/v1/backups/restore', { from: { backup: 'nas/1' }, to: 'new' }, 200],
  ['POST', '/v1/backups/remove', '/v1/backups/remove', { backups: [{ backup: 'nas/1' }] }, 200],
  ['POST', '/v1/backups/verify', '/v1/backups/verify', { of: { at: 'broken' }, readData: true }, 200],
  ['POST', '/v1/backups/repair', '/v1/backups/repair', { at: 'broken' }, 200],
  ['POST', '/v1/backups/forget', '/v1/backups/forget', { at: 'nas', volume: 'db', keep: 'last=1', prune: true }, 200],
  ['POST', '/v1/backups/prune', '/v1/backups/prune', { at: 'nas', dryRun: true }, 200],
  ['GET', '/v1/schedules?volume=db', '/v1/schedules', undefined, 200],
  ['POST', '/v1/schedules', '/v1/schedules', { volume: 'db', cron: '@daily', target: 'nas' }, 201],
  ['GET', '/v1/schedules/nightly', '/v1/schedules/{name}', undefined, 200],
  ['DELETE', '/v1/schedules/nightly', '/v1/schedules/{name}', undefined, 204],
  ['POST', '/v1/schedules/nightly/run', '/v1/schedules/{name}/run', undefined, 200],
  ['POST', '/v1/schedules/nightly/pause', '/v1/schedules/{name}/pause', undefined, 200],
  ['POST', '/v1/schedules/nightly/resume', '/v1/schedules/{name}/resume', undefined, 200],
  ['GET', '/v1/operations?all=true', '/v1/operations', undefined, 200],
]

describe('every route', () => {
  let paths: Record<string, Record<string, Required<Documented>>>

  beforeAll(async () => {
    const describing = buildAdminApp(fakeServices())
    paths = (await describing.inject('/v1/openapi.json')).json().paths
    await describing.close()
  })

  it.each(requests)('%s %s answers as the description says', async (method, url, path, payload, status) => {
    const answer = await call(method as 'GET', url, payload)
    expect(answer.status).toBe(status)
    const schema = paths[path]?.[method.toLowerCase()]?.responses[status]?.content?.['application/json'].schema
    expect(schema === undefined).toBe(status === 204)
    if (schema === undefined) expect(answer.body).toBeUndefined()
    else expect(Check(schema, answer.body), JSON.stringify(answer.body)).toBe(true)
  })

  it('is among these, or among those below', async () => {
    const tried = new Set(requests.map(([method, , path]) => `${method} ${path}`))
    const routes = (await documentedRoutes()).map(([method, path]) => `${method} ${path}`)
    const untried = routes.filter((name) => !tried.has(name))
    expect(untried.sort()).toEqual(['GET /v1/metrics', 'GET /v1/operations/{id}', 'POST /v1/operations/{id}/cancel'])
  })
})

describe('operations', () => {
  it('can be watched and cancelled by the id that the caller gave', async () => {
    const id = crypto.randomUUID()
    const creation = call('POST', '/v1/volumes', { name: 'slow' }, { 'holdfast-operation': id })
    await expect.poll(async () => (await call('GET', `/v1/operations/${id}`)).body.state).toBe('running')
    expect((await call('POST', `/v1/operations/${id}/cancel`)).status).toBe(200)
    expect(await creation).toMatchObject({ status: 499, body: { error: { code: 'CANCELLED' } } })
    expect((await call('GET', `/v1/operations/${id}`)).body).toMatchObject({
      state: 'cancelled',
      error: { code: 'CANCELLED' },
    })
  })

  it('refuse an id that is no UUID', async () => {
    const answer = await call('POST', '/v1/volumes', { name: 'x' }, { 'holdfast-operation': 'mine' })
    expect(answer).toMatchObject({
      status: 400,
      body: { error: { message: expect.stringContaining('holdfast-operation') } },
    })
  })
})

test('the metrics are text, as Prometheus wants it, and the description says so', async () => {
  const { statusCode, headers, body } = await app.inject({ method: 'GET', url: '/v1/metrics' })
  expect([statusCode, headers['content-type']]).toEqual([200, 'text/plain; version=0.0.4; charset=utf-8'])
  expect(body).toBe('# TYPE holdfast_volumes gauge\nholdfast_volumes{driver="vfs"} 2\n')
  const [, , route] = (await documentedRoutes()).find(([, path]) => path === '/v1/metrics') ?? []
  expect(route?.responses?.['200']?.content).toMatchObject({ 'text/plain': { schema: { type: 'string' } } })
})

describe('requests reach the services', () => {
  it('with the filters of a list', async () => {
    await call('GET', '/v1/volumes?driver=vfs&label=a&label=b%3Dc&dangling=false&name=d*')
    const filter = { driver: 'vfs', name: 'd*', labels: ['a', 'b=c'], dangling: false }
    expect(services.calls).toEqual([['volumes.list', filter]])
  })

  it('with the body and the operation of a create', async () => {
    const id = crypto.randomUUID()
    const body = {
      name: 'n',
      driver: 'vfs',
      onRemove: 'delete',
      fromSnapshot: 'db@s1',
      labels: { a: 'b' },
      options: { c: 'd' },
    }
    await call('POST', '/v1/volumes', body, { 'holdfast-operation': id })
    expect(services.calls).toEqual([['volumes.create', body, { operationId: id }]])
  })

  it('with purge only when it is asked for', async () => {
    await call('DELETE', '/v1/volumes/web')
    expect(services.calls).toEqual([['volumes.remove', 'web', { purge: false }]])
  })

  it('and a mount whose bind fails is taken back', async () => {
    expect((await call('POST', '/v1/volumes/db/mount', { at: '/missing' })).status).toBe(404)
    expect(services.calls.map(([name]) => name)).toEqual(['mounts.mount', 'mounts.bind', 'mounts.unmount'])
    expect((await call('POST', '/v1/volumes/db/mount', { at: '/mnt' })).body).toEqual({ mountpoint: '/mnt' })
  })
})

describe('a refusal names what is wrong', () => {
  it.each([
    [
      'an unknown key',
      'POST',
      '/v1/volumes',
      { name: 'a', sise: '1G' },
      400,
      "body: unknown key 'sise'; did you mean 'size'?",
    ],
    ['a missing key', 'POST', '/v1/volumes', {}, 400, "body: 'name' is missing"],
    [
      'a wrong type',
      'POST',
      '/v1/volumes',
      { name: 'a', labels: { env: 1 } },
      400,
      "body: 'labels.env' must be string",
    ],
    [
      'an unknown filter',
      'GET',
      '/v1/volumes?drivr=vfs',
      undefined,
      400,
      "query: unknown key 'drivr'; did you mean 'driver'?",
    ],
    ['a flag that is none', 'GET', '/v1/volumes?dangling=yes', undefined, 400, 'true, false'],
    ['an unknown route', 'GET', '/v1/volume', undefined, 404, 'GET /v1/volume is not in the admin API'],
    ['an unknown volume', 'GET', '/v1/volumes/nope', undefined, 404, 'volume nope does not exist'],
    ['a volume in use', 'DELETE', '/v1/volumes/db', undefined, 409, 'is mounted by'],
    ['a change of what stays', 'PATCH', '/v1/volumes/db', { size: '1G' }, 400, "unknown key 'size'"],
    ['a bad size', 'POST', '/v1/volumes/db/resize', { size: 'big' }, 400, "'big' is not a size"],
    [
      'a secret instead of a file',
      'POST',
      '/v1/targets',
      { name: 'a', url: 's3://b', access: { passphrase: 'hunter2' } },
      400,
      "body: unknown key 'passphrase'; known are endpoint, ",
    ],
    ['an unknown target', 'GET', '/v1/targets/nope', undefined, 404, 'target nope does not exist'],
    ['an unknown backup', 'POST', '/v1/backups/files', { backup: 'nas/gone' }, 404, 'backup nas/gone does not exist'],
    ['a defect', 'POST', '/v1/volumes', { name: 'a', driver: 'broken' }, 500, 'a defect'],
  ])('%s', async (_what, method, url, payload, status, message) => {
    const answer = await call(method as 'GET', url, payload)
    expect(answer.status).toBe(status)
    expect(answer.body).toEqual({
      error: {
        code: expect.stringMatching(/^[A-Z_]+$/),
        message: expect.stringContaining(message),
        details: expect.any(Object),
      },
    })
  })

  it.each([
    ['no JSON', 'application/json', '{"name":'],
    ['no JSON of another type', 'text/plain', 'name=a'],
    ['too long a body', 'application/json', JSON.stringify({ name: 'x'.repeat(2 ** 20) })],
    ['a planted prototype', 'application/json', '{"name":"a","__proto__":{"size":"1G"}}'],
  ])('%s', async (_what, type, payload) => {
    const answer = await app.inject({ method: 'POST', url: '/v1/volumes', headers: { 'content-type': type }, payload })
    expect(answer.statusCode).toBe(400)
    expect(answer.json().error.code).toBe('INVALID_ARGUMENT')
  })
})

describe('whatever a client sends', () => {
  it.each([undefined, 'application/x-www-form-urlencoded'])('a JSON body of type %s is one', async (type) => {
    const headers = type === undefined ? {} : { 'content-type': type }
    const answer = await app.inject({ method: 'POST', url: '/v1/volumes', headers, payload: '{"name":"new"}' })
    expect(answer.statusCode).toBe(201)
    expect(answer.json()).toMatchObject({ name: 'new' })
  })

  it('names of every length that a volume may have are found', async () => {
    const name = 'n'.repeat(127)
    await call('POST', '/v1/volumes', { name })
    expect((await call('GET', `/v1/volumes/${name}`)).body).toMatchObject({ name })
    expect((await call('GET', `/v1/snapshots/${name}@${name}`)).status).toBe(404)
  })

  it.each([
    ['a name too long for any volume', `/v1/volumes/${'n'.repeat(301)}`],
    ['a path that is none', '/v1/volumes/%zz'],
  ])('%s is refused in the form of all errors', async (_what, url) => {
    const { status, body } = await call('GET', url)
    expect({ status, code: body.error.code }).toEqual({ status: 400, code: 'INVALID_ARGUMENT' })
  })

  it('bytes that are no HTTP are refused in that form too', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'holdfast-admin-'))
    try {
      await app.listen({ path: join(directory, 's') })
      const connection = await RawConnection.open(join(directory, 's'))
      connection.write('NONSENSE\r\n\r\n')
      const { status, body } = await connection.read()
      connection.close()
      expect(status).toBe(400)
      expect(JSON.parse(body).error).toEqual({
        code: 'INVALID_ARGUMENT',
        message: expect.stringContaining('not valid HTTP'),
        details: {},
      })
    } finally {
      rmSync(directory, { recursive: true, force: true })
    }
  })
})

it('logs what nobody expected, and nothing else', async () => {
  const logged: string[] = []
  const write = (fields: { err?: Error }) => void logged.push(String(fields.err?.message))
  const quiet = () => undefined
  const logger = {
    level: 'info',
    trace: quiet,
    debug: quiet,
    info: quiet,
    warn: write,
    error: write,
    fatal: write,
    silent: quiet,
  }
  const watched = buildAdminApp(services, { logger: Object.assign(logger, { child: () => logger as never }) as never })
  await watched.inject({ method: 'GET', url: '/v1/volumes/nope' })
  expect(logged).toEqual([])
  await watched.inject({ method: 'POST', url: '/v1/volumes', payload: { name: 'a', driver: 'broken' } })
  expect(logged).toEqual(['a defect'])
  await watched.close()
})
