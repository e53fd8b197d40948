/** Admin API: the node itself. */

import type { Services } from '../../services/contract.ts'
import { array } from '../json-schema.ts'
import { type AdminApp, answer, errors } from '../route.ts'
import { findingView, infoView, versionView } from '../schemas.ts'

const tags = ['node']

/** What Prometheus is told that it gets. */
const metricsType = 'text/plain; version=0.0.4; charset=utf-8'

/** Adds `/v1/version`, `/v1/info`, `/v1/doctor` and `/v1/metrics`. */
export function nodeRoutes(app: AdminApp, { version, node }: Pick<Services, 'version' | 'node'>): void {
  app.get(
    '/v1/version',
    {
      schema: {
        summary: 'The version of the daemon',
        tags,
        response: { 200: answer('the version', versionView), ...errors },
      },
    },
    () => ({ version }),
  )

  app.get(
    '/v1/info',
    {
      schema: {
        summary: 'The daemon, its drivers with their capabilities and storage, and how much there is of everything',
        tags,
        response: { 200: answer('the node', infoView), ...errors },
      },
    },
    () => node.info(),
  )

  app.get(
    '/v1/doctor',
    {
      schema: {
        summary: 'What is wrong or at risk on this node, with the remedy; errors first',
        tags,
        response: { 200: answer('the findings; none when all is well', array(findingView)), ...errors },
      },
    },
    () => node.doctor(),
  )

  app.get(
    '/v1/metrics',
    {
      schema: {
        summary: "The node in numbers, in Prometheus' text format",
        tags,
        produces: ['text/plain'],
        response: { 200: answer('the numbers', { type: 'string' } as const), ...errors },
      },
    },
    async (_request, reply) => reply.type(metricsType).send(await node.metrics()),
  )
}
