/** Admin API: backups one by one. What concerns a repository as a whole is in repositories.ts. */

import type { Services } from '../../services/contract.ts'
import { array } from '../json-schema.ts'
import { jsonArrayStream } from '../json-stream.ts'
import { userLabels } from '../labels.ts'
import { type AdminApp, answer, begin, callOptions, errors } from '../route.ts'
import {
  backupBody,
  backupFileView,
  backupView,
  createBackupBody,
  listBackupsBody,
  listFilesBody,
  removeBackupsBody,
  restoreBackupBody,
  restoredView,
} from '../schemas/backup.ts'
import { operationHeaders, operationView, removedView } from '../schemas.ts'

const tags = ['backups']

/** Adds `/v1/backups` and what is below it. */
export function backupRoutes(app: AdminApp, { backups, operations }: Pick<Services, 'backups' | 'operations'>): void {
  app.post(
    '/v1/backups',
    {
      schema: {
        summary: 'Back a volume or a snapshot up',
        tags,
        headers: operationHeaders,
        body: createBackupBody,
        response: { 201: answer('the backup', backupView), 202: answer('it goes on', operationView), ...errors },
      },
    },
    async ({ body: { detach, ...body }, headers }, reply) => {
      const request = { ...body, labels: userLabels(body.labels) }
      const begun = await begin(operations, callOptions(headers), detach, (call) => backups.create(request, call))
      return begun.status === 202 ? reply.code(202).send(begun.body) : reply.code(201).send(begun.body)
    },
  )

  app.post(
    '/v1/backups/list',
    {
      schema: {
        summary: 'The backups in a repository, oldest first, or those of one volume',
        tags,
        body: listBackupsBody,
        response: { 200: answer('the backups', array(backupView)), ...errors },
      },
    },
    ({ body: { volume, ...where } }) => backups.list(where, volume),
  )

  app.post(
    '/v1/backups/inspect',
    {
      schema: {
        summary: 'One backup',
        tags,
        body: backupBody,
        response: { 200: answer('the backup', backupView), ...errors },
      },
    },
    ({ body }) => backups.inspect(body),
  )

  app.post(
    '/v1/backups/files',
    {
      schema: {
        summary: 'The files in a backup, in the order of the tree; an item on each line, sent as they are read',
        description: 'An error in the middle ends the text with its body instead of a bracket: it is no JSON then.',
        tags,
        body: listFilesBody,
        response: { 200: answer('the files', array(backupFileView)), ...errors },
      },
    },
    async ({ body: { path = '', ...ref } }, reply) => {
      const files = await jsonArrayStream((take, signal) => backups.listFiles(ref, path, take, signal))
      // Fastify takes a stream for the body that the schema describes; its types do not say so.
      return reply.type('application/json; charset=utf-8').send(files as never)
    },
  )

  app.post(
    '/v1/backups/restore',
    {
      schema: {
        summary: "Make a volume from a backup, or with inPlace replace a volume's content",
        tags,
        headers: operationHeaders,
        body: restoreBackupBody,
        response: { 200: answer('the volume', restoredView), 202: answer('it goes on', operationView), ...errors },
      },
    },
    async ({ body: { detach, ...request }, headers }, reply) => {
      const begun = await begin(operations, callOptions(headers), detach, (call) => backups.restore(request, call))
      return begun.status === 202 ? reply.code(202).send(begun.body) : begun.body
    },
  )

  app.post(
    '/v1/backups/remove',
    {
      schema: {
        summary: 'Remove backups; a prune gives back the room that only they needed',
        tags,
        body: removeBackupsBody,
        response: { 200: answer('their URLs', removedView), ...errors },
      },
    },
    async ({ body }) => ({ removed: await backups.remove(body.backups) }),
  )
}
