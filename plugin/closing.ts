/**
 * Closing a server that has no idle timeout. Node's `close` ends connections that wait for their next request, but neither
 * one that has not sent its first (Go keeps spare ones) nor one whose answer is still to come: both would stay for ever.
 */

import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'

/**
 * Makes `app.close()` end every connection as soon as its answer is sent. A request that has begun is answered; one that
 * never becomes whole keeps the server open.
 */
export function closeAfterLastAnswer(app: FastifyInstance): void {
  const sockets = new Set<Socket>()
  const pending = new Set<ServerResponse>()
  app.server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  app.server.on('request', (_request, response) => {
    pending.add(response)
    response.once('close', () => pending.delete(response))
  })
  app.addHook('preClose', async () => {
    for (const response of pending) if (!response.headersSent) response.setHeader('connection', 'close')
    for (const socket of sockets) if (socket.bytesRead === 0) socket.destroy()
  })
}
