/** Admin API: work on a backup repository as a whole. */

import type { Services } from '../../services/contract.ts'
import { type AdminApp, answer, begin, callOptions, errors } from '../route.ts'
import {
  forgetBody,
  forgetView,
  pruneBody,
  pruneView,
  repairBody,
  repairView,
  verifyBody,
  verifyView,
} from '../schemas/backup.ts'
import { operationHeaders, operationView } from '../schemas.ts'

const tags = ['backups']
const goesOn = { 202: answer('it goes on', operationView) } as const

/** Adds `/v1/backups/verify`, `repair`, `forget` and `prune`. */
export function repositoryRoutes(
  app: AdminApp,
  { backups, operations }: Pick<Services, 'backups' | 'operations'>,
): void {
  app.post(
    '/v1/backups/verify',
    {
      schema: {
        summary: 'Check a repository, or one backup of it; damage is the result, not an error',
        tags,
        headers: operationHeaders,
        body: verifyBody,
        response: { 200: answer('what was found', verifyView), ...goesOn, ...errors },
      },
    },
    async ({ body: { of, readData = false, detach }, headers }, reply) => {
      const begun = await begin(operations, callOptions(headers), detach, (call) =>
        backups.verify(of, { readData }, call),
      )
      return begun.status === 202 ? reply.code(202).send(begun.body) : begun.body
    },
  )

  app.post(
    '/v1/backups/repair',
    {
      schema: {
        summary:
          'Write the indexes of a repository anew from its packs; with readData, save what is sound in damaged ones',
        tags,
        headers: operationHeaders,
        body: repairBody,
        response: { 200: answer('what was done', repairView), ...goesOn, ...errors },
      },
    },
    async ({ body: { readData = false, detach, ...where }, headers }, reply) => {
      const begun = await begin(operations, callOptions(headers), detach, (call) =>
        backups.repair(where, { readData }, call),
      )
      return begun.status === 202 ? reply.code(202).send(begun.body) : begun.body
    },
  )

  app.post(
    '/v1/backups/forget',
    {
      schema: {
        summary: 'Remove the backups of a volume that a retention does not keep; with dryRun only say which',
        tags,
        headers: operationHeaders,
        body: forgetBody,
        response: { 200: answer('what was decided', forgetView), ...goesOn, ...errors },
      },
    },
    async ({ body: { at, access, detach, ...rules }, headers }, reply) => {
      const begun = await begin(operations, callOptions(headers), detach, (call) =>
        backups.forget({ at, access }, rules, call),
      )
      return begun.status === 202 ? reply.code(202).send(begun.body) : begun.body
    },
  )

  app.post(
    '/v1/backups/prune',
    {
      schema: {
        summary: 'Give back the room in a repository that no backup needs any more',
        tags,
        headers: operationHeaders,
        body: pruneBody,
        response: { 200: answer('what was done', pruneView), ...goesOn, ...errors },
      },
    },
    async ({ body: { dryRun = false, detach, ...where }, headers }, reply) => {
      const begun = await begin(operations, callOptions(headers), detach, (call) =>
        backups.prune(where, { dryRun }, call),
      )
      return begun.status === 202 ? reply.code(202).send(begun.body) : begun.body
    },
  )
}
