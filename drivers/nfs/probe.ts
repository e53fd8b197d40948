/** Whether a server that takes its time is there at all: a slow disk does not keep its kernel from taking connections. */

import { connect } from 'node:net'
import type { NfsExport } from './options.ts'

const usualPort = 2049

/** Whether the server takes a TCP connection within `timeoutMs`. */
export function takesConnections({ server, options }: NfsExport, timeoutMs: number): Promise<boolean> {
  const given = options.find((option) => option.startsWith('port='))?.slice('port='.length)
  const host = server.replace(/^\[(.*)\]$/, '$1')
  return new Promise((resolve) => {
    const socket = connect({ host, port: Number(given ?? usualPort), timeout: timeoutMs })
    const end = (takes: boolean) => {
      socket.destroy()
      resolve(takes)
    }
    socket.once('connect', () => end(true))
    socket.once('timeout', () => end(false))
    socket.once('error', () => end(false))
  })
}
