/** Volumes as `docker volume` makes, shows and removes them. */

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { RawConnection } from '../support/raw-http.ts'
import { openStage, type Stage } from '../support/stage.ts'

let stage: Stage
let docker: Stage['engine']['docker']
let tryDocker: Stage['engine']['tryDocker']
let run: Stage['engine']['run']

beforeAll(async () => {
  stage = await openStage()
  ;({ docker, tryDocker, run } = stage.engine)
})
afterAll(async () => await stage?.[Symbol.asyncDispose]())

const create = async (...args: string[]): Promise<string> => await docker('volume', 'create', '-d', 'holdfast', ...args)

async function refused(...args: string[]): Promise<string> {
  const { exitCode, stderr } = await tryDocker(...args)
  expect(exitCode, `docker ${args.join(' ')}`).not.toBe(0)
  return stderr
}

const volumeNames = async (): Promise<string[]> =>
  (await docker('volume', 'ls', '-q', '-f', 'driver=holdfast')).split('\n').filter(Boolean)

describe('a volume', () => {
  it('keeps what a container wrote for the next one', async () => {
    expect(await create('kept')).toBe('kept')
    await run('--rm', '-v', 'kept:/d', 'busybox', 'sh', '-c', 'echo treasure > /d/f')
    expect(await run('--rm', '-v', 'kept:/d', 'busybox', 'cat', '/d/f')).toBe('treasure')
  })

  it('is shown by Docker and by Holdfast', async () => {
    await create('shown')
    const info = await stage.inspect('shown')
    expect(info).toMatchObject({ Name: 'shown', Driver: 'holdfast', Scope: 'local', Status: { driver: 'vfs' } })
    expect(Math.abs(Date.parse(info.CreatedAt) - Date.now())).toBeLessThan(60_000)
    expect(await volumeNames()).toContain('shown')
    expect(JSON.parse(await stage.holdfast.cli('volume', 'inspect', 'shown', '--json'))).toMatchObject([
      { name: 'shown' },
    ])
  })

  it('goes to the trash with docker volume rm, and comes back with its content', async () => {
    await create('gone')
    await run('--rm', '-v', 'gone:/d', 'busybox', 'sh', '-c', 'echo treasure > /d/f')
    await docker('volume', 'rm', 'gone')
    expect(await volumeNames()).not.toContain('gone')
    expect(await refused('volume', 'inspect', 'gone')).toMatch(/no such volume/i)
    await stage.holdfast.cli('trash', 'restore', 'gone')
    expect(await run('--rm', '-v', 'gone:/d', 'busybox', 'cat', '/d/f')).toBe('treasure')
  })

  it('that the CLI made is found by docker run without a driver', async () => {
    await stage.holdfast.cli('volume', 'create', 'outside')
    await run('--rm', '-v', 'outside:/d', 'busybox', 'touch', '/d/f')
    expect((await stage.inspect('outside')).Driver).toBe('holdfast')
  })

  it('is made by docker run when it is not there', async () => {
    await run('--rm', '--volume-driver', 'holdfast', '-v', 'implicit:/d', 'busybox', 'touch', '/d/f')
    const mount = 'type=volume,source=sized,target=/d,volume-driver=holdfast,volume-opt=uid=42'
    expect(await run('--rm', '--mount', mount, 'busybox', 'stat', '-c', '%u', '/d')).toBe('42')
    expect(await volumeNames()).toEqual(expect.arrayContaining(['implicit', 'sized']))
  })

  it('without a name goes with its container', async () => {
    const before = await volumeNames()
    await run('--rm', '--mount', 'type=volume,target=/d,volume-driver=holdfast', 'busybox', 'touch', '/d/f')
    expect(await volumeNames()).toEqual(before)
  })

  it('created again is the same volume: Docker asks nothing and keeps the first options', async () => {
    await create('twice', '-o', 'uid=5')
    await run('--rm', '-v', 'twice:/d', 'busybox', 'touch', '/d/f')
    await create('twice')
    await create('twice', '-o', 'uid=6')
    expect(await run('--rm', '-v', 'twice:/d', 'busybox', 'sh', '-c', 'stat -c %u /d; ls /d')).toBe('5\nf')
    const { exitCode, stderr } = await stage.holdfast.tryCli('volume', 'create', 'twice', '-o', 'uid=6')
    expect({ exitCode, stderr }).toEqual({ exitCode: 5, stderr: expect.stringMatching(/uid/) })
    expect(await refused('volume', 'create', '-d', 'local', 'twice')).toMatch(/unique/)
  })

  it('removed twice is removed', async () => {
    await create('rmtwice')
    await docker('volume', 'rm', 'rmtwice')
    await docker('volume', 'rm', '-f', 'rmtwice')
    expect(await refused('volume', 'rm', 'rmtwice')).toMatch(/no such volume/i)
  })
})

describe('options', () => {
  it('size is enforced on the writer', async () => {
    await create('small', '-o', 'size=64M')
    await run('--rm', '-v', 'small:/d', 'busybox', 'dd', 'if=/dev/zero', 'of=/d/fits', 'bs=1M', 'count=40')
    const filled = await tryDocker(
      ...['run', '--rm', '--network', 'none', '-v', 'small:/d', 'busybox'],
      ...['dd', 'if=/dev/zero', 'of=/d/more', 'bs=1M', 'count=40'],
    )
    expect(filled.exitCode).not.toBe(0)
    expect(filled.stderr).toMatch(/No space left|quota exceeded/i)
    expect(await run('--rm', '-v', 'small:/d', 'busybox', 'stat', '-c', '%s', '/d/fits')).toBe(String(40 * 2 ** 20))
  })

  it.each([[[]], [['-o', 'size=64M']]])(
    'uid, gid and mode are those of the directory, with %j',
    async (more: string[]) => {
      const name = `owned${more.length}`
      await create(name, '-o', 'uid=1000', '-o', 'gid=1001', '-o', 'mode=0750', ...more)
      expect(await run('--rm', '-v', `${name}:/d`, 'busybox', 'stat', '-c', '%u %g %a', '/d')).toBe('1000 1001 750')
      await run('--rm', '--user', '1000:1001', '-v', `${name}:/d`, 'busybox', 'touch', '/d/mine')
    },
  )

  it('labels come as options', async () => {
    await create('labelled', '-o', 'label.team=db')
    expect(JSON.parse(await stage.holdfast.cli('volume', 'inspect', 'labelled', '--json'))).toMatchObject([
      { labels: { team: 'db' } },
    ])
  })

  it.each([
    ['sise=1G', /'sise'.*'size'/],
    ['size=huge', /'huge' is not a size/],
    ['size=-1', /is not a size/],
    ['on-remove=never', /never/],
    ['uid=root', /uid/],
    ['mode=rwx', /mode/],
    ['from-snapshot=none@s', /none/],
    ['driver=floppy', /floppy/],
  ])('%s is refused with a reason, and makes nothing', async (option, reason) => {
    expect(await refused('volume', 'create', '-d', 'holdfast', '-o', option, 'never')).toMatch(reason)
    expect(await volumeNames()).not.toContain('never')
  })
})

describe('names', () => {
  it.each(['../x', 'a/b', '..', '.hid', 'a b', 'ä', 'x'.repeat(300)])('%j is refused', async (name) => {
    expect(await refused('volume', 'create', '-d', 'holdfast', name)).toMatch(/is not a volume name/)
  })

  it.each(['a', 'A_b.c-d', '0', 'x'.repeat(127)])('%j is taken', async (name) => {
    expect(await create(name)).toBe(name)
    await docker('volume', 'rm', name)
  })
})

describe('many at a time', () => {
  it('20 are created and removed in parallel', async () => {
    const names = Array.from({ length: 20 }, (_, i) => `parallel${i}`)
    await Promise.all(names.map(async (name) => await create(name)))
    expect(await volumeNames()).toEqual(expect.arrayContaining(names))
    await docker('volume', 'rm', ...names)
    expect((await volumeNames()).filter((name) => name.startsWith('parallel'))).toEqual([])
  })

  it('1,000 are listed at once', async () => {
    const names = Array.from({ length: 1_000 }, (_, i) => `many-${String(i).padStart(4, '0')}`)
    const todo = [...names]
    await Promise.all(
      Array.from({ length: 8 }, async () => {
        const connection = await RawConnection.open(stage.holdfast.pluginSocket)
        for (let Name = todo.pop(); Name; Name = todo.pop()) {
          expect((await connection.request('/VolumeDriver.Create', { Name, Opts: {} })).body).toBe('{"Err":""}')
        }
        connection.close()
      }),
    )
    const begun = performance.now()
    expect((await volumeNames()).filter((name) => name.startsWith('many-')).sort()).toEqual(names)
    expect(performance.now() - begun).toBeLessThan(10_000)
    expect((await stage.inspect('many-0500')).Name).toBe('many-0500')
  })
})
