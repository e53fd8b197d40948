/** UNIX sockets of others. */

import { connect } from 'node:net'

const connectDeadlineMs = 2_000

/** True when something accepts a connection at `path` within 2 s. */
export function isListening(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const connection = connect(path)
    const done = (yes: boolean): void => {
      connection.destroy()
      resolve(yes)
    }
    connection.setTimeout(connectDeadlineMs, () => done(false))
    connection.on('connect', () => done(true))
    connection.on('error', () => done(false))
  })
}
