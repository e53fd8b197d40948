/**
 * A node of a test's own in a machine of the lab: an nfs driver that is told what to do by files in a directory that the test sees too.
 * Arguments: the directory, the driver's root directory, its settings and times as JSON.
 */

import { appendFile, readdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { createNfs } from '../../drivers/nfs/nfs.ts'
import { parseSettings } from '../../drivers/nfs/options.ts'
import { toAppError } from '../../src/errors.ts'
import { context } from '../conformance/driver-bed.ts'
import { noArchive } from '../support/no-archive.ts'

const [directory = '', root = '', settings = '{}', times = '{}'] = process.argv.slice(2)
const driver = createNfs(parseSettings(JSON.parse(settings)), { root, archive: noArchive }, JSON.parse(times))
await driver.start(context(), [], [])
void driver.shared?.watch(
  new AbortController().signal,
  (news) => void appendFile(join(directory, 'news'), `${JSON.stringify(news)}\n`),
)

const seen = new Set<string>()
await writeFile(join(directory, 'ready'), '')
for (;;) {
  for (const name of await readdir(directory)) {
    if (!name.endsWith('.request') || seen.has(name)) continue
    seen.add(name)
    void answer(name)
  }
  await pause(20)
}

async function answer(request: string): Promise<void> {
  const { method, args } = JSON.parse(await readFile(join(directory, request), 'utf8')) as {
    method: string
    args: unknown[]
  }
  const begun = performance.now()
  const result = await call(method, args).then(
    (value) => ({ value: value ?? null }),
    (error: unknown) => {
      const { code, message } = toAppError(error)
      return { error: { code, message } }
    },
  )
  const answered = join(directory, request.replace('.request', '.answer'))
  await writeFile(`${answered}.new`, JSON.stringify({ ...result, ms: performance.now() - begun }))
  await rename(`${answered}.new`, answered)
}

/** `mount`, `trash.discard`. */
function call(method: string, args: readonly unknown[]): Promise<unknown> {
  const path = method.split('.')
  const owner = path.slice(0, -1).reduce<object>((value, key) => value[key as never], driver)
  const found = owner[path.at(-1) as never] as (...all: unknown[]) => Promise<unknown>
  return found.call(owner, context(), ...args)
}
