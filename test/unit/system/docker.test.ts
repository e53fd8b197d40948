/** Docker's API as a door of a stranger's: whatever answers there must not harm the daemon. */

import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type RequestListener, type Server } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { DockerApi } from '../../../src/system/docker.ts'

let directory: string
let server: Server | undefined
let docker: DockerApi
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'holdfast-docker-'))
  docker = new DockerApi(join(directory, 'docker.sock'))
})
afterEach(async () => {
  server?.closeAllConnections()
  await server?.[Symbol.asyncDispose]()
  server = undefined
  rmSync(directory, { recursive: true })
})

/** An engine that answers each request like this. */
async function engine(listener: RequestListener): Promise<void> {
  server = createServer(listener)
  await new Promise<void>((resolve) => server?.listen(join(directory, 'docker.sock'), resolve))
}

/** @returns method and path of every request */
async function answering(status: number, body: string): Promise<string[]> {
  const asked: string[] = []
  await engine((request, response) => {
    asked.push(`${request.method} ${decodeURIComponent(request.url ?? '')}`)
    response.writeHead(status).end(body)
  })
  return asked
}

test('volumes: the records, also when there are none', async () => {
  await answering(200, '{"Volumes":[{"Name":"db","Driver":"local"}],"Warnings":null}')
  expect(await docker.volumes()).toEqual([{ Name: 'db', Driver: 'local' }])
  await server?.[Symbol.asyncDispose]()
  await answering(200, '{"Volumes":null}')
  expect(await docker.volumes()).toEqual([])
})

test('containersUsing: the ids of those that run', async () => {
  const asked = await answering(200, '[{"Id":"c1"},{"Id":"c2"}]')
  expect(await docker.containersUsing('db')).toEqual(['c1', 'c2'])
  expect(asked).toEqual(['GET /v1.41/containers/json?filters={"volume":["db"],"status":["running"]}'])
})

test.each([404, 409, 500])('unpause: %d, gone or not paused, is success; for pause it is not', async (status) => {
  const asked = await answering(status, '{"message":"no"}')
  await docker.unpause('c1')
  await expect(docker.pause('c1')).rejects.toMatchObject({ code: 'UNAVAILABLE' })
  expect(asked).toEqual(['POST /v1.41/containers/c1/unpause', 'POST /v1.41/containers/c1/pause'])
})

describe('what is no answer of an engine is UNAVAILABLE', () => {
  test('no socket', async () => {
    await expect(docker.volumes()).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringMatching(/is the engine running/),
    })
  })

  test.each([
    ['no JSON', 200, '<html>', /not JSON/],
    ['an error', 503, 'starting', /503 starting/],
  ])('%s', async (_, status, body, message) => {
    await answering(status, body)
    await expect(docker.volumes()).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringMatching(message),
    })
  })

  test('an answer that breaks off', async () => {
    await engine((_, response) => {
      response.writeHead(200, { 'content-length': '100' }).write('{"Volumes":')
      setTimeout(() => response.destroy(), 20)
    })
    await expect(docker.volumes()).rejects.toMatchObject({ code: 'UNAVAILABLE' })
  })
})
