/**
 * Docker's door: the nine endpoints of the VolumeDriver protocol, each one service call. It listens nowhere; the daemon does.
 *
 * What the engine does that its documentation does not say, and this file answers to:
 *  - a request whose connection broke is repeated without its body, so an idle connection is never closed from this side
 *    and an empty body is an error, never a silent success;
 *  - any error from Get means "no such volume" to it and makes it forget labels and options, so Get answers from local
 *    state and has an `Err` only for a volume that is really absent;
 *  - it never unmounts an id whose Mount it did not see succeed, so such a Mount is taken back here;
 *  - it gives Create and Mount 120 s and everything else 60 s, then closes the connection without a word;
 *  - an answer to Plugin.Activate other than an error is kept for dockerd's whole life, whatever it says;
 *  - it sends neither Host nor Content-Type and reads no status but 200: errors are `{"Err": "..."}`.
 * Protocol: https://docs.docker.com/engine/extend/plugins_volume/ and moby's volume/drivers and pkg/plugins.
 */

import fastify, { type FastifyError, type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import { AppError, isAppError, toAppError } from '../src/errors.ts'
import { parseCreateOptions } from '../src/server/create-options.ts'
import type { Services } from '../src/services/contract.ts'
import type { DockerVolume, MountService } from '../src/services/volumes/contract.ts'
import { parseVolumeName } from '../src/units.ts'
import { closeAfterLastAnswer } from './closing.ts'
import { within } from './deadline.ts'
import { mountForClient, type PluginLog } from './mount.ts'
import { mountIdOf, optionsOf, parseVolumeRequest, type VolumeRequest } from './request.ts'

/** How the app is built. */
export interface PluginOptions {
  readonly log: PluginLog
  /** `global` when every volume of this plugin is there on every node; Docker only shows it. */
  readonly scope?: 'local' | 'global'
  /** Until when Create and Mount (`long`) and Remove and Unmount (`short`) are answered; default 90 s and 50 s. */
  readonly answerWithinMs?: { readonly long: number; readonly short: number }
}

type Handler = (request: FastifyRequest, reply: FastifyReply) => object | string | Buffer | Promise<object>

const contentType = 'application/vnd.docker.plugins.v1.2+json'

/** Far above any request of Docker's; a body beyond it is answered with an error. */
const bodyLimit = 2 * 2 ** 20

/** The server for the plugin socket. Closing it answers what is under way first. */
export function buildPluginApp(
  services: Pick<Services, 'volumes' | 'mounts'>,
  options: PluginOptions,
): FastifyInstance {
  const app = fastify({
    logger: false,
    bodyLimit,
    requestTimeout: 0,
    connectionTimeout: 0,
    http: { headersTimeout: 0, requireHostHeader: false },
    // A 503 to a Get that comes while the daemon stops would make Docker forget the volume's labels.
    return503OnClosing: false,
    frameworkErrors: (error, _request, reply) => void answerError(error, reply, 404),
  })
  // As an option Fastify takes 0 for unset.
  app.server.keepAliveTimeout = 0
  closeAfterLastAnswer(app)
  acceptAnyBody(app)
  app.setErrorHandler((error: FastifyError | AppError, request, reply) => {
    const { url } = request
    if (!isExpected(error)) options.log.error({ err: error, url }, 'unexpected error in a request of Docker')
    // Docker would keep a 200 to this one, and with it a plugin that implements nothing, until it is restarted.
    return answerError(error, reply, url === '/Plugin.Activate' ? 500 : 200)
  })
  app.setNotFoundHandler((request, reply) => {
    const message = `${request.method} ${request.url} is not an endpoint of the VolumeDriver protocol`
    return answerError(new AppError('NOT_FOUND', message), reply, 404)
  })
  for (const [path, handler] of Object.entries(endpoints(services, options))) {
    app.post(path, async (request, reply) => answer(await handler(request, reply), reply))
  }
  return app
}

/** dockerd sends no Content-Type; whatever another client says, the body is taken as text, and read in the handler. */
function acceptAnyBody(app: FastifyInstance): void {
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', { parseAs: 'string' }, (_request, body, done) => done(null, body))
  app.addHook('onRequest', (request, _reply, done) => {
    delete request.raw.headers['content-type']
    done()
  })
}

function answer(body: object | string | Buffer, reply: FastifyReply): FastifyReply {
  const rendered = typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body)
  return reply.header('content-type', contentType).send(rendered)
}

function answerError(error: unknown, reply: FastifyReply, status: number): FastifyReply {
  return answer({ Err: toAppError(error).message }, reply.code(status))
}

/** One that says itself what is wrong: ours, or Fastify's about a request that is broken or was broken off. */
function isExpected(error: FastifyError | AppError): boolean {
  return isAppError(error) || (error.statusCode !== undefined && error.statusCode < 500)
}

function endpoints(services: Pick<Services, 'volumes' | 'mounts'>, options: PluginOptions): Record<string, Handler> {
  const { volumes, mounts } = services
  const { long, short } = options.answerWithinMs ?? { long: 90_000, short: 50_000 }

  async function create({ body }: FastifyRequest): Promise<object> {
    const request = parseVolumeRequest(body)
    const name = parseVolumeName(request.name)
    const work = volumes.create(parseCreateOptions(name, optionsOf(request)))
    await within(long, work, `volume ${name} is still being created`)
    return { Err: '' }
  }

  async function remove({ body }: FastifyRequest): Promise<object> {
    const name = parseVolumeName(parseVolumeRequest(body).name)
    const work = volumes.remove(name).catch((error: unknown) => {
      // Gone is success; a volume that is there but misses something is not gone.
      if (!isAppError(error, 'NOT_FOUND') || mounts.get(name)) throw error
    })
    await within(short, work, `volume ${name} is still being removed`)
    return { Err: '' }
  }

  async function mount({ body }: FastifyRequest, reply: FastifyReply): Promise<object> {
    const request = parseVolumeRequest(body)
    const [name, id] = [parseVolumeName(request.name), mountIdOf(request)]
    const attempt = mountForClient(mounts, name, id, reply.raw, options.log)
    try {
      return { Mountpoint: await within(long, attempt.mountpoint, `volume ${name} is still being mounted`), Err: '' }
    } catch (error) {
      attempt.takeBack()
      throw error
    }
  }

  async function unmount({ body }: FastifyRequest): Promise<object> {
    const request = parseVolumeRequest(body)
    const name = parseVolumeName(request.name)
    await within(short, mounts.unmount(name, mountIdOf(request)), `volume ${name} is still being unmounted`)
    return { Err: '' }
  }

  return {
    '/Plugin.Activate': async () => {
      await mounts.resetCounts()
      return { Implements: ['VolumeDriver'] }
    },
    '/VolumeDriver.Capabilities': () => ({ Capabilities: { Scope: options.scope ?? 'local' } }),
    '/VolumeDriver.Create': create,
    '/VolumeDriver.Remove': remove,
    '/VolumeDriver.Mount': mount,
    '/VolumeDriver.Unmount': unmount,
    '/VolumeDriver.Path': ({ body }) => ({ Mountpoint: find(mounts, parseVolumeRequest(body)).mountpoint, Err: '' }),
    '/VolumeDriver.Get': async ({ body }) => {
      const request = parseVolumeRequest(body)
      // Another node may have made it a moment ago.
      const found = mounts.get(request.name) ?? (await mounts.find(request.name))
      const { name, mountpoint, createdAt, status } = found ?? absent(request)
      return { Volume: { Name: name, Mountpoint: mountpoint, CreatedAt: createdAt, Status: status }, Err: '' }
    },
    '/VolumeDriver.List': listRenderer(mounts),
  }
}

function find(mounts: MountService, request: VolumeRequest): DockerVolume {
  return mounts.get(request.name) ?? absent(request)
}

function absent({ name }: VolumeRequest): never {
  throw new AppError('NOT_FOUND', `no such volume: ${name}`)
}

/** Docker asks for the list again and again, and it is long: it is rendered once for each change. */
function listRenderer(mounts: MountService): () => Buffer {
  let generation: number | undefined
  let rendered = Buffer.alloc(0)
  return () => {
    if (generation === mounts.generation) return rendered
    const now = mounts.generation
    const all = mounts.list().map(({ name, mountpoint }) => ({ Name: name, Mountpoint: mountpoint }))
    rendered = Buffer.from(JSON.stringify({ Volumes: all, Err: '' }))
    generation = now
    return rendered
  }
}
