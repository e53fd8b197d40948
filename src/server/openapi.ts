/** The admin API's description, made from the routes when it is asked for: the daemon's start does not wait for it. */

import fastify from 'fastify'
import type { SchemaTypes } from './json-schema.ts'
import { type AdminApp, answer } from './route.ts'

const tags = ['node', 'volumes', 'snapshots', 'trash', 'targets', 'backups', 'schedules', 'operations']

/** Adds `GET /v1/openapi.json`, which describes the routes that `addRoutes` adds. */
export function openApiRoute(app: AdminApp, version: string, addRoutes: (app: AdminApp) => void): void {
  const schema = {
    summary: 'This description',
    tags: ['node'],
    response: { 200: answer('OpenAPI 3.1', { type: 'object', additionalProperties: true } as const) },
  } as const
  let document: Promise<object> | undefined
  app.get('/v1/openapi.json', { schema }, async () => {
    document ??= describe(version, addRoutes)
    return { ...(await document) }
  })
}

async function describe(version: string, addRoutes: (app: AdminApp) => void): Promise<object> {
  const { default: swagger } = await import('@fastify/swagger')
  const app = fastify()
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Holdfast',
        description: 'The admin API, on a UNIX socket',
        version,
        license: { name: 'Apache-2.0' },
      },
      tags: tags.map((name) => ({ name })),
    },
  })
  await app.register((scope, _options, done) => {
    addRoutes(scope.withTypeProvider<SchemaTypes>())
    done()
  })
  await app.ready()
  return app.swagger()
}
