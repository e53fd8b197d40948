/**
 * The CLI's side of the admin API: HTTP over the daemon's UNIX socket. Every refusal becomes the `AppError` that the daemon
 * threw; a daemon that cannot be asked becomes one that says what to do.
 */

import { AppError, type ErrorCode, errno, errorTable, fromErrno } from '../errors.ts'
import { exchange } from './exchange.ts'

/** Where the daemon listens: as the options say, or the environment, or the default. */
export function socketOf(options: Readonly<Record<string, unknown>>, env: NodeJS.ProcessEnv): string {
  const { socket } = options
  return typeof socket === 'string' ? socket : env['HOLDFAST_SOCKET'] || '/run/holdfast/holdfast.sock'
}

/** The methods that the admin API has. */
export type Method = 'GET' | 'POST' | 'DELETE'

/** What a request may have beside its path. */
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

/** Asks the daemon at one socket; a connection for each request. */
export class Client {
  readonly socket: string

  constructor(socket: string) {
    this.socket = socket
  }

  /** @returns the answer's body @throws what the daemon answers; UNAVAILABLE or PERMISSION_DENIED when it cannot be asked */
  async request<T>(method: Method, path: string, { body, operationId, signal }: RequestOptions = {}): Promise<T> {
    const headers = {
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...(operationId === undefined ? {} : { 'holdfast-operation': operationId }),
    }
    const request = { method, path, headers, body: body === undefined ? undefined : JSON.stringify(body) }
    const answer = await exchange(this.socket, request, signal).catch((error: unknown) => {
      throw this.#unreachable(error)
    })
    const parsed = answer.body === '' ? undefined : parseBody(answer.body)
    if (answer.status >= 200 && answer.status < 300) return parsed as T
    throw refusal(parsed, answer.status)
  }

  #unreachable(error: unknown): Error {
    const reason = errno(error)
    if (error instanceof Error && /^(Abort|Timeout)Error$/.test(error.name)) return error
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

function parseBody(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new AppError(
      'INTERNAL',
      `the answer is not JSON (${JSON.stringify(text.slice(0, 80))}); is this Holdfast's socket?`,
      { cause },
    )
  }
}

function refusal(body: unknown, status: number): AppError {
  const error = (body as { error?: { code?: string; message?: string; details?: object } } | undefined)?.error
  const code =
    error?.code !== undefined && Object.hasOwn(errorTable, error.code) ? (error.code as ErrorCode) : 'INTERNAL'
  const message = error?.message ?? `the daemon answered with status ${status}`
  return new AppError(code, message, { details: { ...error?.details } })
}
