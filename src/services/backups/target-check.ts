/** Whether targets can be used: their files can be read, their repositories opened, in good time. Changes nothing. */

import { constants } from 'node:fs'
import { access, stat } from 'node:fs/promises'
import { AppError, toAppError } from '../../errors.ts'
import type { Finding, Target } from '../../model.ts'
import type { Core } from '../core.ts'
import { filesOf, placeOf } from './repositories.ts'

/** With the time that its end may take, below doctor's own deadline. */
const openDeadlineMs = 6_000

/** All targets at once. */
export async function checkTargets(core: Core): Promise<Finding[]> {
  const found = await Promise.all(core.catalog.targets().map((target) => checkTarget(core, target)))
  return found.flat()
}

async function checkTarget(core: Core, target: Target): Promise<Finding[]> {
  const found = (await Promise.all(filesOf(target.access).map((file) => checkFile(target, file)))).flat()
  const isReadable = found.every(({ severity }) => severity === 'warning')
  return isReadable ? [...found, ...(await openTarget(core, target))] : found
}

const othersRights = 0o077

async function checkFile(target: Target, file: string): Promise<Finding[]> {
  try {
    await access(file, constants.R_OK)
    const { mode } = await stat(file)
    if ((mode & othersRights) === 0) return []
    const fact = `${file} holds a secret, and others than its owner can get at it (mode ${(mode & 0o777).toString(8)})`
    return [{ ...finding(target, 'secret-readable', fact, `chmod 600 ${file}`), severity: 'warning' }]
  } catch (error) {
    return [finding(target, 'target-file-unreadable', (error as Error).message, `put the file back: ${file}`)]
  }
}

async function openTarget(core: Core, target: Target): Promise<Finding[]> {
  const giveUp = new AbortController()
  const late = new AppError('TIMEOUT', `it did not answer within ${openDeadlineMs / 1000} s`)
  const timer = setTimeout(() => giveUp.abort(late), openDeadlineMs)
  try {
    await core.engine.run(placeOf(target), 'open', {}, { signal: giveUp.signal })
    return []
  } catch (error) {
    const remedy = `mend that, then: holdfast target check ${target.name}`
    return [finding(target, 'target-unreachable', toAppError(error).message, remedy)]
  } finally {
    clearTimeout(timer)
  }
}

function finding({ name, url }: Target, check: string, fact: string, remedy: string): Finding {
  return { severity: 'error', check, subject: name, message: `target ${name} (${url}): ${fact}`, remedy }
}
