/** Admin API: volumes. */

import type { Services } from '../../services/contract.ts'
import { array } from '../json-schema.ts'
import { type AdminApp, answer, callOptions, errors, nothing } from '../route.ts'
import { updateVolumeBody } from '../schemas/new-volume.ts'
import {
  createVolumeBody,
  mountBody,
  mountedView,
  namesBody,
  operationHeaders,
  removeVolumeQuery,
  resizeBody,
  takeoverBody,
  takeoverView,
  trimmedView,
  usageView,
  volumeFilterQuery,
  volumeParams,
  volumeView,
} from '../schemas.ts'

const tags = ['volumes']
const volume = '/v1/volumes/:name'

/** Mounts by the admin API are counted under this id. */
const mountId = 'cli'

/** Adds `/v1/volumes` and what is below it. */
export function volumeRoutes(app: AdminApp, { volumes, mounts }: Pick<Services, 'volumes' | 'mounts'>): void {
  app.get(
    '/v1/volumes',
    {
      schema: {
        summary: 'All volumes, oldest first, or those that every filter lets through',
        tags,
        querystring: volumeFilterQuery,
        response: { 200: answer('the volumes', array(volumeView)), ...errors },
      },
    },
    ({ query: { driver, name, label, dangling } }) =>
      volumes.list({
        driver,
        name,
        labels: label === undefined ? undefined : [label].flat(),
        dangling: dangling === undefined ? undefined : dangling === 'true',
      }),
  )

  app.post(
    '/v1/volumes',
    {
      schema: {
        summary: 'Make a volume, empty or from a snapshot; made again with the same request, it is left as it is',
        tags,
        headers: operationHeaders,
        body: createVolumeBody,
        response: {
          200: answer('it was there before', volumeView),
          201: answer('the new volume', volumeView),
          ...errors,
        },
      },
    },
    async ({ body, headers }, reply) => {
      const { volume: made, existed } = await volumes.create(body, callOptions(headers))
      return reply.code(existed ? 200 : 201).send(made)
    },
  )

  app.get(
    volume,
    {
      schema: {
        summary: 'One volume',
        tags,
        params: volumeParams,
        response: { 200: answer('the volume', volumeView), ...errors },
      },
    },
    ({ params }) => volumes.inspect(params.name),
  )

  app.delete(
    volume,
    {
      schema: {
        summary: 'Remove a volume as its onRemove says, or with purge=true at once and for good',
        tags,
        headers: operationHeaders,
        params: volumeParams,
        querystring: removeVolumeQuery,
        response: { 204: nothing, ...errors },
      },
    },
    async ({ params, query, headers }, reply) => {
      await volumes.remove(params.name, { purge: query.purge === 'true', ...callOptions(headers) })
      return reply.code(204).send(null)
    },
  )

  app.patch(
    volume,
    {
      schema: {
        summary: 'Change the hooks of a volume; an empty text removes one',
        tags,
        params: volumeParams,
        body: updateVolumeBody,
        response: { 200: answer('the volume', volumeView), ...errors },
      },
    },
    ({ params, body }) => volumes.update(params.name, body),
  )

  app.post(
    `${volume}/resize`,
    {
      schema: {
        summary: 'Change the size limit of a volume',
        tags,
        headers: operationHeaders,
        params: volumeParams,
        body: resizeBody,
        response: { 200: answer('the volume', volumeView), ...errors },
      },
    },
    ({ params, body, headers }) => volumes.resize(params.name, body.size, callOptions(headers)),
  )

  app.post(
    `${volume}/mount`,
    {
      schema: {
        summary: `Mount a volume for the mount id '${mountId}'`,
        tags,
        params: volumeParams,
        body: mountBody,
        response: { 200: answer('where it is mounted', mountedView), ...errors },
      },
    },
    async ({ params: { name }, body: { at } }) => {
      const mountpoint = await mounts.mount(name, mountId)
      if (at === undefined) return { mountpoint }
      try {
        await mounts.bind(name, at)
      } catch (error) {
        await mounts.unmount(name, mountId)
        throw error
      }
      return { mountpoint: at }
    },
  )

  app.post(
    `${volume}/umount`,
    {
      schema: {
        summary: `Take one mount of the mount id '${mountId}' back`,
        tags,
        params: volumeParams,
        response: { 204: nothing, ...errors },
      },
    },
    async ({ params }, reply) => {
      await mounts.unmount(params.name, mountId)
      return reply.code(204).send(null)
    },
  )

  app.post(
    `${volume}/takeover`,
    {
      schema: {
        summary: 'Make this node the one that may mount a volume with access=single',
        tags,
        params: volumeParams,
        body: takeoverBody,
        response: { 200: answer('who had it, and what is at risk', takeoverView), ...errors },
      },
    },
    ({ params, body }) => volumes.takeover(params.name, { force: body.force === true }),
  )

  app.post(
    '/v1/volumes/trim',
    {
      schema: {
        summary: 'Give room that volumes do not use back to the storage',
        tags,
        body: namesBody,
        response: { 200: answer('bytes given back', array(trimmedView)), ...errors },
      },
    },
    ({ body }) => volumes.trim(body.names ?? []),
  )

  app.post(
    '/v1/volumes/usage',
    {
      schema: {
        summary: 'What volumes use exactly; may walk all their data',
        tags,
        body: namesBody,
        response: { 200: answer('the use', array(usageView)), ...errors },
      },
    },
    ({ body }) => volumes.usage(body.names ?? []),
  )
}
