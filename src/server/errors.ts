/** Turns whatever a request of the admin API ends with into the error body and the status of the error table. */

import type { Socket } from 'node:net'
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import { AppError, errorTable, isAppError, toAppError } from '../errors.ts'
import { suggestion } from '../units.ts'

type Violation = NonNullable<FastifyError['validation']>[number] & {
  readonly parentSchema?: { readonly properties?: object }
}

/** Fastify's error handler: only what nobody expected is logged. */
export function answerError(error: unknown, request: FastifyRequest, reply: FastifyReply): void {
  const known = fromFastify(error as FastifyError)
  if (!isAppError(known) || known.code === 'INTERNAL') request.log.error({ err: error, url: request.url }, 'admin API')
  const { code, message, details } = toAppError(known)
  reply.code(errorTable[code].status).send({ error: { code, message, details } })
}

/** Fastify's handler for paths and methods that are not there. */
export function answerUnknownRoute(request: FastifyRequest, reply: FastifyReply): void {
  const message = `${request.method} ${request.url.split('?')[0]} is not in the admin API; /v1/openapi.json lists what is`
  answerError(new AppError('NOT_FOUND', message), request, reply)
}

/** Answers bytes that are no HTTP request, for which Fastify has no reply to write to, and ends the connection. */
export function answerNoHttp({ code: reason, message: why }: Error & { readonly code?: string }, socket: Socket): void {
  if (reason === 'ECONNRESET' || !socket.writable) return void socket.destroy()
  const code = 'INVALID_ARGUMENT'
  const body = JSON.stringify({ error: { code, message: `the request is not valid HTTP: ${why}`, details: {} } })
  const head = [
    `HTTP/1.1 ${errorTable[code].status} Bad Request`,
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Connection: close',
  ]
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`)
}

/** What Fastify itself refuses: a value against the schema, a body that is no JSON or too long, a path that is none. */
function fromFastify(error: FastifyError): unknown {
  const violation = error.validation?.[0]
  if (violation) return new AppError('INVALID_ARGUMENT', describe(violation, error.validationContext ?? 'request'))
  if (isAppError(error) || error.statusCode === undefined || error.statusCode >= 500) return error
  return new AppError('INVALID_ARGUMENT', `request refused: ${error.message}`, { cause: error })
}

/** The violation in words that name the field as the caller wrote it: `body: labels.env must be string`. */
function describe({ keyword, instancePath, params, message, parentSchema }: Violation, context: string): string {
  const where = context === 'querystring' ? 'query' : context
  const field = instancePath.slice(1).replaceAll('/', '.')
  if (keyword === 'additionalProperties') {
    const key = String(params['additionalProperty'])
    return `${where}: unknown key '${key}'${suggestion(key, Object.keys(parentSchema?.properties ?? {}))}`
  }
  if (keyword === 'required')
    return `${where}: '${[field, params['missingProperty']].filter(Boolean).join('.')}' is missing`
  const allowed = Array.isArray(params['allowedValues']) ? `: ${params['allowedValues'].join(', ')}` : ''
  return `${where}: ${field ? `'${field}'` : 'it'} ${message}${allowed}`
}
