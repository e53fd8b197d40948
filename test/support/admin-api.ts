/** One call of the admin API, for programs that run where its socket is. */

import { request } from 'node:http'

/** The admin API of a daemon with the usual settings. */
export const adminSocket = '/run/holdfast/holdfast.sock'

/** @returns the answer's body, parsed; undefined when it is empty @throws what the daemon says */
export function call<T>(socketPath: string, method: string, path: string, body?: object): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>()
  const headers = body ? { 'content-type': 'application/json' } : {}
  const sent = request({ socketPath, method, path, headers, agent: false }, (answer) => {
    let text = ''
    answer.setEncoding('utf8')
    answer.on('data', (chunk) => {
      text += chunk
    })
    answer.on('end', () => {
      if ((answer.statusCode ?? 500) >= 300) reject(new Error(`${method} ${path}: ${text}`))
      else resolve(text === '' ? (undefined as T) : (JSON.parse(text) as T))
    })
    answer.on('error', reject)
  })
  sent.on('error', reject)
  sent.end(body && JSON.stringify(body))
  return promise
}
