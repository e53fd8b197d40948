/** Tells the service manager that the daemon answers: units that are ordered after it (Docker's) start only then. */

import { toAppError } from '../errors.ts'
import { exec } from './exec.ts'

/** Nothing where no service manager waits. A failure is logged: the manager says itself what it missed. Source: sd_notify(3). */
export async function tellReady(log: { warn(fields: object, message: string): void }): Promise<void> {
  if (process.env.NOTIFY_SOCKET === undefined) return
  await exec('systemd-notify', ['--ready'], { timeoutMs: 10_000 }).catch((error: unknown) => {
    log.warn({ error: toAppError(error).message }, 'could not tell the service manager that the daemon is ready')
  })
}
