import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Client } from '../../../src/cli/client.ts'
import { arrayItems } from '../../../src/cli/json-array.ts'

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

describe('a list that is sent while it is made', () => {
  async function read(client: Client): Promise<object[]> {
    const items: object[] = []
    for await (const group of arrayItems(client, '/v1/backups/files', {})) items.push(...group)
    return items
  }

  it('is whole with its bracket', async () => {
    expect(await read(await answering('HTTP/1.1 200 OK\r\n\r\n[\n{"a":1},\n{"a":2}\n]\n'))).toEqual([
      { a: 1 },
      { a: 2 },
    ])
  })

  it.each([
    ['nothing', ''],
    ['half a head', 'HTTP/1.1 200 OK\r\nContent-'],
    ['the head', 'HTTP/1.1 200 OK\r\n\r\n'],
    ['an item', 'HTTP/1.1 200 OK\r\n\r\n[\n{"a":1},\n'],
    ['half an item', 'HTTP/1.1 200 OK\r\n\r\n[\n{"a":1},\n{"a"'],
    ['the last item', 'HTTP/1.1 200 OK\r\n\r\n[\n{"a":1}'],
  ])('and that ends after %s, is UNAVAILABLE', async (_what, bytes) => {
    await expect(read(await answering(bytes))).rejects.toMatchObject({ code: 'UNAVAILABLE' })
  })

  it('of a daemon that is not there, is UNAVAILABLE with the remedy', async () => {
    const error = { code: 'UNAVAILABLE', message: expect.stringContaining('start it with scripts/up') }
    await expect(read(new Client(path.join(directory, 'none')))).rejects.toMatchObject(error)
  })
})
