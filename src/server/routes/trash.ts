/** Admin API: the trash. */

import type { Services } from '../../services/contract.ts'
import { array } from '../json-schema.ts'
import { type AdminApp, answer, errors } from '../route.ts'
import { removedView, restoreBody, trashParams, trashView, volumeView } from '../schemas.ts'

const tags = ['trash']

/** Adds `/v1/trash` and what is below it. */
export function trashRoutes(app: AdminApp, { trash }: Pick<Services, 'trash'>): void {
  app.get(
    '/v1/trash',
    {
      schema: {
        summary: 'What can be restored',
        tags,
        response: { 200: answer('the trash', array(trashView)), ...errors },
      },
    },
    async () => trash.list(),
  )

  app.post(
    '/v1/trash/:ref/restore',
    {
      schema: {
        summary: 'Make a trashed volume a volume again; of several of one name, the one removed last',
        tags,
        params: trashParams,
        body: restoreBody,
        response: { 200: answer('the volume', volumeView), ...errors },
      },
    },
    ({ params, body }) => trash.restore(params.ref, body.as),
  )

  app.delete(
    '/v1/trash',
    {
      schema: {
        summary: 'Purge everything in the trash that has a purge time, for good',
        tags,
        response: { 200: answer('the names that are gone', removedView), ...errors },
      },
    },
    async () => ({ removed: await trash.empty([]) }),
  )

  app.delete(
    '/v1/trash/:ref',
    {
      schema: {
        summary: 'Purge one trashed volume, for good',
        tags,
        params: trashParams,
        response: { 200: answer('the names that are gone', removedView), ...errors },
      },
    },
    async ({ params }) => ({ removed: await trash.empty([params.ref]) }),
  )
}
