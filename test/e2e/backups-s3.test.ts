/** Backups to a bucket as a user lives with them: from the command line over the daemon and the engine to a server that is not Amazon's. */

import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type S3Server, startS3Server } from '../support/s3-server.ts'
import { openStage, type Stage } from '../support/stage.ts'

let stage: Stage
let server: S3Server
let cli: Stage['holdfast']['cli']

const at = (name: string): string => join(stage.sandbox.directory, name)
const json = async <T>(...args: string[]): Promise<T> => JSON.parse(await cli(...args, '--json')) as T
const write = (volume: string, script: string): Promise<string> =>
  stage.engine.run('--rm', '-v', `${volume}:/d`, 'busybox', 'sh', '-c', script)

/** All that is needed to reach the repository from anywhere. */
function access(): string[] {
  const keys = ['--access-key-file', at('access'), '--secret-key-file', at('secret')]
  return ['--endpoint', server.endpoint, '--path-style', ...keys, '--passphrase-file', at('passphrase')]
}

beforeAll(async () => {
  stage = await openStage()
  ;({ cli } = stage.holdfast)
  server = await startS3Server()
  const secrets = { access: server.accessKey, secret: server.secretKey, passphrase: 'correct horse' }
  for (const [name, text] of Object.entries(secrets)) writeFileSync(at(name), `${text}\n`, { mode: 0o600 })
  await cli('target', 'add', 'bucket', `s3://${server.bucket}/node1`, ...access())
})
afterAll(async () => {
  await stage?.[Symbol.asyncDispose]()
  await server?.close()
})

it('a target in a bucket is checked, shown without its secrets, and reached by path', async () => {
  expect(await json('target', 'check', 'bucket')).toMatchObject({ name: 'bucket', store: { kind: 's3' } })
  const shown = await cli('target', 'inspect', 'bucket', '--json')
  expect(shown).toContain(server.endpoint)
  for (const secret of [server.accessKey, server.secretKey, 'correct horse']) expect(shown).not.toContain(secret)
  expect(new Set(server.requests.map(({ style }) => style))).toEqual(new Set(['path']))
})

it('a backup comes back from it, and what has not changed is not sent again', async () => {
  await stage.engine.docker('volume', 'create', '-d', 'holdfast', 'data')
  await write(
    'data',
    'dd if=/dev/urandom of=/d/noise bs=1M count=20; ln /d/noise /d/twin; echo 1 > /d/f; chown 42 /d/f',
  )
  const before = await write('data', 'cd /d; sha256sum *; stat -c "%n %u %a %h" *')
  await cli('backup', 'create', 'data', '--to', 'bucket')
  expect([...server.objects.keys()].some((key) => key.startsWith('node1/packs/'))).toBe(true)
  server.requests.length = 0
  await cli('backup', 'create', 'data', '--to', 'bucket')
  expect(server.requests.filter(({ operation, key }) => operation === 'put' && key.includes('/packs/'))).toEqual([])
  await cli('backup', 'restore', 'bucket/data@latest', '--to', 'again')
  expect(await write('again', 'cd /d; sha256sum *; stat -c "%n %u %a %h" *')).toBe(before)
  expect(await cli('backup', 'verify', 'bucket', '--read-data')).toContain('all is well')
})

it('a server that is busy or cuts answers for a while costs time and nothing else', async () => {
  await write('data', 'dd if=/dev/urandom of=/d/more bs=1M count=20')
  const sum = await write('data', 'sha256sum /d/more')
  server.plant(
    { on: 'put', key: /packs/, times: 2, effect: { kind: 'fail', status: 503, code: 'SlowDown' } },
    { on: 'get', key: /packs/, times: 1, effect: { kind: 'cut-answer', after: 1000 } },
  )
  await cli('backup', 'create', 'data', '--to', 'bucket')
  await cli('backup', 'restore', 'bucket/data@latest', '--to', 'third')
  server.assertAllFaultsMet()
  expect(await write('third', 'sha256sum /d/more')).toBe(sum)
})

it('after a fire, URL, keys and passphrase bring back every volume', async () => {
  for (const volume of ['one', 'two']) {
    await stage.engine.docker('volume', 'create', '-d', 'holdfast', volume)
    await write(volume, `echo ${volume} > /d/f`)
    await cli('backup', 'create', volume, '--to', 'bucket')
  }
  await stage.engine.docker('volume', 'rm', ...(await stage.engine.docker('volume', 'ls', '-q')).split('\n'))
  await stage.holdfast.stop()
  rmSync(stage.holdfast.root, { recursive: true })
  rmSync(at('volumes'), { recursive: true })
  await stage.holdfast.start()
  const url = `s3://${server.bucket}/node1`
  const backups = await json<{ volume: string; url: string }[]>('backup', 'ls', url, ...access())
  for (const volume of ['one', 'two', 'data']) {
    const last = backups.findLast((backup) => backup.volume === volume)
    await cli('backup', 'restore', last?.url ?? '', '--to', volume, ...access())
  }
  for (const volume of ['one', 'two']) expect(await write(volume, 'cat /d/f')).toBe(volume)
  expect(await write('data', 'ls /d')).toBe('f\nmore\nnoise\ntwin')
})

it('a wrong key is told as such, and is in no log', async () => {
  writeFileSync(at('secret'), 'not-the-secret\n')
  const { exitCode, stderr } = await stage.holdfast.tryCli('backup', 'ls', `s3://${server.bucket}/node1`, ...access())
  expect(exitCode).not.toBe(0)
  expect(stderr).toMatch(/s3:\/\/test-bucket.*(denied|refuse|key|signature)/is)
  expect(stderr + stage.sandbox.readLog('holdfast')).not.toContain('not-the-secret')
})
