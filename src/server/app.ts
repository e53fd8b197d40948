/**
 * The admin API under /v1, for the CLI and for programs: Fastify with one file of routes for each noun. It listens nowhere; the
 * daemon does. It checks the form of a request, the services its meaning.
 */

import fastify, { type FastifyBaseLogger, type FastifyInstance, LogController } from 'fastify'
import type { Services } from '../services/contract.ts'
import { answerError, answerNoHttp, answerUnknownRoute } from './errors.ts'
import type { SchemaTypes } from './json-schema.ts'
import { openApiRoute } from './openapi.ts'
import type { AdminApp } from './route.ts'
import { backupRoutes } from './routes/backups.ts'
import { nodeRoutes } from './routes/node.ts'
import { operationRoutes } from './routes/operations.ts'
import { repositoryRoutes } from './routes/repositories.ts'
import { scheduleRoutes } from './routes/schedules.ts'
import { snapshotRoutes } from './routes/snapshots.ts'
import { targetRoutes } from './routes/targets.ts'
import { trashRoutes } from './routes/trash.ts'
import { volumeRoutes } from './routes/volumes.ts'
import { compileValidator } from './validation.ts'

/** How the app is built; without a logger nothing is logged. */
export interface AdminOptions {
  readonly logger?: FastifyBaseLogger | undefined
}

/** The server for the admin socket. Closing it answers what is under way first. */
export function buildAdminApp(services: Services, { logger }: AdminOptions = {}): FastifyInstance {
  const base = fastify({
    ...(logger ? { loggerInstance: logger } : { logger: false }),
    logController: new LogController({ disableRequestLogging: true }),
    exposeHeadRoutes: false,
    bodyLimit: 2 ** 20,
    // Node's default closes idle connections of a client that is about to use them.
    keepAliveTimeout: 0,
    requestTimeout: 0,
    http: { headersTimeout: 0 }, // It is the client's to say how long it waits, also for a daemon that has much to do.
    // A name has up to 127 characters, and VOLUME@SNAPSHOT has two.
    routerOptions: { maxParamLength: 300 },
    frameworkErrors: answerError,
    clientErrorHandler: answerNoHttp,
  })
  const app: AdminApp = base.withTypeProvider<SchemaTypes>()
  app.setErrorHandler(answerError)
  app.setNotFoundHandler(answerUnknownRoute)
  // Whoever sends no type, or curl's for forms, means JSON: there is nothing else that a body could be.
  app.addContentTypeParser('*', { parseAs: 'string' }, app.getDefaultJsonParser('error', 'error'))
  app.setValidatorCompiler(compileValidator)
  // The compiler has already held every answer against its schema.
  app.setSerializerCompiler(() => (body) => JSON.stringify(body))
  app.addHook('preValidation', async (request) => {
    if (request.routeOptions.schema?.body !== undefined) request.body ??= {}
  })
  addRoutes(app, services)
  openApiRoute(app, services.version, (documented) => addRoutes(documented, services))
  return base
}

function addRoutes(app: AdminApp, services: Services): void {
  nodeRoutes(app, services)
  volumeRoutes(app, services)
  trashRoutes(app, services)
  snapshotRoutes(app, services)
  targetRoutes(app, services)
  backupRoutes(app, services)
  repositoryRoutes(app, services)
  scheduleRoutes(app, services)
  operationRoutes(app, services)
}
