/**
 * What a command of the CLI is, its arguments and options as data, from which help and completion are made; and the grammar:
 * `holdfast [OPTIONS] NOUN [VERB] [OPTIONS] [ARGUMENTS]`, options anywhere, `--` before arguments that begin with a dash. Node's
 * own parser does the splitting: a library for it would cost half as much time as Node itself.
 */

import { AppError } from '../errors.ts'
import { suggestion } from '../units.ts'
import type { Client, Method } from './client.ts'
import type { Output } from './output.ts'

/** What kind of name stands in a place, so that the shell can complete it. */
export type Completion =
  | 'volume'
  | 'snapshot'
  | 'volume-or-snapshot'
  | 'trash'
  | 'target'
  | 'backup'
  | 'target-or-backup'
  | 'schedule'
  | 'operation'
  | 'driver'
  | 'shell'
  | 'filter'
  | 'create-option'
  | 'update-option'

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
  /** The command does not run without it. */
  readonly required?: true
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

type RequiredNames<O extends OptionSpecs> = {
  [K in keyof O]: O[K] extends { required: true } ? K : never
}[keyof O]

interface Call<A extends readonly ArgumentSpec[], O extends OptionSpecs> extends Door {
  readonly args: { readonly [I in keyof A]: ArgumentValue<A[I]> }
  readonly options: { readonly [K in Exclude<keyof O, RequiredNames<O>>]?: OptionValue<O[K]> } & {
    readonly [K in RequiredNames<O>]: OptionValue<O[K]>
  }
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

/** Verbs of a noun by their names; one of them may have verbs of its own. */
export interface Noun {
  readonly verbs: Readonly<Record<string, Command | NestedNoun>>
}

/** A noun that stands behind another one. */
export interface NestedNoun extends Noun {
  readonly summary: string
}

/** Makes a command whose `run` has the types of its arguments and options; the parser sees to it that they are so. */
export function command<const A extends readonly ArgumentSpec[], const O extends OptionSpecs>(
  spec: Described<A, O> & { run(call: Call<A, O>): Promise<number> },
): Command {
  return spec as unknown as Command
}

const { parseArgs } = process.getBuiltinModule('node:util')

type Token = NonNullable<ReturnType<typeof parseArgs>['tokens']>[number]
type OptionToken = Extract<Token, { kind: 'option' }>

/** Splits words by the options there are; what is wrong with them is found later. */
export function tokenize(argv: readonly string[], options: OptionSpecs): Token[] {
  const types = Object.entries(options).map(([name, { type, short }]) => [name, { type, ...(short ? { short } : {}) }])
  const config = { args: [...argv], options: Object.fromEntries(types), strict: false, tokens: true } as const
  return parseArgs(config).tokens ?? []
}

/** Where the words of the command stand: the first `count` of those that are no options of every command. */
export function commandWords(argv: readonly string[], count: number): { words: string[]; rest: string[] } {
  const found = tokenize(argv, globalOptions)
    .filter((token) => token.kind === 'positional')
    .slice(0, count)
  const places = found.map((token) => token.index)
  return { words: found.map((token) => token.value), rest: argv.filter((_, index) => !places.includes(index)) }
}

function usage(message: string): AppError {
  return new AppError('INVALID_ARGUMENT', message)
}

/** @throws INVALID_ARGUMENT for anything that the command does not have, with what it has */
export function parse(path: string, { args, options }: Command, argv: readonly string[]): Parsed {
  const specs: OptionSpecs = { ...globalOptions, ...options }
  const values: Record<string, boolean | string | string[]> = {}
  const words: string[] = []
  for (const token of tokenize(argv, specs)) {
    if (token.kind === 'positional') words.push(token.value)
    if (token.kind === 'option') takeOption(path, specs, token, values)
  }
  if (values['help']) return { args: [], options: values }
  const taken = takeArguments(path, args, words)
  for (const [name, { required, placeholder }] of Object.entries(specs)) {
    if (required && values[name] === undefined) {
      throw usage(`${path}: option --${name} is missing: --${name}=${placeholder}; 'holdfast help ${path}' tells more`)
    }
  }
  return { args: taken, options: values }
}

function takeOption(
  path: string,
  specs: OptionSpecs,
  { name, rawName, value, inlineValue }: OptionToken,
  values: Record<string, boolean | string | string[]>,
): void {
  const spec: OptionSpec | undefined = Object.hasOwn(specs, name) ? specs[name] : undefined
  if (!spec) throw unknownOption(path, specs, name, rawName)
  if (spec.type === 'boolean') {
    if (value !== undefined) throw usage(`${path}: option ${rawName} takes no value`)
    values[name] = true
    return
  }
  if (value === undefined || (!inlineValue && value.length > 1 && value.startsWith('-'))) {
    throw usage(`${path}: option ${rawName} needs a value: ${rawName}=${spec.placeholder}`)
  }
  const before = values[name]
  if (spec.multiple) values[name] = [...(Array.isArray(before) ? before : []), value]
  else if (before !== undefined && before !== value) {
    throw usage(`${path}: option ${rawName} is given twice, as '${before}' and as '${value}'; give it once`)
  } else values[name] = value
}

function unknownOption(path: string, specs: OptionSpecs, name: string, rawName: string): AppError {
  // What was meant for such an option is not repeated anywhere.
  if (Object.hasOwn(specs, `${name}-file`)) {
    return usage(
      `${path}: ${rawName} would show a secret to every user of this machine; write it into a file for ${rawName}-file=FILE`,
    )
  }
  const known = Object.keys(specs).map((key) => `--${key}`)
  return usage(`${path}: unknown option '${rawName}'${suggestion(rawName, known)}`)
}

function takeArguments(path: string, specs: readonly ArgumentSpec[], words: readonly string[]): Parsed['args'] {
  const missing = specs[words.length]
  if (missing && !missing.optional)
    throw usage(`${path}: ${missing.name} is missing; 'holdfast help ${path}' tells more`)
  const extra = specs.at(-1)?.variadic ? undefined : words[specs.length]
  if (extra !== undefined)
    throw usage(`${path}: '${extra}' is one argument too many; 'holdfast help ${path}' tells more`)
  return specs.map(({ variadic }, index) => (variadic ? words.slice(index) : words[index]))
}
