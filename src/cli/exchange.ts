/**
 * One HTTP request over a UNIX socket. `node:http` costs a command more time than everything else together, so this speaks
 * HTTP/1.0, where one connection carries one answer, which ends with it and is never chunked (RFC 9112, 6.1 and 6.3).
 */

import type { Socket } from 'node:net'

/** What is sent. */
export interface Request {
  readonly method: string
  /** Begins with a slash, escaped. */
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body?: string | undefined
}

/** What came back, whole. */
export interface Answer {
  readonly status: number
  readonly body: string
}

/**
 * Sends the request and reads the answer to its end.
 * @throws the system's error when the socket cannot be reached; ECONNRESET when the answer is not whole; the signal's reason
 */
export async function exchange(socketPath: string, request: Request, signal?: AbortSignal): Promise<Answer> {
  signal?.throwIfAborted()
  const socket = process.getBuiltinModule('node:net').connect({ path: socketPath })
  const abort = (): void => void socket.destroy(signal?.reason as Error)
  signal?.addEventListener('abort', abort)
  try {
    socket.write(render(request))
    return parse(await readAll(socket))
  } finally {
    signal?.removeEventListener('abort', abort)
    socket.destroy()
  }
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

function parse(answer: Buffer): Answer {
  const end = answer.indexOf('\r\n\r\n')
  const head = answer.toString('latin1', 0, Math.max(0, end))
  const status = /^HTTP\/1\.\d (\d{3})/.exec(head)?.[1]
  const body = answer.subarray(end + 4)
  const length = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1]
  if (status === undefined || (length !== undefined && Number(length) !== body.length)) throw cut()
  return { status: Number(status), body: body.toString() }
}

function cut(): Error {
  return Object.assign(new Error('the connection ended before the answer did'), { code: 'ECONNRESET' })
}
