/**
 * One process per directory, by a lock of the kernel: it is gone when its holder is, however that ended. Node has no flock(2);
 * flock(1) locks an inherited descriptor, and the lock then belongs to the open file that this process keeps.
 * Fact: flock(2) locks belong to the open file description, not to the process that asked.
 */

import { closeSync, constants, openSync } from 'node:fs'
import { AppError, fromErrno } from '../errors.ts'
import { run, toolError } from './exec.ts'

/** Held until it is released or this process ends. */
export interface FileLock {
  /** Gives the lock up; twice is once. */
  release(): void
}

/**
 * Locks an existing file or directory against every other process, and against a second lock of this one.
 * @param subject what is locked, for the message, such as `the root directory`
 * @throws FAILED_PRECONDITION when another holds it, NOT_FOUND
 */
export async function lockPath(path: string, subject: string): Promise<FileLock> {
  const fd = openLocked(path)
  try {
    const result = await run('flock', ['--exclusive', '--nonblock', '0'], { stdin: fd })
    if (result.exitCode === 1) {
      throw new AppError(
        'FAILED_PRECONDITION',
        `another daemon uses ${subject} ${path}; stop it or choose another directory`,
      )
    }
    if (result.exitCode !== 0) throw toolError('flock', result)
  } catch (error) {
    closeSync(fd)
    throw error
  }
  let held = true
  return {
    release: () => {
      if (held) closeSync(fd)
      held = false
    },
  }
}

function openLocked(path: string): number {
  try {
    return openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW)
  } catch (error) {
    throw fromErrno(error, `lock ${path}`)
  }
}
