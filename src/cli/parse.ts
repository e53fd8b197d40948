/**
 * The command line's grammar: `holdfast [OPTIONS] NOUN [VERB] [OPTIONS] [ARGUMENTS]`, options anywhere, `--` before arguments
 * that begin with a dash. Node's own parser does the splitting: a library for it would cost half as much time as Node itself.
 */

import { AppError } from '../errors.ts'
import { suggestion } from '../units.ts'
import {
  type ArgumentSpec,
  type Command,
  globalOptions,
  type OptionSpec,
  type OptionSpecs,
  type Parsed,
} from './command.ts'

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
  return { args: values['help'] ? [] : takeArguments(path, args, words), options: values }
}

function takeOption(
  path: string,
  specs: OptionSpecs,
  { name, rawName, value, inlineValue }: OptionToken,
  values: Record<string, boolean | string | string[]>,
): void {
  const spec: OptionSpec | undefined = Object.hasOwn(specs, name) ? specs[name] : undefined
  if (!spec)
    throw usage(
      `${path}: unknown option '${rawName}'${suggestion(
        rawName,
        Object.keys(specs).map((key) => `--${key}`),
      )}`,
    )
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

function takeArguments(path: string, specs: readonly ArgumentSpec[], words: readonly string[]): Parsed['args'] {
  const missing = specs[words.length]
  if (missing && !missing.optional)
    throw usage(`${path}: ${missing.name} is missing; 'holdfast help ${path}' tells more`)
  const extra = specs.at(-1)?.variadic ? undefined : words[specs.length]
  if (extra !== undefined)
    throw usage(`${path}: '${extra}' is one argument too many; 'holdfast help ${path}' tells more`)
  return specs.map(({ variadic }, index) => (variadic ? words.slice(index) : words[index]))
}
