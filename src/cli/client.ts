/**
 * The CLI's side of the admin API: HTTP over the daemon's UNIX socket. Every refusal becomes the `AppError` that the daemon
 * threw; a daemon that cannot be asked becomes one that says what to do.
 */

import type { IncomingMessage } from 'node:http'
import { AppError, type ErrorCode, errno, errorTable, fromErrno } from '../errors.ts'

/** Where the daemon listens: as the options say, or the environment, or the default. */
export function socketOf(options: Readonly<Record<string, unknown>>, env: NodeJS.ProcessEnv): string {
  const { socket } = options
  return typeof socket === 'string' ? socket : env['HOLDFAST_SOCKET'] || '/run/holdfast/holdfast.sock'
}

export type Method = 'GET' | 'POST' | 'DELETE'

export interface RequestOptions {
  readonly body?: object | undefined
  /** The UUID that the operation shall have. */
  readonly operationId?: string | undefined
  readonly signal?: AbortSignal | undefined
}

/** A path of the admin API, with its parts escaped: api`/v1/volumes/${name}`. */
export function api(parts: TemplateStringsArray, ...values: readonly string[]): string {
  return String.raw({ raw: parts }, ...values.map(encodeURIComponent))
}

export class Client {
  readonly socket: string

  constructor(socket: string) {
    this.socket = socket
  }

  /** @returns the answer's body @throws what the daemon answers; UNAVAILABLE or PERMISSION_DENIED when it cannot be asked */
  async request<T>(method: Method, path: string, options: RequestOptions = {}): Promise<T> {
    const response = await this.#send(method, path, options)
    const text = await read(response).catch((error: unknown) => {
      throw this.#unreachable(error)
    })
    const status = response.statusCode ?? 0
    if (status >= 200 && status < 300) return (text === '' ? undefined : parseBody(text)) as T
    throw refusal(parseBody(text), status)
  }

  #send(method: Method, path: string, { body, operationId, signal }: RequestOptions): Promise<IncomingMessage> {
    // An import would also load what node:http only re-exports, which takes as long as the rest of the program.
    const http = process.getBuiltinModule('node:http')
    const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body))
    const headers = {
      ...(payload ? { 'content-type': 'application/json', 'content-length': payload.length } : {}),
      ...(operationId === undefined ? {} : { 'holdfast-operation': operationId }),
    }
    return new Promise((resolve, reject) => {
      const request = http.request({ socketPath: this.socket, method, path, headers, agent: false, ...(signal ? { signal } : {}) })
      request.once('response', resolve)
      request.once('error', (error) => reject(this.#unreachable(error)))
      request.end(payload)
    })
  }

  #unreachable(error: unknown): Error {
    const reason = errno(error)
    if ((error as Error).name === 'AbortError') return error as Error
    if (reason === 'EACCES' || reason === 'EPERM') {
      const message = `no permission for the daemon's socket ${this.socket}; run this as root, or as a member of the socket's group`
      return new AppError('PERMISSION_DENIED', message, { cause: error })
    }
    if (reason === 'ENOENT' || reason === 'ECONNREFUSED') {
      const message = `no daemon listens on ${this.socket}; start it with 'holdfast daemon', or name its socket with --socket`
      return new AppError('UNAVAILABLE', message, { cause: error })
    }
    if (reason === 'ECONNRESET' || reason === 'EPIPE') {
      const message = `the daemon at ${this.socket} ended before it answered; see its log, and try again`
      return new AppError('UNAVAILABLE', message, { cause: error })
    }
    return fromErrno(error, `asking the daemon at ${this.socket}`)
  }
}

async function read(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of response) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString()
}

function parseBody(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new AppError('INTERNAL', `the answer is not JSON (${JSON.stringify(text.slice(0, 80))}); is this Holdfast's socket?`, { cause })
  }
}

function refusal(body: unknown, status: number): AppError {
  const error = (body as { error?: { code?: string; message?: string; details?: object } } | null)?.error
  const code = error?.code !== undefined && Object.hasOwn(errorTable, error.code) ? (error.code as ErrorCode) : 'INTERNAL'
  const message = error?.message ?? `the daemon answered with status ${status}`
  return new AppError(code, message, { details: { ...error?.details } })
}
