/** Programs that are bound to the life of who starts them; the rest of exec.ts is met by every test that needs a program. */

import { expect, test } from 'vitest'
import { exec, run } from '../../../src/system/exec.ts'

test('a bound program runs as any other', async () => {
  expect(await exec('echo', ['-n', '--', 'a b'], { bound: true })).toBe('-- a b')
  expect(await run('false', [], { bound: true })).toMatchObject({ exitCode: 1 })
  await expect(exec('ls', ['/no/such'], { bound: true })).rejects.toThrow(/^ls: .*No such file/)
})

test('a bound program that is not installed is told by its name', async () => {
  const error = { code: 'FAILED_PRECONDITION', message: expect.stringMatching(/^the program 'no-such-tool' is not/) }
  await expect(run('no-such-tool', [], { bound: true })).rejects.toMatchObject(error)
})
