/** Keeps the containers that use a volume still while a slow copy is made: `snapshot create --pause`. */

import { setTimeout } from 'node:timers/promises'
import type { Log } from '../../driver.ts'
import { isAppError } from '../../errors.ts'
import type { DockerApi } from '../../system/docker.ts'

/** An engine that stood still may carry out a pause after it was given up: each container is looked at until it stays unpaused. */
const looks = 60
const lookEveryMs = 1_000

/** Unpauses every container, and sees that it is; what happens to one does not concern the others. */
export async function unpauseAll(docker: DockerApi, containers: readonly string[], log: Log): Promise<void> {
  await Promise.all(
    containers.map(async (container) => {
      if (await unpauseOne(docker, container)) return
      log.error({ container }, 'could not unpause; run: docker unpause')
    }),
  )
}

/** @returns true when the container was seen unpaused after the engine had answered an unpause */
async function unpauseOne(docker: DockerApi, container: string): Promise<boolean> {
  for (let look = 0; look < looks; look++) {
    try {
      await docker.unpause(container)
      if (!(await docker.isPaused(container))) return true
    } catch (error) {
      if (!isAppError(error, 'TIMEOUT')) return false // No engine, or one that refuses: asking again does not help.
    }
    await setTimeout(lookEveryMs)
  }
  return false
}

/** Runs `work` while `containers` are paused. When one cannot be paused, nothing is done and the others go on. */
export async function whilePaused<T>(
  docker: DockerApi,
  containers: readonly string[],
  log: Log,
  work: () => Promise<T>,
): Promise<T> {
  try {
    for (const container of containers) await docker.pause(container)
    return await work()
  } finally {
    await unpauseAll(docker, containers, log)
  }
}
