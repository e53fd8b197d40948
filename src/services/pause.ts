/** Keeps the containers that use a volume still while a slow copy is made: `snapshot create --pause`. */

import type { Log } from '../driver.ts'
import type { DockerApi } from '../system/docker.ts'

/** Unpauses every container, whatever happens to one of them. */
export async function unpauseAll(docker: DockerApi, containers: readonly string[], log: Log): Promise<void> {
  for (const container of containers) {
    await docker
      .unpause(container)
      .catch((error: Error) => log.error({ container, error: error.message }, 'could not unpause; run: docker unpause'))
  }
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
