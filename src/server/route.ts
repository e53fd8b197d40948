/** What every route of the admin API is made with. */

import type { IncomingMessage, ServerResponse } from 'node:http'
import type { FastifyBaseLogger, FastifyInstance, RawServerDefault } from 'fastify'
import type { CallOptions } from '../services/contract.ts'
import type { SchemaTypes } from './json-schema.ts'
import { errorBody } from './schemas.ts'

/** Fastify, with handlers typed by their schemas. */
export type AdminApp = FastifyInstance<
  RawServerDefault,
  IncomingMessage,
  ServerResponse,
  FastifyBaseLogger,
  SchemaTypes
>

/** The answer without a body. */
export const nothing = { type: 'null', description: 'done' } as const

/** The bodies of all other answers. */
export const errors = {
  '4xx': { ...errorBody, description: 'refused' },
  '5xx': { ...errorBody, description: 'failed' },
} as const

/** The schema of an answer with the words that OpenAPI wants beside it. */
export function answer<const S extends object>(description: string, schema: S): S & { readonly description: string } {
  return { ...schema, description }
}

/** How the caller wants to follow the work, from the headers. */
export function callOptions(headers: { readonly 'holdfast-operation'?: string }): CallOptions {
  return { operationId: headers['holdfast-operation'] }
}
