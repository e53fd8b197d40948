/**
 * What the CLI prints: the only writer of stdout. For people a table or lines, for programs (`--json`) one JSON document, which
 * is the error when nothing else has been printed.
 */

import { type AppError, errno } from '../errors.ts'
import { formatSize } from '../units.ts'

/** Where the text goes; the process's own streams, or a test's. */
export interface Streams {
  stdout(text: string): void
  stderr(text: string): void
  /** Whether stderr is a terminal; asked only where it matters. */
  readonly terminal: () => boolean
}

/** The text with its control characters escaped: they would let a name or a label play with the terminal. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, (char) =>
    char === '\n' ? '\\n' : `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

/** Aligned columns under their headings, three spaces apart, as the docker CLI has them. */
export function formatTable(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [headings, ...rows.map((row) => row.map(printable))]
  const widths = headings.map((_, column) => lines.reduce((max, line) => Math.max(max, line[column]?.length ?? 0), 0))
  return lines
    .map((line) =>
      line
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('   ')
        .trimEnd(),
    )
    .join('\n')
}

/** Prints for one command. */
export class Output {
  readonly json: boolean
  readonly quiet: boolean
  readonly #streams: Streams
  #printed = false

  constructor(streams: Streams, { json = false, quiet = false }: { json?: boolean; quiet?: boolean } = {}) {
    this.#streams = streams
    this.json = json
    this.quiet = quiet
  }

  /** Whether anything of the answer is on stdout already. */
  get printed(): boolean {
    return this.#printed
  }

  get terminal(): boolean {
    return this.#streams.terminal()
  }

  /** Prints the answer of a command: the document with `--json`, else the text for people; an empty text is no line. */
  result(document: unknown, text: () => string): void {
    this.raw(this.json ? `${JSON.stringify(document)}\n` : withNewline(text()))
  }

  /** Prints text as it is. */
  raw(text: string): void {
    if (text === '') return
    this.#printed = true
    this.#streams.stdout(text)
  }

  /** Prints an error: on stderr, or on stdout as the one JSON document. */
  error({ code, message, details }: AppError): void {
    if (this.json && !this.#printed) this.raw(`${JSON.stringify({ error: { code, message, details } })}\n`)
    else this.#streams.stderr(`holdfast: ${message.split('\n').map(printable).join('\n')}\n`)
  }

  /** Shows something on the way; it is no part of the answer. */
  note(text: string): void {
    this.#streams.stderr(text)
  }
}

function withNewline(text: string): string {
  return text === '' ? '' : `${text}\n`
}

/** Rows of `key: value` with the values aligned. */
export function formatFields(fields: readonly (readonly [string, string])[]): string {
  const width = Math.max(...fields.map(([key]) => key.length)) + 1
  return fields.map(([key, value]) => `${`${key}:`.padEnd(width)} ${printable(value)}`.trimEnd()).join('\n')
}

/** A map as `a=b, c=d`, or `-`. */
export function formatMap(map: Readonly<Record<string, string>>): string {
  return (
    Object.entries(map)
      .map(([key, value]) => `${key}=${value}`)
      .join(', ') || '-'
  )
}

/** A size, or `-` where none is known or set. */
export function formatSizeOrNone(bytes: number | null): string {
  return bytes === null ? '-' : formatSize(bytes)
}

const ageUnits = [
  ['day', 86_400],
  ['hour', 3600],
  ['minute', 60],
  ['second', 1],
] as const

/** A span of time in its largest unit, `3 hours`. @param round down for a time that has passed, up for one that is left */
export function formatSpan(milliseconds: number, round = Math.floor): string {
  const seconds = Math.max(0, milliseconds / 1000)
  const [unit, size] = ageUnits.find(([, size]) => seconds >= size) ?? ['second', 1]
  const count = round(seconds / size)
  return `${count} ${unit}${count === 1 ? '' : 's'}`
}

/** How long ago a moment was. */
export function formatAge(time: string): string {
  return `${formatSpan(Date.now() - Date.parse(time))} ago`
}

/**
 * The process's own streams. Written with plain system calls: setting up `process.stdout` takes longer than most commands, and
 * what it has not written when the process ends is lost. A reader that has gone ends the program quietly.
 */
export const processStreams: Streams = {
  stdout: (text) => writeAll(1, text),
  stderr: (text) => writeAll(2, text),
  terminal: () => process.getBuiltinModule('node:tty').isatty(2),
}

/** How long to wait for the reader of a full pipe that another process has made non-blocking. */
const retryMs = 5

function writeAll(fd: 1 | 2, text: string): void {
  const fs = process.getBuiltinModule('node:fs')
  let left = Buffer.from(text)
  while (left.length > 0) {
    try {
      left = left.subarray(fs.writeSync(fd, left))
    } catch (error) {
      if (errno(error) === 'EPIPE') process.exit(0)
      if (errno(error) !== 'EAGAIN') throw error
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, retryMs)
    }
  }
}
