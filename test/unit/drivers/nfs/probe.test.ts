/** A server that takes connections is there, however slow it is. */

import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { expect, test } from 'vitest'
import { parseSettings } from '../../../../drivers/nfs/options.ts'
import { takesConnections } from '../../../../drivers/nfs/probe.ts'

test('who listens takes connections, though it never answers; who does not listen any more takes none', async () => {
  const server = createServer((socket) => socket.on('error', () => undefined))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const { options } = parseSettings({ 'mount-options': `port=${port}` })
  const place = { server: '127.0.0.1', path: '/data', version: '4.2', options } as const
  expect(await takesConnections(place, 5_000)).toBe(true)
  server.close()
  await once(server, 'close')
  expect(await takesConnections(place, 5_000)).toBe(false)
})
