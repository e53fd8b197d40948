/** What README promises to work in sixty seconds, line by line as it is printed there. */

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { exec, run } from '../../src/system/exec.ts'
import { openStage, type Stage } from '../support/stage.ts'

const data = '/var/lib/postgresql/data'

/**
 * The only lines that are not run as printed: there is no registry here to fetch an image from, and the data must differ after
 * the snapshot.
 */
const replacements: Readonly<Record<string, string>> = {
  [`docker run -d --name pg -e POSTGRES_PASSWORD=x -v db:${data} postgres`]: [
    `docker run -d --network none --name pg -v db:${data} busybox sh -c 'echo before > ${data}/row; sleep 3600'`,
    `until docker exec pg cat ${data}/row; do sleep 0.1; done`,
  ].join(' && '),
  'docker rm -f pg': `docker exec pg sh -c 'echo after > ${data}/row' && docker rm -f pg`,
}

const readme = readFileSync(join(import.meta.dirname, '../../README.md'), 'utf8')
const block = /\n## Sixty seconds\n+```\n(.*?)```/s.exec(readme)?.[1] ?? ''
const lines = block
  .split('\n')
  .map((line) => line.replace(/ +#.*$/, ''))
  .filter(Boolean)

let stage: Stage
let env: string[]

/** Puts `docker` and `holdfast` of the stage into a PATH, as the reader of README has them in theirs. */
beforeAll(async () => {
  stage = await openStage()
  const { directory, reach } = stage.sandbox
  const bin = join(directory, 'bin')
  mkdirSync(bin)
  const main = join(import.meta.dirname, '../../dist/src/cli/main.js')
  writeFileSync(join(bin, 'holdfast'), `#!/bin/sh\nexec '${process.execPath}' '${main}' "$@"\n`, { mode: 0o755 })
  env = [
    `PATH=${bin}:${process.env['PATH']}`,
    `DOCKER_HOST=unix://${reach('/run/docker.sock')}`,
    `DOCKER_CONFIG=${join(directory, 'cli')}`,
    `HOLDFAST_SOCKET=${reach('/run/holdfast/holdfast.sock')}`,
  ]
})
afterAll(async () => await stage?.[Symbol.asyncDispose]())

const read = async (volume: string): Promise<string> =>
  await stage.engine.run('--rm', '-v', `${volume}:/d`, 'busybox', 'cat', '/d/row')

describe('the sixty seconds of README', () => {
  it('are there, with the lines that are replaced', () => {
    expect(lines.length).toBeGreaterThan(10)
    expect(lines).toEqual(expect.arrayContaining(Object.keys(replacements)))
  })

  it.each(lines)('%s', async (line) => {
    const { exitCode, stdout, stderr } = await run('env', [...env, 'bash', '-c', replacements[line] ?? line])
    expect({ exitCode, said: exitCode === 0 ? '' : stdout + stderr }).toEqual({ exitCode: 0, said: '' })
  })

  it('leave the data as it was before the upgrade, also in the copy, with its snapshot', async () => {
    expect(await read('db')).toBe('before')
    expect(await read('try')).toBe('before')
    expect(await exec('env', [...env, 'holdfast', 'snapshot', 'ls', 'db'])).toMatch(/^db@before-upgrade /m)
  })
})
