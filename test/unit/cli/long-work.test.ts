import { createServer } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { formatProgress } from '../../../src/cli/progress.ts'
import { AppError } from '../../../src/errors.ts'
import type { OperationView } from '../../../src/server/schemas.ts'
import { Harness } from './harness.ts'

let cli: Harness

beforeEach(async () => {
  cli = await Harness.start()
})

afterEach(() => cli[Symbol.asyncDispose]())

function operations(): OperationView[] {
  return cli.services.operations.list(true)
}

async function started(): Promise<OperationView> {
  await expect.poll(operations, { timeout: 10_000 }).toHaveLength(1)
  return operations()[0] as OperationView
}

describe('Ctrl-C', () => {
  it('cancels the operation, waits for it and ends with 130', async () => {
    const program = cli.spawn('volume', 'create', 'slow')
    const { id } = await started()
    process.kill(program.pid, 'SIGINT')
    expect(await program.ended).toMatchObject({
      code: 130,
      stdout: '',
      stderr: expect.stringContaining('volume.create of slow was cancelled'),
    })
    expect(cli.services.calls.at(-1)).toEqual(['operations.cancel', id])
    expect(operations()).toMatchObject([{ state: 'cancelled' }])
  })

  it('twice leaves at once', async () => {
    const cancel = cli.services.operations.cancel
    Object.assign(cli.services.operations, { cancel: (id: string) => cli.services.operations.inspect(id) })
    const program = cli.spawn('volume', 'create', 'slow')
    const { id } = await started()
    process.kill(program.pid, 'SIGINT')
    await expect.poll(program.stderr, { timeout: 5000 }).toContain('Ctrl-C again leaves at once')
    process.kill(program.pid, 'SIGINT')
    expect(await program.ended).toMatchObject({ code: 130 })
    expect(operations()).toMatchObject([{ state: 'running' }])
    cancel(id)
  })

  it('leaves at once what is no operation', async () => {
    const mount = Promise.withResolvers<string>()
    const asked = Promise.withResolvers<void>()
    const slowMount = () => {
      asked.resolve()
      return mount.promise
    }
    Object.assign(cli.services.mounts, { mount: slowMount })
    const program = cli.spawn('volume', 'mount', 'db')
    await asked.promise
    process.kill(program.pid, 'SIGINT')
    expect(await program.ended).toMatchObject({
      code: 130,
      stderr: expect.stringContaining('the daemon may still finish it'),
    })
    mount.resolve('/x')
  })
})

describe('operations', () => {
  it('are listed, inspected and cancelled by their ids', async () => {
    const creation = cli.holdfast('volume', 'create', 'slow', '--json')
    const { id } = await started()
    expect((await cli.holdfast('operation', 'ls')).stdout).toMatch(
      new RegExp(`\n${id} {3}volume.create {3}slow {6}running {3}25% {8}1M/s {3}3 seconds {3}`),
    )
    expect((await cli.holdfast('operation', 'inspect', id)).stdout).toContain('progress: volume.create slow [#####')
    expect(await cli.holdfast('operation', 'cancel', id)).toEqual({ code: 0, stdout: 'cancelled\n', stderr: '' })
    const { code, stdout } = await creation
    expect(code).toBe(130)
    expect(JSON.parse(stdout)).toMatchObject({ error: { code: 'CANCELLED' } })
    expect((await cli.holdfast('operation', 'ls')).stdout).not.toContain(id)
  })

  it('are watched to their end, whose error is the exit code', async () => {
    const creation = cli.holdfast('volume', 'create', 'lag')
    const { id } = await started()
    expect(await cli.holdfast('operation', 'watch', id)).toEqual({ code: 0, stdout: 'done\n', stderr: '' })
    expect(await creation).toMatchObject({ code: 0, stdout: 'lag\n' })
    expect((await cli.holdfast('operation', 'watch', 'nope')).code).toBe(3)

    Object.assign(cli.services.operations, {
      inspect: (): OperationView => ({
        ...(operations()[0] as OperationView),
        state: 'failed',
        error: { code: 'NO_SPACE', message: 'full' },
      }),
    })
    expect(await cli.holdfast('operation', 'watch', id)).toEqual({ code: 10, stdout: '', stderr: 'holdfast: full\n' })
  })
})

describe('a daemon that ends', () => {
  it('is waited for by a watch', async () => {
    const { stdout } = await cli.holdfast(...'backup create slow --to nas --detach'.split(' '))
    const { inspect, cancel } = cli.services.operations
    let asked = 0
    const restarting = (id: string): OperationView => {
      if (++asked === 2) throw new AppError('UNAVAILABLE', 'the daemon is stopping')
      if (asked === 3) cancel(id)
      return inspect(id)
    }
    Object.assign(cli.services.operations, { inspect: restarting })
    const { code, stderr } = await cli.holdfast('operation', 'watch', stdout.trim())
    expect({ code, stderr }).toEqual({ code: 130, stderr: 'holdfast: backup.create of slow was cancelled\n' })
    expect(asked).toBe(3)
  })

  it('leaves the id of what may go on', async () => {
    const server = createServer((connection) => void connection.once('data', () => connection.destroy()))
    const socket = `${cli.socket}.ending`
    await new Promise<void>((resolve) => server.listen(socket, resolve))
    const { code, stderr } = await cli.holdfast('--socket', socket, ...'backup create db --to nas'.split(' '))
    await new Promise((resolve) => server.close(resolve))
    expect(code).toBe(9)
    expect(stderr).toMatch(/may go on when it is back: holdfast operation watch [0-9a-f-]{36}\n$/)
  })
})

describe('progress', () => {
  const base = {
    id: 'i',
    kind: 'k',
    subject: 's',
    state: 'running',
    startedAt: '',
    finishedAt: null,
    error: null,
  } as const
  const M = 2 ** 20

  it.each([
    [null, 'k s ...'],
    [
      { done: M, total: 4 * M, unit: 'bytes', rate: M, secondsLeft: 3 },
      'k s [#####---------------] 25% 1M of 4M, 1M/s, 3 seconds left',
    ],
    [
      { done: 5, total: 4, unit: 'files', rate: 0, secondsLeft: null },
      'k s [####################] 100% 5 of 4 files, 0/s',
    ],
    [{ done: 7, total: null, unit: 'files', rate: 2, secondsLeft: null }, 'k s 7 files, 2/s'],
  ])('%j', (progress, expected) => {
    expect(formatProgress({ ...base, progress })).toBe(expected)
  })

  it('cannot play with the terminal', () => {
    expect(formatProgress({ ...base, subject: 'a\u001b[2J', progress: null })).toBe('k a\\u001b[2J ...')
  })
})
