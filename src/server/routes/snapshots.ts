/** Admin API: snapshots. */

import type { Services } from '../../services/contract.ts'
import { array } from '../json-schema.ts'
import { userLabels } from '../labels.ts'
import { type AdminApp, answer, callOptions, errors, nothing } from '../route.ts'
import {
  changeView,
  createSnapshotBody,
  diffBody,
  listSnapshotsQuery,
  mountBody,
  mountedView,
  operationHeaders,
  snapshotParams,
  snapshotView,
  volumeParams,
} from '../schemas.ts'

const tags = ['snapshots']
const snapshot = '/v1/volumes/:name/snapshots/:snapshot'

/** Adds `/v1/snapshots` and `/v1/volumes/:name/snapshots` and what is below them. */
export function snapshotRoutes(app: AdminApp, { snapshots }: Pick<Services, 'snapshots'>): void {
  app.get(
    '/v1/snapshots',
    {
      schema: {
        summary: 'All snapshots, or those of one volume, oldest first',
        tags,
        querystring: listSnapshotsQuery,
        response: { 200: answer('the snapshots', array(snapshotView)), ...errors },
      },
    },
    async ({ query }) => snapshots.list(query.volume),
  )

  app.post(
    '/v1/volumes/:name/snapshots',
    {
      schema: {
        summary: 'Take a snapshot of a volume',
        tags,
        headers: operationHeaders,
        params: volumeParams,
        body: createSnapshotBody,
        response: { 201: answer('the snapshot', snapshotView), ...errors },
      },
    },
    async ({ params, body, headers }, reply) => {
      const request = { ...body, labels: userLabels(body.labels) }
      return reply.code(201).send(await snapshots.create(params.name, request, callOptions(headers)))
    },
  )

  app.get(
    snapshot,
    {
      schema: {
        summary: 'One snapshot',
        tags,
        params: snapshotParams,
        response: { 200: answer('the snapshot', snapshotView), ...errors },
      },
    },
    async ({ params }) => snapshots.inspect(params.name, params.snapshot),
  )

  app.delete(
    snapshot,
    {
      schema: {
        summary: 'Remove a snapshot for good',
        tags,
        headers: operationHeaders,
        params: snapshotParams,
        response: { 204: nothing, ...errors },
      },
    },
    async ({ params, headers }, reply) => {
      await snapshots.remove(params.name, params.snapshot, callOptions(headers))
      return reply.code(204).send(null)
    },
  )

  app.post(
    `${snapshot}/revert`,
    {
      schema: {
        summary: 'Make the volume what it was at the snapshot; what was written since is lost',
        tags,
        headers: operationHeaders,
        params: snapshotParams,
        response: { 204: nothing, ...errors },
      },
    },
    async ({ params, headers }, reply) => {
      await snapshots.revert(params.name, params.snapshot, callOptions(headers))
      return reply.code(204).send(null)
    },
  )

  app.post(
    `${snapshot}/mount`,
    {
      schema: {
        summary: 'Mount a snapshot read-only',
        tags,
        params: snapshotParams,
        body: mountBody,
        response: { 200: answer('where it is mounted', mountedView), ...errors },
      },
    },
    async ({ params, body }) => ({ mountpoint: await snapshots.mount(params.name, params.snapshot, body.at) }),
  )

  app.post(
    `${snapshot}/umount`,
    { schema: { summary: 'Unmount a snapshot', tags, params: snapshotParams, response: { 204: nothing, ...errors } } },
    async ({ params }, reply) => {
      await snapshots.unmount(params.name, params.snapshot)
      return reply.code(204).send(null)
    },
  )

  app.post(
    '/v1/snapshots/diff',
    {
      schema: {
        summary: 'What happened to the files from one snapshot (VOLUME@SNAPSHOT) to another',
        tags,
        headers: operationHeaders,
        body: diffBody,
        response: { 200: answer('the changes', array(changeView)), ...errors },
      },
    },
    ({ body, headers }) => snapshots.diff(body.from, body.to, callOptions(headers)),
  )
}
