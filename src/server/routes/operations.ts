/** Admin API: operations. */

import type { Services } from '../../services/contract.ts'
import { array } from '../json-schema.ts'
import { type AdminApp, answer, errors } from '../route.ts'
import { listOperationsQuery, operationParams, operationView } from '../schemas.ts'

const tags = ['operations']

/** Adds `/v1/operations` and what is below it. */
export function operationRoutes(app: AdminApp, { operations }: Pick<Services, 'operations'>): void {
  app.get(
    '/v1/operations',
    {
      schema: {
        summary: 'What is running; with all=true what has ended too, as far as it is remembered',
        tags,
        querystring: listOperationsQuery,
        response: { 200: answer('the operations', array(operationView)), ...errors },
      },
    },
    async ({ query }) => operations.list(query.all === 'true'),
  )

  app.get(
    '/v1/operations/:id',
    {
      schema: {
        summary: 'One operation, with its progress',
        tags,
        params: operationParams,
        response: { 200: answer('the operation', operationView), ...errors },
      },
    },
    async ({ params }) => operations.inspect(params.id),
  )

  app.post(
    '/v1/operations/:id/cancel',
    {
      schema: {
        summary: 'Ask a running operation to stop; it has ended when its state says so',
        tags,
        params: operationParams,
        response: { 200: answer('the operation', operationView), ...errors },
      },
    },
    async ({ params }) => operations.cancel(params.id),
  )
}
