/**
 * The CLI's side of the admin API: HTTP over the daemon's UNIX socket. Every refusal becomes the `AppError` that the daemon
 * threw; a daemon that cannot be asked becomes one that says what to do.
 *
 * `node:http` costs a command more time than everything else together, so this speaks HTTP/1.0, where one connection carries
 * one answer, which ends with it and is never chunked (RFC 9112, 6.1 and 6.3).
 */

import type { Socket } from 'node:net'
import { AppError, type ErrorCode, errno, errorTable, fromErrno } from '../errors.ts'

/** Where the daemon listens: as the options say, or the environment, or the default. */
export function socketOf(options: Readonly<Record<string, unknown>>, env: NodeJS.ProcessEnv): string {
  const { socket } = options
  return typeof socket === 'string' ? socket : env['HOLDFAST_SOCKET'] || '/run/holdfast/holdfast.sock'
}

/** The methods that the admin API has. */
export type Method = 'GET' | 'POST' | 'PATCH' | 'DELETE'

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

  /**
   * The lines of an answer that is sent while it is being made, in the groups in which they come.
   * @throws as `request`; when the answer breaks off the lines just end
   */
  async *lines(method: Method, path: string, { body = {}, signal }: RequestOptions = {}): AsyncGenerator<string[]> {
    const headers = { 'content-type': 'application/json' }
    const chunks = exchangeText(this.socket, { method, path, headers, body: JSON.stringify(body) }, signal)
    let [status, text] = [0, '']
    try {
      for await (const chunk of chunks) {
        text += chunk
        const end = status === 0 ? text.indexOf('\r\n\r\n') : -1
        if (end >= 0) [status, text] = [statusOf(text), text.slice(end + 4)]
        if (status < 200 || status >= 300) continue
        const lines = text.split('\n')
        text = lines.pop() as string
        yield lines
      }
      if (status === 0) throw cut()
    } catch (error) {
      throw this.#unreachable(error)
    }
    if (status >= 300) throw refusal(parseBody(text), status)
  }

  #unreachable(error: unknown): Error {
    const reason = errno(error)
    if (error instanceof Error && /^(Abort|Timeout)Error$/.test(error.name)) return error
    if (reason === 'EACCES' || reason === 'EPERM') {
      const message = `no permission for the daemon's socket ${this.socket}; run this as root, or as a member of the socket's group`
      return new AppError('PERMISSION_DENIED', message, { cause: error })
    }
    if (reason === 'ENOENT' || reason === 'ECONNREFUSED') {
      const remedy = `start it with scripts/up or 'systemctl start holdfast', or name its socket with --socket`
      const message = `no daemon listens on ${this.socket}; ${remedy}`
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

/** The error that an error's body describes. */
export function refusal(body: unknown, status: number): AppError {
  const error = (body as { error?: { code?: string; message?: string; details?: object } } | undefined)?.error
  const code =
    error?.code !== undefined && Object.hasOwn(errorTable, error.code) ? (error.code as ErrorCode) : 'INTERNAL'
  const message = error?.message ?? `the daemon answered with status ${status}`
  return new AppError(code, message, { details: { ...error?.details } })
}

interface Request {
  readonly method: string
  /** Begins with a slash, escaped. */
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body?: string | undefined
}

interface Answer {
  readonly status: number
  readonly body: string
}

/**
 * Sends the request and reads the answer to its end.
 * @throws the system's error when the socket cannot be reached; ECONNRESET when the answer is not whole; the signal's reason
 */
async function exchange(socketPath: string, request: Request, signal?: AbortSignal): Promise<Answer> {
  signal?.throwIfAborted()
  const socket = process.getBuiltinModule('node:net').connect({ path: socketPath })
  const abort = (): void => void socket.destroy(signal?.reason as Error)
  signal?.addEventListener('abort', abort)
  try {
    socket.write(render(request))
    return parseAnswer(await readAll(socket))
  } finally {
    signal?.removeEventListener('abort', abort)
    socket.destroy()
  }
}

/** Sends the request and gives the answer, head and all, as it comes. @throws the system's error; the signal's reason */
async function* exchangeText(socketPath: string, request: Request, signal?: AbortSignal): AsyncGenerator<string> {
  const socket = process.getBuiltinModule('node:net').connect({ path: socketPath, ...(signal && { signal }) })
  socket.setEncoding('utf8')
  socket.write(render(request))
  yield* socket as AsyncIterable<string>
}

function render({ method, path, headers, body = '' }: Request): string {
  const lines = Object.entries({ ...headers, 'content-length': String(Buffer.byteLength(body)) })
  return `${method} ${path} HTTP/1.0\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n${body}`
}

function readAll(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = []
  return new Promise((resolve, reject) => {
    socket.on('data', (chunk) => chunks.push(chunk as Buffer))
    socket.once('error', reject)
    socket.once('close', () => reject(cut()))
    socket.once('end', () => resolve(Buffer.concat(chunks)))
  })
}

function parseAnswer(answer: Buffer): Answer {
  const end = answer.indexOf('\r\n\r\n')
  const head = answer.toString('latin1', 0, Math.max(0, end))
  const status = statusOf(head)
  const body = answer.subarray(end + 4)
  const length = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1]
  if (status === 0 || (length !== undefined && Number(length) !== body.length)) throw cut()
  return { status, body: body.toString() }
}

/** 0 for what is no answer. */
function statusOf(head: string): number {
  return Number(/^HTTP\/1\.\d (\d{3})/.exec(head)?.[1] ?? 0)
}

function cut(): Error {
  return Object.assign(new Error('the connection ended before the answer did'), { code: 'ECONNRESET' })
}
