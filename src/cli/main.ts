#!/usr/bin/env node
/**
 * The program `holdfast`: finds the command, parses its line, runs it and turns what it throws into a message and an exit
 * code. It loads the module of the one noun that is asked for and nothing that is not needed: most commands take hardly longer
 * than Node's own start.
 */

import { AppError, errorTable, toAppError } from '../errors.ts'
import { suggestion } from '../units.ts'
import { Client, socketOf } from './client.ts'
import { type Command, commandWords, type Door, globalOptions, type NestedNoun, type Noun, parse } from './command.ts'
import { nouns } from './nouns.ts'
import { Output, processStreams, type Streams } from './output.ts'

/** A command that was found, with the words that are left for it; or a text of help. */
type Found =
  | { readonly path: string; readonly command: Command; readonly rest: readonly string[] }
  | { readonly help: string }

/** @returns the exit code; nothing is thrown */
export async function run(argv: readonly string[], env: NodeJS.ProcessEnv, streams: Streams): Promise<number> {
  const end = argv.indexOf('--')
  const flags = end < 0 ? argv : argv.slice(0, end)
  const output = new Output(streams, { json: flags.includes('--json'), quiet: flags.includes('--quiet') })
  try {
    if (argv[0] === '__complete') return await complete(argv.slice(1), env, output)
    return await dispatch(argv, env, output)
  } catch (thrown) {
    const error = toAppError(thrown)
    output.error(error)
    return errorTable[error.code].exit
  }
}

async function dispatch(argv: readonly string[], env: NodeJS.ProcessEnv, output: Output): Promise<number> {
  const found = await find(argv)
  if ('help' in found) return print(output, found.help)
  const { args, options } = parse(found.path, found.command, found.rest)
  if (options['help']) return print(output, (await import('./help.ts')).commandHelp(found.path, found.command))
  return await found.command.run({ args, options, ...openDoor(socketOf(options, env), output) })
}

function openDoor(socket: string, output: Output): Door {
  const client = new Client(socket)
  return {
    client,
    output,
    work: async (method, path, body) =>
      (await import('./long-call.ts')).longCall({ client, output }, method, path, body),
  }
}

async function complete(words: readonly string[], env: NodeJS.ProcessEnv, output: Output): Promise<number> {
  const { candidates } = await import('./complete.ts')
  // A message would end up in the line that the user is typing.
  const found = await candidates(words, env).catch(() => [])
  output.raw(found.map((candidate) => `${candidate}\n`).join(''))
  return 0
}

async function find(argv: readonly string[]): Promise<Found> {
  const {
    words: [first],
    rest,
  } = commandWords(argv, 1)
  if (first === 'help') return await findHelp(commandWords(rest, rest.length).words)
  if (first === undefined) return await findNothing(rest)
  return await descend([first], await findNoun(first), rest)
}

/** Follows verbs until one is a command. */
async function descend(path: readonly string[], found: Noun | Command, argv: readonly string[]): Promise<Found> {
  if ('run' in found) return { path: path.join(' '), command: found, rest: argv }
  const {
    words: [verb],
    rest,
  } = commandWords(argv, 1)
  if (verb === undefined) return await findHelp(path)
  if (verb === 'help') return await findHelp([...path, ...commandWords(rest, rest.length).words])
  return await descend([...path, verb], findVerb(path.join(' '), found, verb), rest)
}

/** No command at all: help, unless an option is wrong. */
async function findNothing(rest: readonly string[]): Promise<Found> {
  parse('holdfast', { summary: '', args: [], options: globalOptions, run: async () => 0 }, rest)
  return { help: (await import('./help.ts')).programHelp() }
}

/** Words that go beyond a command do not matter. */
async function findHelp([first, ...verbs]: readonly string[]): Promise<Found> {
  const { commandHelp, nounHelp, programHelp } = await import('./help.ts')
  if (first === undefined) return { help: programHelp() }
  let [path, found, summary] = [first, await findNoun(first), nouns[first]?.summary ?? '']
  for (const verb of verbs) {
    if ('run' in found) break
    const next = findVerb(path, found, verb)
    ;[path, found, summary] = [`${path} ${verb}`, next, next.summary]
  }
  return { help: 'run' in found ? commandHelp(path, found) : nounHelp(path, summary, found) }
}

async function findNoun(name: string): Promise<Noun | Command> {
  const entry = Object.hasOwn(nouns, name) ? nouns[name] : undefined
  if (entry) return await entry.load()
  throw new AppError(
    'INVALID_ARGUMENT',
    `unknown command '${name}'${suggestion(name, [...Object.keys(nouns), 'help'])}`,
  )
}

function findVerb(noun: string, { verbs }: Noun, name: string): Command | NestedNoun {
  const command = Object.hasOwn(verbs, name) ? verbs[name] : undefined
  if (command) return command
  throw new AppError('INVALID_ARGUMENT', `unknown command '${noun} ${name}'${suggestion(name, Object.keys(verbs))}`)
}

function print(output: Output, help: string): number {
  output.result({ help }, () => help)
  return 0
}

// All is written by now; tearing the runtime down in good order would only take time.
if (import.meta.main) process.exit(await run(process.argv.slice(2), process.env, processStreams))
