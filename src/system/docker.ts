/**
 * A client of the Docker Engine's API for the few questions that Holdfast has. Never called from an answer to Docker, and never
 * before the sockets listen: Docker may be waiting for us. API version 1.41 (Engine 20.10), which later engines still speak.
 */

import { request } from 'node:http'
import { AppError, isAppError } from '../errors.ts'
import { formatDuration } from '../units.ts'

const apiVersion = 'v1.41'
const deadlineMs = 5_000

/** The part of Docker's record of a volume that is looked at. */
export interface DockerVolumeRecord {
  readonly Name: string
  readonly Driver: string
}

/** A container as far as it matters here. */
export interface DockerContainer {
  readonly id: string
  readonly name: string
  /** `running`, `paused`, `exited`, … */
  readonly state: string
}

/** A command that runs, or ran, in a container. */
export interface DockerExec {
  readonly running: boolean
  /** Null while it runs. */
  readonly exitCode: number | null
  /** As the engine sees it; 0 before it was started. */
  readonly pid: number
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

  /** Those that use a volume, running or not. */
  async allContainersUsing(volume: string): Promise<DockerContainer[]> {
    const filters = encodeURIComponent(JSON.stringify({ volume: [volume] }))
    const found = (await this.#call('GET', `/containers/json?all=1&filters=${filters}`)) as {
      Id: string
      Names: string[]
      State: string
    }[]
    return found.map(({ Id, Names, State }) => ({ id: Id, name: plainName(Names[0] ?? Id), state: State }))
  }

  /** By name or id; undefined when there is none. */
  async container(ref: string): Promise<DockerContainer | undefined> {
    const answer = (await this.#call('GET', `/containers/${encodeURIComponent(ref)}/json`, [404])) as
      | { Id: string; Name: string; State: { Status: string } }
      | undefined
    return answer && { id: answer.Id, name: plainName(answer.Name), state: answer.State.Status }
  }

  /** Prepares a command. @returns its id @throws FAILED_PRECONDITION, in the engine's words, for a container that is gone, paused or not running */
  async createExec(container: string, command: readonly string[], env: readonly string[]): Promise<string> {
    const body = { AttachStdout: true, AttachStderr: true, Cmd: command, Env: env }
    const answer = await this.#exchange('POST', `/containers/${container}/exec`, body).catch((error: Error) => {
      throw isAppError(error) ? error : this.#unavailable(error.message)
    })
    if (answer.status === 404 || answer.status === 409) throw refusal(answer.body)
    if (answer.status >= 300) throw this.#unavailable(`${answer.status} ${answer.body.slice(0, 200)}`)
    return (JSON.parse(answer.body) as { Id: string }).Id
  }

  /**
   * Starts a prepared command, and hands on what it writes, in Docker's frames, until it has ended. Without a deadline: `signal` ends the
   * listening, not the command. @throws FAILED_PRECONDITION when it cannot be started; the signal's reason
   */
  startExec(id: string, take: (chunk: Buffer) => void, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const payload = JSON.stringify({ Detach: false, Tty: false })
      const headers = { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(payload) }
      const target = `/${apiVersion}/exec/${id}/start`
      const how = { socketPath: this.#socket, path: target, method: 'POST', agent: false as const, headers, signal }
      const fail = (error: Error): void => reject(signal.aborted ? signal.reason : this.#unavailable(error.message))
      const call = request(how, (response) => {
        const failed = (response.statusCode ?? 0) >= 300
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => (failed ? chunks.push(chunk) : take(chunk)))
        response.on('error', fail)
        response.on('end', () => (failed ? reject(refusal(Buffer.concat(chunks).toString())) : resolve()))
      })
      call.on('error', fail)
      call.end(payload)
    })
  }

  async inspectExec(id: string): Promise<DockerExec> {
    const answer = (await this.#call('GET', `/exec/${id}/json`)) as {
      Running: boolean
      ExitCode: number | null
      Pid: number
    }
    return { running: answer.Running, exitCode: answer.ExitCode, pid: answer.Pid }
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
    const message = `Docker's API at ${this.#socket}: no answer within ${formatDuration(deadlineMs)}; the engine, or a plugin of its, hangs`
    return new AppError('TIMEOUT', message)
  }

  #exchange(method: 'GET' | 'POST', path: string, body?: object): Promise<{ status: number; body: string }> {
    const payload = body && JSON.stringify(body)
    const headers = payload && { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(payload) }
    return new Promise((resolve, reject) => {
      // No kept connection: one that an engine has closed would fail the unpause after a long copy.
      const target = { socketPath: this.#socket, path: `/${apiVersion}${path}` }
      const how = { ...target, method, timeout: deadlineMs, agent: false as const, ...(headers && { headers }) }
      const call = request(how, (response) => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('error', reject)
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString() }))
      })
      call.on('timeout', () => call.destroy(this.#timeout()))
      call.on('error', reject)
      call.end(payload)
    })
  }
}

/** Docker writes a slash before it. */
function plainName(name: string): string {
  return name.replace(/^\//, '')
}

/** The engine's own words about what it will not do. */
function refusal(body: string): AppError {
  let message = body.slice(0, 300)
  try {
    message = (JSON.parse(body) as { message: string }).message
  } catch {
    // Not JSON: as it is.
  }
  return new AppError('FAILED_PRECONDITION', message)
}
