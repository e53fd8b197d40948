/**
 * A client of the Docker Engine's API for the few questions that Holdfast has. Never called from an answer to Docker, and never
 * before the sockets listen: Docker may be waiting for us. API version 1.41 (Engine 20.10), which later engines still speak.
 */

import { request } from 'node:http'
import { AppError } from '../errors.ts'

const apiVersion = 'v1.41'
const deadlineMs = 5_000

export interface DockerVolumeRecord {
  readonly Name: string
  readonly Driver: string
}

export class DockerApi {
  readonly #socket: string

  constructor(socket: string) {
    this.#socket = socket
  }

  /** Records of all drivers. @throws UNAVAILABLE when no engine answers within 5 s */
  async volumes(): Promise<DockerVolumeRecord[]> {
    const { Volumes } = (await this.#call('GET', '/volumes')) as { Volumes: DockerVolumeRecord[] | null }
    return Volumes ?? []
  }

  /** Names of the volume drivers that the engine has activated. */
  async volumeDrivers(): Promise<string[]> {
    const { Plugins } = (await this.#call('GET', '/info')) as { Plugins?: { Volume?: string[] | null } }
    return Plugins?.Volume ?? []
  }

  /** Ids of the running, not paused containers that use a volume. */
  async containersUsing(volume: string): Promise<string[]> {
    const filters = encodeURIComponent(JSON.stringify({ volume: [volume], status: ['running'] }))
    const containers = (await this.#call('GET', `/containers/json?filters=${filters}`)) as { Id: string }[]
    return containers.map(({ Id }) => Id)
  }

  async pause(container: string): Promise<void> {
    await this.#call('POST', `/containers/${container}/pause`)
  }

  /** A container that is not paused, or gone, is success. */
  async unpause(container: string): Promise<void> {
    await this.#call('POST', `/containers/${container}/unpause`, [404, 409, 500])
  }

  #call(method: 'GET' | 'POST', path: string, accepted: readonly number[] = []): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const fail = (text: string): void =>
        reject(new AppError('UNAVAILABLE', `Docker's API at ${this.#socket}: ${text}; is the engine running?`))
      const call = request(
        { socketPath: this.#socket, path: `/${apiVersion}${path}`, method, timeout: deadlineMs },
        (response) => {
          const chunks: Buffer[] = []
          response.on('data', (chunk: Buffer) => chunks.push(chunk))
          response.on('error', (error) => fail(error.message))
          response.on('end', () => {
            const body = Buffer.concat(chunks).toString()
            const status = response.statusCode ?? 0
            if (status >= 300 && !accepted.includes(status)) return fail(`${status} ${body.slice(0, 200)}`)
            resolve(status < 300 && body !== '' ? JSON.parse(body) : undefined)
          })
        },
      )
      call.on('timeout', () => call.destroy(new Error(`no answer within ${deadlineMs} ms`)))
      call.on('error', (error) => fail(error.message))
      call.end()
    })
  }
}
