import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Client } from '../../../src/cli/client.ts'

let directory: string
let server: Server | undefined

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'holdfast-client-'))
})

afterEach(async () => {
  if (server) await new Promise((resolve) => server?.close(resolve))
  server = undefined
  await rm(directory, { recursive: true, force: true })
})

/** Answers every connection with these bytes and ends it. */
async function answering(bytes: string): Promise<Client> {
  const socket = path.join(directory, 's')
  server = createServer((connection) => {
    connection.on('error', () => undefined)
    connection.once('data', () => connection.end(bytes))
  })
  await new Promise<void>((resolve) => server?.listen(socket, resolve))
  return new Client(socket)
}

describe('a daemon that cannot be asked', () => {
  it('because there is no socket, is UNAVAILABLE with the remedy', async () => {
    const error = { code: 'UNAVAILABLE', message: expect.stringContaining('start it with scripts/up') }
    await expect(new Client(path.join(directory, 'none')).request('GET', '/v1/info')).rejects.toMatchObject(error)
  })

  it('because the socket is stale, is UNAVAILABLE with the remedy', async () => {
    const client = await answering('')
    await new Promise((resolve) => server?.close(resolve))
    server = undefined
    await expect(client.request('GET', '/v1/info')).rejects.toMatchObject({ code: 'UNAVAILABLE' })
  })

  it.each([
    ['nothing', ''],
    ['half a head', 'HTTP/1.1 200 OK\r\nContent-'],
    ['half a body', 'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"a":1}'],
  ])('because it ends after %s, is UNAVAILABLE', async (_what, bytes) => {
    const client = await answering(bytes)
    const error = { code: 'UNAVAILABLE', message: expect.stringContaining('ended before it answered') }
    await expect(client.request('GET', '/v1/info')).rejects.toMatchObject(error)
  })

  it.each([
    ['no JSON', 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi', 'not JSON'],
    ['an error of another program', 'HTTP/1.1 502 Bad\r\nContent-Length: 2\r\n\r\n{}', 'status 502'],
    ['an unknown code', 'HTTP/1.1 400 Bad\r\n\r\n{"error":{"code":"toString","message":"odd"}}', 'odd'],
  ])('because it answers %s, is INTERNAL', async (_what, bytes, message) => {
    const error = { code: 'INTERNAL', message: expect.stringContaining(message) }
    await expect((await answering(bytes)).request('GET', '/v1/info')).rejects.toMatchObject(error)
  })

  it('because it never answers, is left when the caller has had enough', async () => {
    const socket = path.join(directory, 's')
    const silent = createServer((connection) => void connection.on('error', () => undefined).resume())
    server = silent
    await new Promise<void>((resolve) => silent.listen(socket, resolve))
    await expect(new Client(socket).request('GET', '/v1/info', { signal: AbortSignal.timeout(50) })).rejects.toThrow(
      /timeout/,
    )
  })
})
