/**
 * A running `tar -x` that a worker feeds: the program is started by the main thread and reads a FIFO, which the worker fills with plain blocking
 * writes. One per hand.
 */

import { randomBytes } from 'node:crypto'
import { closeSync, constants, openSync, rmSync, writeSync } from 'node:fs'
import { AppError, errno, fromErrno } from '../errors.ts'
import type { Bridge } from './bridge.ts'
import { endOfArchive, padding, type TarEntry, tarHeader } from './tar-stream.ts'

const bufferLength = 256 * 1024
const pollMs = 2
const pause = new Int32Array(new SharedArrayBuffer(4))

/** Arguments that make tar restore all that a record says, under just that name, and trust neither names of users nor its own guesses. */
const options = [
  ...['--absolute-names', '--numeric-owner', '--preserve-permissions', '--same-owner'],
  ...['--xattrs', '--xattrs-include=*'],
]

export class TarSink {
  readonly #bridge: Bridge
  readonly #fifo: string
  readonly #buffer = Buffer.allocUnsafe(bufferLength)
  readonly #fd: number
  #filled = 0
  #ended = false

  /**
   * Starts tar. @param directory to extract into @param area a directory of ours for the FIFO
   * @throws FAILED_PRECONDITION when tar is not installed
   */
  constructor(bridge: Bridge, directory: string, area: string) {
    this.#bridge = bridge
    this.#fifo = `${area}/fifo-${randomBytes(6).toString('hex')}`
    bridge.call('exec', { program: 'mkfifo', args: ['-m', '600', this.#fifo], timeoutMs: 60_000 })
    const args = ['-x', '-f', this.#fifo, '-C', directory, '--read-full-records', '--blocking-factor=128', ...options]
    bridge.post('exec', { program: 'tar', args, timeoutMs: 0 }, () => {
      this.#ended = true
    })
    this.#fd = this.#open()
  }

  /** Waits for tar to open its end; a tar that could not be started is thrown by the pump. */
  #open(): number {
    for (;;) {
      this.#bridge.pump()
      if (this.#ended) throw new AppError('INTERNAL', 'tar ended before it had read anything')
      try {
        const probe = openSync(this.#fifo, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW)
        try {
          return openSync(this.#fifo, constants.O_WRONLY | constants.O_NOFOLLOW)
        } finally {
          closeSync(probe)
        }
      } catch (error) {
        if (errno(error) !== 'ENXIO') throw fromErrno(error, 'opening the way to tar')
      }
      Atomics.wait(pause, 0, 0, pollMs)
    }
  }

  /** Appends an entry with its data, given in pieces that are together `length` long. */
  add(entry: TarEntry, length: number, data: Iterable<Uint8Array>): void {
    this.#write(tarHeader(entry, length))
    for (const piece of data) this.#write(piece)
    this.#write(padding(length))
  }

  #write(bytes: Uint8Array): void {
    if (this.#filled + bytes.length > bufferLength) this.#drain()
    if (bytes.length >= bufferLength) {
      this.#send(bytes)
      return
    }
    this.#buffer.set(bytes, this.#filled)
    this.#filled += bytes.length
  }

  #drain(): void {
    this.#send(this.#buffer.subarray(0, this.#filled))
    this.#filled = 0
  }

  #send(bytes: Uint8Array): void {
    try {
      for (let sent = 0; sent < bytes.length; ) sent += writeSync(this.#fd, bytes, sent)
    } catch (error) {
      if (errno(error) !== 'EPIPE') throw fromErrno(error, 'writing to tar')
      // Its own words say why it ended.
      this.#bridge.pumpUntil(() => this.#ended)
      throw new AppError('INTERNAL', 'tar ended too early')
    }
  }

  /** Ends the archive and waits until tar has made everything. @throws what tar complained of */
  close(): void {
    try {
      this.#write(endOfArchive)
      this.#drain()
    } finally {
      closeSync(this.#fd)
    }
    this.#bridge.pumpUntil(() => this.#ended)
    rmSync(this.#fifo, { force: true })
  }
}
