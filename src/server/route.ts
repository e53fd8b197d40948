/** What every route of the admin API is made with. */

import type { IncomingMessage, ServerResponse } from 'node:http'
import type { FastifyBaseLogger, FastifyInstance, RawServerDefault } from 'fastify'
import type { CallOptions, OperationService, OperationView } from '../services/journal/contract.ts'
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

/** How a piece of long work was answered: with the operation that goes on, or with its result. */
export type Answered<T> =
  | { readonly status: 202; readonly body: OperationView }
  | { readonly status: 200; readonly body: T }

/**
 * Begins long work. With `detach` it goes on by itself once it is in the journal, whose entry says how it ends.
 * @returns its operation, with `detach`; else, or when no operation was needed, its result
 * @throws what it throws; with `detach` only what it throws before it is in the journal
 */
export async function begin<T>(
  operations: OperationService,
  call: CallOptions,
  detach: boolean | undefined,
  start: (call: CallOptions) => Promise<T>,
): Promise<Answered<T>> {
  const started = Promise.withResolvers<Answered<T>>()
  const onStarted = (id: string): void => started.resolve({ status: 202, body: operations.inspect(id) })
  const ended = start(detach ? { ...call, onStarted } : call).then((body): Answered<T> => ({ status: 200, body }))
  // The first of the two says how it went; when that is the operation, the journal has the other's error.
  return await Promise.race([started.promise, ended])
}
