/**
 * A client of the Docker Engine's API for the few questions that Holdfast has. Never called from an answer to Docker, and never
 * before the sockets listen: Docker may be waiting for us. API version 1.41 (Engine 20.10), which later engines still speak.
 */

import { request } from 'node:http'
import { AppError, isAppError } from '../errors.ts'

const apiVersion = 'v1.41'
const deadlineMs = 5_000

/** The part of Docker's record of a volume that is looked at. */
export interface DockerVolumeRecord {
  readonly Name: string
  readonly Driver: string
}

/** Asks the engine at one socket. Every method throws UNAVAILABLE when no engine answers within 5 s, or not as one does. */
export class DockerApi {
  readonly #socket: string

  constructor(socket: string) {
    this.#socket = socket
  }

  /** Records of all drivers. */
  async volumes(): Promise<DockerVolumeRecord[]> {
    const { Volumes } = (await this.#call('GET', '/volumes')) as { Volumes: DockerVolumeRecord[] | null }
    return Volumes ?? []
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

  /** False for one that is gone. */
  async isPaused(container: string): Promise<boolean> {
    const answer = (await this.#call('GET', `/containers/${container}/json`, [404])) as { State?: { Paused?: boolean } }
    return answer?.State?.Paused === true
  }

  /** A container that is not paused, or gone, is success. */
  async unpause(container: string): Promise<void> {
    await this.#call('POST', `/containers/${container}/unpause`, [404, 409, 500])
  }

  async #call(method: 'GET' | 'POST', path: string, accepted: readonly number[] = []): Promise<unknown> {
    const { status, body } = await this.#exchange(method, path).catch((error: Error) => {
      throw isAppError(error) ? error : this.#unavailable(error.message)
    })
    if (status >= 300 && !accepted.includes(status)) throw this.#unavailable(`${status} ${body.slice(0, 200)}`)
    if (status >= 300 || body === '') return undefined
    try {
      return JSON.parse(body)
    } catch {
      throw this.#unavailable(`its answer is not JSON (${JSON.stringify(body.slice(0, 80))})`)
    }
  }

  #unavailable(fact: string): AppError {
    return new AppError('UNAVAILABLE', `Docker's API at ${this.#socket}: ${fact}; is the engine running?`)
  }

  #timeout(): AppError {
    const message = `Docker's API at ${this.#socket}: no answer within ${deadlineMs} ms; the engine, or a plugin of its, hangs`
    return new AppError('TIMEOUT', message)
  }

  #exchange(method: 'GET' | 'POST', path: string): Promise<{ status: number; body: string }> {
    return new Promise((resolve, reject) => {
      // No kept connection: one that an engine has closed would fail the unpause after a long copy.
      const how = { socketPath: this.#socket, path: `/${apiVersion}${path}`, method, timeout: deadlineMs, agent: false }
      const call = request(how, (response) => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('error', reject)
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString() }))
      })
      call.on('timeout', () => call.destroy(this.#timeout()))
      call.on('error', reject)
      call.end()
    })
  }
}
