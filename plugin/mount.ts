/** A Mount for a client that may be gone before it has the answer: Docker never unmounts what it did not see mounted. */

import type { ServerResponse } from 'node:http'
import { AppError } from '../src/errors.ts'
import type { MountService } from '../src/services/volumes/contract.ts'

/** The part of pino's logger that this door uses. */
export interface PluginLog {
  error(fields: object, message: string): void
}

/** A Mount under way. */
export interface MountAttempt {
  readonly mountpoint: Promise<string>
  /** Undoes this Mount, and only this one: as soon as it has succeeded. Twice is once. */
  takeBack(): void
}

/**
 * Starts one Mount; it takes itself back when the client goes before it has the whole answer. A Mount that fails has
 * counted nothing, and its id may be that of a running container: then nothing is undone.
 */
export function mountForClient(
  mounts: MountService,
  name: string,
  id: string,
  response: ServerResponse,
  log: PluginLog,
): MountAttempt {
  const mounted = mounts.mount(name, id)
  let taken = false
  const takeBack = (): void => {
    if (taken) return
    taken = true
    mounted
      .then(
        () => mounts.unmount(name, id),
        () => undefined,
      )
      .catch((err: unknown) =>
        log.error({ err, volume: name, mountId: id }, 'could not take back a mount nobody waits for'),
      )
  }
  response.once('close', () => {
    if (!response.writableFinished) takeBack()
  })
  return { mountpoint: mounted.then(assertAbsolute), takeBack }
}

/** An empty path would show the container the runtime's own files. */
function assertAbsolute(mountpoint: string): string {
  if (mountpoint.startsWith('/')) return mountpoint
  throw new AppError('INTERNAL', `the mountpoint ${JSON.stringify(mountpoint)} is not an absolute path`)
}
