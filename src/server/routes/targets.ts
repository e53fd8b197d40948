/** Admin API: targets. */

import type { Services } from '../../services/contract.ts'
import { array } from '../json-schema.ts'
import { type AdminApp, answer, errors, nothing } from '../route.ts'
import {
  addPassphraseBody,
  addTargetBody,
  passphraseParams,
  passphraseView,
  targetCheck,
  targetDetails,
  targetParams,
  targetView,
} from '../schemas/target.ts'

const tags = ['targets']
const target = '/v1/targets/:name'

/** Adds `/v1/targets` and what is below it. */
export function targetRoutes(app: AdminApp, { targets }: Pick<Services, 'targets'>): void {
  app.get(
    '/v1/targets',
    {
      schema: {
        summary: 'All targets, oldest first',
        tags,
        response: { 200: answer('the targets', array(targetView)), ...errors },
      },
    },
    async () => targets.list(),
  )

  app.post(
    '/v1/targets',
    {
      schema: {
        summary: 'Remember a repository under a name, and make it when there is none',
        tags,
        body: addTargetBody,
        response: { 201: answer('the target', targetView), ...errors },
      },
    },
    async ({ body }, reply) => reply.code(201).send(await targets.add(body.name, body.url, body.access)),
  )

  app.get(
    target,
    {
      schema: {
        summary: 'One target',
        tags,
        params: targetParams,
        response: { 200: answer('the target', targetDetails), ...errors },
      },
    },
    async ({ params }) => targets.inspect(params.name),
  )

  app.delete(
    target,
    {
      schema: {
        summary: 'Forget a target; its repository stays as it is',
        tags,
        params: targetParams,
        response: { 204: nothing, ...errors },
      },
    },
    async ({ params }, reply) => {
      await targets.remove(params.name)
      return reply.code(204).send(null)
    },
  )

  app.post(
    `${target}/check`,
    {
      schema: {
        summary: 'Write, read and delete small objects in the store, and open the repository',
        tags,
        params: targetParams,
        response: { 200: answer('what has shown', targetCheck), ...errors },
      },
    },
    ({ params }) => targets.check(params.name),
  )

  app.get(
    `${target}/passphrases`,
    {
      schema: {
        summary: 'What opens the repository; not the passphrases themselves',
        tags,
        params: targetParams,
        response: { 200: answer('the passphrases', array(passphraseView)), ...errors },
      },
    },
    ({ params }) => targets.passphrases(params.name),
  )

  app.post(
    `${target}/passphrases`,
    {
      schema: {
        summary: 'Let one more passphrase open the repository',
        tags,
        params: targetParams,
        body: addPassphraseBody,
        response: { 201: answer('the passphrase', passphraseView), ...errors },
      },
    },
    async ({ params, body: { file, label } }, reply) =>
      reply.code(201).send(await targets.addPassphrase(params.name, file, label)),
  )

  app.delete(
    `${target}/passphrases/:id`,
    {
      schema: {
        summary: 'Let a passphrase open the repository no more',
        tags,
        params: passphraseParams,
        response: { 204: nothing, ...errors },
      },
    },
    async ({ params }, reply) => {
      await targets.removePassphrase(params.name, params.id)
      return reply.code(204).send(null)
    },
  )
}
