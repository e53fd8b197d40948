/** What a command of the CLI is: its arguments and options as data, from which parsing, help and completion are made. */

import type { Client, Method } from './client.ts'
import type { Output } from './output.ts'

/** What kind of name stands in a place, so that the shell can complete it. */
export type Completion = 'volume' | 'snapshot' | 'trash' | 'operation' | 'driver' | 'shell' | 'filter'

/** One argument, by its place. */
export interface ArgumentSpec {
  /** In capitals, as in the usage line. */
  readonly name: string
  readonly optional?: true
  /** The last one only: any number of them, at least one unless `optional`. */
  readonly variadic?: true
  readonly complete?: Completion
}

/** One option, without its name. */
export interface OptionSpec {
  readonly type: 'boolean' | 'string'
  readonly short?: string
  /** May be repeated; the value is then a list. */
  readonly multiple?: true
  /** What the value is, in capitals. */
  readonly placeholder?: string
  readonly help: string
  readonly complete?: Completion
}

/** Options by their long names, without the dashes. */
export type OptionSpecs = Readonly<Record<string, OptionSpec>>

/** Options of every command. */
export const globalOptions = {
  json: { type: 'boolean', help: 'print one JSON document' },
  quiet: { type: 'boolean', help: 'no progress' },
  socket: {
    type: 'string',
    placeholder: 'PATH',
    help: "the daemon's socket (HOLDFAST_SOCKET; /run/holdfast/holdfast.sock)",
  },
  help: { type: 'boolean', short: 'h', help: 'print this help' },
} as const satisfies OptionSpecs

type ArgumentValue<A> = A extends { variadic: true }
  ? readonly string[]
  : A extends { optional: true }
    ? string | undefined
    : string

type OptionValue<O> = O extends { type: 'boolean' }
  ? boolean
  : O extends { multiple: true }
    ? readonly string[]
    : string

/** What a command works with beside its words. */
export interface Door {
  readonly client: Client
  readonly output: Output
  /** `client.request` for what may take long: with progress, and cancelled by Ctrl-C; see long-call.ts. */
  work<T>(method: Method, path: string, body?: object): Promise<T>
}

interface Call<A extends readonly ArgumentSpec[], O extends OptionSpecs> extends Door {
  readonly args: { readonly [I in keyof A]: ArgumentValue<A[I]> }
  readonly options: { readonly [K in keyof O]?: OptionValue<O[K]> }
}

/** The words of a command line, sorted by what the command takes. */
export interface Parsed {
  readonly args: readonly (string | readonly string[] | undefined)[]
  readonly options: Readonly<Record<string, boolean | string | readonly string[]>>
}

interface Described<A extends readonly ArgumentSpec[], O extends OptionSpecs> {
  readonly summary: string
  /** More for --help. */
  readonly description?: string
  readonly args: A
  readonly options: O
}

/** A command whose own types nobody needs to know any more. */
export interface Command extends Described<readonly ArgumentSpec[], OptionSpecs> {
  /** @returns the exit code */
  run(call: Parsed & Door): Promise<number>
}

/** Verbs of a noun by their names. */
export interface Noun {
  readonly verbs: Readonly<Record<string, Command>>
}

/** Makes a command whose `run` has the types of its arguments and options; the parser sees to it that they are so. */
export function command<const A extends readonly ArgumentSpec[], const O extends OptionSpecs>(
  spec: Described<A, O> & { run(call: Call<A, O>): Promise<number> },
): Command {
  return spec as unknown as Command
}
