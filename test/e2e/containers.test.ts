/** Volumes in containers: shared, copied into and out of, filled from the image, held and let go. */

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openStage, type Stage, volumeKinds } from '../support/stage.ts'

let stage: Stage
let docker: Stage['engine']['docker']
let tryDocker: Stage['engine']['tryDocker']
let run: Stage['engine']['run']

beforeAll(async () => {
  stage = await openStage()
  ;({ docker, tryDocker, run } = stage.engine)
})
afterAll(async () => await stage?.[Symbol.asyncDispose]())

/** The ids that Holdfast counts for a volume. */
async function holders(volume: string): Promise<string[]> {
  const [view] = JSON.parse(await stage.holdfast.cli('volume', 'inspect', volume, '--json')) as {
    mounts: { id: string }[]
  }[]
  return view?.mounts.map(({ id }) => id) ?? []
}

let counter = 0
/** Names of a volume and of two containers that no other test has. */
function names(): { volume: string; one: string; two: string } {
  counter++
  return { volume: `vol${counter}`, one: `one${counter}`, two: `two${counter}` }
}

describe.each(volumeKinds)('a volume that is $kind', ({ options, ownMounts }) => {
  const create = async (volume: string): Promise<string> =>
    await docker('volume', 'create', '-d', 'holdfast', ...options, volume)
  const runIdle = async (container: string, volume: string): Promise<string> =>
    await run('-d', '--name', container, '-v', `${volume}:/d`, 'busybox', 'sleep', '3600')

  it('is one for two containers, stays for the second, and is let go by the last', async () => {
    const { volume, one, two } = names()
    await create(volume)
    await runIdle(one, volume)
    await runIdle(two, volume)
    await docker('exec', one, 'sh', '-c', 'echo from one > /d/f')
    expect(await docker('exec', two, 'cat', '/d/f')).toBe('from one')
    expect(stage.mountsOf(volume)).toHaveLength(ownMounts)
    expect(await holders(volume)).toHaveLength(2)
    await docker('rm', '-f', one)
    await docker('exec', two, 'sh', '-c', 'echo and two >> /d/f')
    expect(await docker('exec', two, 'cat', '/d/f')).toBe('from one\nand two')
    await docker('rm', '-f', two)
    expect(await holders(volume)).toEqual([])
    expect(stage.mountsOf(volume)).toEqual([])
  })

  it('is not removed while a container uses it, by Docker or by the CLI', async () => {
    const { volume, one } = names()
    await create(volume)
    await runIdle(one, volume)
    expect((await tryDocker('volume', 'rm', '-f', volume)).stderr).toMatch(/in use/)
    const { exitCode, stderr } = await stage.holdfast.tryCli('volume', 'rm', volume)
    expect({ exitCode, stderr }).toEqual({ exitCode: 6, stderr: expect.stringMatching(/is used by/) })
    await docker('exec', one, 'touch', '/d/still-here')
    await docker('rm', '-f', one)
    await docker('volume', 'rm', volume)
  })

  it('survives docker cp into and out of a running container, which comes with the same id', async () => {
    const { volume, one } = names()
    await create(volume)
    const container = await runIdle(one, volume)
    const [source, target] = [join(stage.sandbox.directory, `${one}.in`), join(stage.sandbox.directory, `${one}.out`)]
    writeFileSync(source, 'copied in\n')
    await docker('cp', source, `${one}:/d/f`)
    expect(await docker('exec', one, 'cat', '/d/f')).toBe('copied in')
    await docker('exec', one, 'sh', '-c', 'echo written inside >> /d/f')
    await docker('cp', `${one}:/d/f`, target)
    expect(readFileSync(target, 'utf8')).toBe('copied in\nwritten inside\n')
    expect(await holders(volume)).toHaveLength(1)
    expect(stage.mountsOf(volume)).toHaveLength(ownMounts)
    expect((await stage.holdfast.tryCli('volume', 'rm', volume)).exitCode).toBe(6)
    expect(await docker('inspect', '-f', '{{.State.Running}} {{.Id}}', one)).toBe(`true ${container}`)
    await docker('rm', '-f', one)
    expect(await holders(volume)).toEqual([])
    expect(stage.mountsOf(volume)).toEqual([])
  })

  it('takes docker cp of a container that does not run, and is let go after', async () => {
    const { volume, one } = names()
    await create(volume)
    await docker('create', '--network', 'none', '--name', one, '-v', `${volume}:/d`, 'busybox', 'cat', '/d/tree/f')
    const directory = join(stage.sandbox.directory, one)
    mkdirSync(join(directory, 'tree'), { recursive: true })
    writeFileSync(join(directory, 'tree/f'), 'copied in\n')
    await docker('cp', join(directory, 'tree'), `${one}:/d/`)
    expect(stage.mountsOf(volume)).toEqual([])
    expect(await docker('start', '-a', one)).toBe('copied in')
    await docker('cp', `${one}:/d/tree/f`, join(directory, 'out'))
    expect(readFileSync(join(directory, 'out'), 'utf8')).toBe('copied in\n')
    expect(await holders(volume)).toEqual([])
  })

  it('begins with what the image has at that path, with its owners, but once only', async () => {
    const { volume } = names()
    await create(volume)
    const look = ['sh', '-c', 'stat -c "%u %a" /seed/hello; cat /seed/hello']
    expect(await run('--rm', '-v', `${volume}:/seed`, 'busybox', ...look)).toBe('7 640\nhello from the image')
    await run('--rm', '-v', `${volume}:/seed`, 'busybox', 'sh', '-c', 'echo changed > /seed/hello')
    expect(await run('--rm', '-v', `${volume}:/seed`, 'busybox', 'cat', '/seed/hello')).toBe('changed')
    expect(await holders(volume)).toEqual([])
  })

  it('stays empty with nocopy', async () => {
    const { volume } = names()
    await create(volume)
    expect(await run('--rm', '-v', `${volume}:/seed:nocopy`, 'busybox', 'ls', '-A', '/seed')).toBe('')
  })

  it('is stopped and started with its container', async () => {
    const { volume, one } = names()
    await create(volume)
    await runIdle(one, volume)
    await docker('exec', one, 'sh', '-c', 'echo data > /d/f')
    await docker('stop', one)
    expect(stage.mountsOf(volume)).toEqual([])
    await docker('start', one)
    expect(await docker('exec', one, 'cat', '/d/f')).toBe('data')
    await docker('restart', one)
    expect(await docker('exec', one, 'cat', '/d/f')).toBe('data')
    expect(stage.mountsOf(volume)).toHaveLength(ownMounts)
    await docker('rm', '-f', one)
  })

  it('starts ten containers at once', async () => {
    const { volume, one } = names()
    await create(volume)
    const count = Array.from({ length: 10 }, (_, i) => i)
    await Promise.all(
      count.map(async (i) => await run('--rm', '-v', `${volume}:/d`, 'busybox', 'sh', '-c', `echo ${one} > /d/${i}`)),
    )
    expect(await run('--rm', '-v', `${volume}:/d`, 'busybox', 'sh', '-c', 'cat /d/?')).toBe(
      count.map(() => one).join('\n'),
    )
    expect(await holders(volume)).toEqual([])
    expect(stage.mountsOf(volume)).toEqual([])
  })
})

it('a volume comes from another container, read-only, and twice into one', async () => {
  const { volume, one } = names()
  await docker('volume', 'create', '-d', 'holdfast', volume)
  await run('-d', '--name', one, '-v', `${volume}:/d`, '-v', `${volume}:/e`, 'busybox', 'sleep', '3600')
  await docker('exec', one, 'sh', '-c', 'echo data > /d/f')
  expect(await docker('exec', one, 'cat', '/e/f')).toBe('data')
  expect(await run('--rm', '--volumes-from', one, 'busybox', 'cat', '/d/f')).toBe('data')
  const write = ['run', '--rm', '--network', 'none', '--volumes-from', `${one}:ro`, 'busybox', 'touch', '/d/g']
  expect((await tryDocker(...write)).stderr).toMatch(/Read-only/)
  await docker('rm', '-f', one)
  expect(await holders(volume)).toEqual([])
})

it('a container that does not start holds nothing', async () => {
  const { volume, one } = names()
  await docker('volume', 'create', '-d', 'holdfast', '-o', 'size=64M', volume)
  const started = await tryDocker(
    'run',
    '--network',
    'none',
    '--name',
    one,
    '-v',
    `${volume}:/d`,
    'busybox',
    '/no/such',
  )
  expect(started.exitCode).toBe(127)
  expect(await holders(volume)).toEqual([])
  expect(stage.mountsOf(volume)).toEqual([])
  await docker('rm', one)
  await docker('volume', 'rm', volume)
})
