/** Talks HTTP byte by byte over a unix socket: what a client library would put right is what the tests are about. */

import { connect, type Socket } from 'node:net'

export interface RawAnswer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/** The bytes that dockerd sends for one call: an empty Host, no Content-Type, JSON and a newline. */
export function dockerRequest(path: string, body?: unknown): string {
  const text = body === undefined ? '' : `${JSON.stringify(body)}\n`
  return [
    `POST ${path} HTTP/1.1`,
    'Host: ',
    'User-Agent: Go-http-client/1.1',
    `Content-Length: ${Buffer.byteLength(text)}`,
    'Accept: application/vnd.docker.plugins.v1.2+json',
    '',
    text,
  ].join('\r\n')
}

/** One connection, which stays open until `close`. Answers come in the order of the requests. */
export class RawConnection {
  readonly #socket: Socket
  #received = Buffer.alloc(0)
  #closed = false
  #wake: () => void = () => undefined

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.on('data', (chunk) => {
      this.#received = Buffer.concat([this.#received, chunk])
      this.#wake()
    })
    socket.on('error', () => undefined)
    socket.on('close', () => {
      this.#closed = true
      this.#wake()
    })
  }

  static async open(path: string): Promise<RawConnection> {
    const socket = connect(path)
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    socket.once('connect', resolve)
    socket.once('error', reject)
    await promise
    return new RawConnection(socket)
  }

  get closed(): boolean {
    return this.#closed
  }

  write(bytes: string): void {
    this.#socket.write(bytes)
  }

  close(): void {
    this.#socket.destroy()
  }

  async request(path: string, body?: unknown): Promise<RawAnswer> {
    this.write(dockerRequest(path, body))
    return await this.read()
  }

  /** The next whole answer. @throws when the server closes before its end */
  async read(): Promise<RawAnswer> {
    for (;;) {
      const answer = this.#take()
      if (answer) return answer
      if (this.#closed) throw new Error(`the server closed the connection after ${this.#received.length} bytes`)
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  #take(): RawAnswer | undefined {
    const end = this.#received.indexOf('\r\n\r\n')
    if (end < 0) return undefined
    const [statusLine = '', ...lines] = this.#received.subarray(0, end).toString('latin1').split('\r\n')
    const headers = Object.fromEntries(
      lines.map((line) => line.split(/: */, 2)).map(([k = '', v = '']) => [k.toLowerCase(), v]),
    )
    const next = end + 4 + Number(headers['content-length'])
    if (this.#received.length < next) return undefined
    const body = this.#received.subarray(end + 4, next).toString()
    this.#received = this.#received.subarray(next)
    return { status: Number(statusLine.split(' ')[1]), headers, body }
  }
}
