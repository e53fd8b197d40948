/** Admin API: schedules. */

import type { Services } from '../../services/contract.ts'
import { array } from '../json-schema.ts'
import { type AdminApp, answer, callOptions, errors, nothing } from '../route.ts'
import { createScheduleBody, listSchedulesQuery, scheduleParams, scheduleView } from '../schemas/schedule.ts'
import { operationHeaders } from '../schemas.ts'

const tags = ['schedules']
const schedule = '/v1/schedules/:name'

/** Adds `/v1/schedules` and what is below it. */
export function scheduleRoutes(app: AdminApp, { schedules }: Pick<Services, 'schedules'>): void {
  app.get(
    '/v1/schedules',
    {
      schema: {
        summary: 'All schedules, oldest first, or those of one volume',
        tags,
        querystring: listSchedulesQuery,
        response: { 200: answer('the schedules', array(scheduleView)), ...errors },
      },
    },
    async ({ query }) => schedules.list(query.volume),
  )

  app.post(
    '/v1/schedules',
    {
      schema: {
        summary:
          'Take snapshots of a volume, back it up, or trim it, at certain times; the same again is left as it is',
        tags,
        body: createScheduleBody,
        response: { 201: answer('the schedule', scheduleView), ...errors },
      },
    },
    async ({ body }, reply) => reply.code(201).send(await schedules.create(body)),
  )

  app.get(
    schedule,
    {
      schema: {
        summary: 'One schedule',
        tags,
        params: scheduleParams,
        response: { 200: answer('the schedule', scheduleView), ...errors },
      },
    },
    async ({ params }) => schedules.inspect(params.name),
  )

  app.delete(
    schedule,
    {
      schema: {
        summary: 'Remove a schedule; what it has made stays',
        tags,
        params: scheduleParams,
        response: { 204: nothing, ...errors },
      },
    },
    async ({ params }, reply) => {
      await schedules.remove(params.name)
      return reply.code(204).send(null)
    },
  )

  app.post(
    `${schedule}/run`,
    {
      schema: {
        summary: 'Run a schedule now and wait for it; a run under way is joined',
        tags,
        headers: operationHeaders,
        params: scheduleParams,
        response: { 200: answer('the schedule', scheduleView), ...errors },
      },
    },
    ({ params, headers }) => schedules.run(params.name, callOptions(headers)),
  )

  app.post(
    `${schedule}/pause`,
    {
      schema: {
        summary: 'Let a schedule rest until it is resumed',
        tags,
        params: scheduleParams,
        response: { 200: answer('the schedule', scheduleView), ...errors },
      },
    },
    ({ params }) => schedules.pause(params.name),
  )

  app.post(
    `${schedule}/resume`,
    {
      schema: {
        summary: 'Let a paused schedule run again',
        tags,
        params: scheduleParams,
        response: { 200: answer('the schedule', scheduleView), ...errors },
      },
    },
    ({ params }) => schedules.resume(params.name),
  )
}
