import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { buildAdminApp } from '../../../src/server/app.ts'
import { type FakeServices, fakeServices } from '../../support/fake-services.ts'

let services: FakeServices
let app: ReturnType<typeof buildAdminApp>

beforeEach(() => {
  services = fakeServices()
  app = buildAdminApp(services)
})

afterEach(() => app.close())

async function post(url: string, payload: object, headers = {}) {
  const answer = await app.inject({ method: 'POST', url, payload, headers })
  return { status: answer.statusCode, body: answer.json() }
}

describe('work with detach', () => {
  it.each([
    ['/v1/backups', { volume: 'slow', to: { at: 'nas' } }, 'backup.create'],
    ['/v1/backups/restore', { from: { backup: 'nas/1' }, to: 'slow' }, 'backup.restore'],
    ['/v1/backups/forget', { at: 'nas', volume: 'slow', keep: 'last=1' }, 'backup.forget'],
  ])('%s is answered with its operation while it goes on', async (url, body, kind) => {
    const id = crypto.randomUUID()
    const answer = await post(url, { ...body, detach: true }, { 'holdfast-operation': id })
    expect(answer).toMatchObject({ status: 202, body: { id, kind, subject: 'slow', state: 'running' } })
    services.operations.cancel(id)
    await expect.poll(() => services.operations.inspect(id).state).toBe('cancelled')
  })

  it('does not hand the flag on', async () => {
    await post('/v1/backups', { volume: 'db', to: { at: 'nas' }, detach: true })
    expect(services.calls[0]?.[1]).toEqual({ volume: 'db', to: { at: 'nas' } })
  })

  it('is answered with what fails before it is an operation', async () => {
    const answer = await post('/v1/backups', { volume: 'nope', to: { at: 'nas' }, detach: true })
    expect(answer).toMatchObject({ status: 404, body: { error: { code: 'NOT_FOUND' } } })
  })

  it('is answered with its result when it was no operation', async () => {
    const answer = await post('/v1/backups/prune', { at: 'nas', detach: true })
    expect(answer).toMatchObject({ status: 200, body: { remaining: 2 ** 30 } })
  })
})
