/**
 * What may come next on a command line, for the shells: nouns, verbs and options from the commands' own data, names from the
 * daemon. A daemon that does not answer is no error here: there are just no names.
 */

import { changeableOptions } from '../server/create-options.ts'
import type { BackupView } from '../server/schemas/backup.ts'
import type { ScheduleView } from '../server/schemas/schedule.ts'
import type { TargetView } from '../server/schemas/target.ts'
import type { InfoView, OperationView, SnapshotView, TrashView, VolumeView } from '../server/schemas.ts'
import { Client, socketOf } from './client.ts'
import {
  type Command,
  type Completion,
  commandWords,
  globalOptions,
  type Noun,
  type OptionSpec,
  type OptionSpecs,
  tokenize,
} from './command.ts'
import { nouns } from './nouns.ts'

/** The shells that `holdfast completion` knows. */
export const shells: readonly string[] = ['bash', 'zsh', 'fish']

/** What `-o` takes of every volume; which more there are is the driver's to say. */
const createOptions = [
  'driver=',
  'size=',
  'on-remove=trash',
  'on-remove=delete',
  'on-remove=retain',
  'from-snapshot=',
  'from-backup=',
  'target=',
  'pre-snapshot=',
  'post-snapshot=',
  'hook-container=',
  'hook-timeout=',
]

/** A key press waits no longer for names. */
const answerWithinMs = 1000

/**
 * @param words what stands after `holdfast` up to the cursor; the last one is begun, or empty
 * @returns whole words that may stand in its place; one that ends in `=` or `/` wants more
 */
export async function candidates(words: readonly string[], env: NodeJS.ProcessEnv): Promise<string[]> {
  const [before, begun] = [words.slice(0, -1), words.at(-1) ?? '']
  const client = new Client(socketOf(globalValues(before), env))
  const all = await possible(before, begun, client)
  return all.filter((word) => word.startsWith(begun))
}

function globalValues(words: readonly string[]): Record<string, unknown> {
  const options = tokenize(words, globalOptions).filter((token) => token.kind === 'option')
  return Object.fromEntries(options.map(({ name, value }) => [name, value]))
}

async function possible(before: readonly string[], begun: string, client: Client): Promise<string[]> {
  const {
    words: [first],
    rest,
  } = commandWords(before, 1)
  if (first === undefined) return begun.startsWith('-') ? optionNames(globalOptions) : [...Object.keys(nouns), 'help']
  if (first === 'help') return await helpWords(rest)
  const noun = await load(first)
  return noun ? await within(noun, rest, begun, client) : []
}

/** What may follow the words of a command or of a noun. */
async function within(
  found: Noun | Command,
  before: readonly string[],
  begun: string,
  client: Client,
): Promise<string[]> {
  if ('run' in found) return await forCommand(found, before, begun, client)
  const {
    words: [verb],
    rest,
  } = commandWords(before, 1)
  if (verb === undefined) return begun.startsWith('-') ? optionNames(globalOptions) : Object.keys(found.verbs)
  const next = Object.hasOwn(found.verbs, verb) ? found.verbs[verb] : undefined
  return next ? await within(next, rest, begun, client) : []
}

async function load(name: string): Promise<Noun | Command | undefined> {
  return Object.hasOwn(nouns, name) ? await nouns[name]?.load() : undefined
}

async function helpWords([first, ...verbs]: readonly string[]): Promise<string[]> {
  if (first === undefined) return Object.keys(nouns)
  let found = await load(first)
  for (const verb of verbs) found = found && 'verbs' in found ? found.verbs[verb] : undefined
  return found && 'verbs' in found ? Object.keys(found.verbs) : []
}

function optionNames(options: OptionSpecs): string[] {
  return Object.keys(options).map((name) => `--${name}`)
}

async function forCommand(
  { args, options }: Command,
  before: readonly string[],
  begun: string,
  client: Client,
): Promise<string[]> {
  const specs: OptionSpecs = { ...globalOptions, ...options }
  const pending = takesValue(before.at(-1), specs)
  if (pending) return await names(pending.complete, begun, client)
  const inline = /^(--[^=]+)=/.exec(begun)
  if (inline) {
    const value = begun.slice(inline[0].length)
    const found = await names(takesValue(inline[1], specs)?.complete, value, client)
    return found.map((name) => `${inline[0]}${name}`)
  }
  if (begun.startsWith('-')) return optionNames(specs)
  const place = tokenize(before, specs).filter((token) => token.kind === 'positional').length
  const spec = args[place] ?? (args.at(-1)?.variadic ? args.at(-1) : undefined)
  return await names(spec?.complete, begun, client)
}

/** The option that a word names, when its value must follow. */
function takesValue(word: string | undefined, specs: OptionSpecs): OptionSpec | undefined {
  const found = Object.entries(specs).find(
    ([name, { short }]) => word === `--${name}` || (short && word === `-${short}`),
  )
  return found?.[1].type === 'string' ? found[1] : undefined
}

async function names(kind: Completion | undefined, begun: string, client: Client): Promise<string[]> {
  if (kind === undefined) return []
  if (kind === 'shell') return [...shells]
  if (kind === 'create-option') return createOptions
  if (kind === 'update-option') return changeableOptions.map((key) => `${key}=`)
  if (kind === 'filter') return ['driver=', 'label=', 'name=', 'dangling=true']
  try {
    return await askNames[kind](client, begun)
  } catch {
    return []
  }
}

function get<T>(client: Client, path: string): Promise<T> {
  return client.request<T>('GET', path, { signal: AbortSignal.timeout(answerWithinMs) })
}

async function volumeNames(client: Client): Promise<string[]> {
  return (await get<VolumeView[]>(client, '/v1/volumes')).map(({ name }) => name)
}

async function snapshotNames(client: Client): Promise<string[]> {
  return (await get<SnapshotView[]>(client, '/v1/snapshots')).map(({ volume, name }) => `${volume}@${name}`)
}

async function targetNames(client: Client): Promise<string[]> {
  return (await get<TargetView[]>(client, '/v1/targets')).map(({ name }) => name)
}

/** Of the target whose name and slash stand there already; a URL's are not asked for: it may lead anywhere. */
async function backupNames(client: Client, begun: string): Promise<string[]> {
  const at = begun.slice(0, begun.indexOf('/'))
  if (at.includes(':')) return []
  const signal = AbortSignal.timeout(answerWithinMs)
  const backups = await client.request<BackupView[]>('POST', '/v1/backups/list', { body: { at }, signal })
  return backups.map(({ id }) => `${at}/${id}`)
}

const askNames: Readonly<
  Record<
    Exclude<Completion, 'shell' | 'filter' | 'create-option' | 'update-option'>,
    (client: Client, begun: string) => Promise<string[]>
  >
> = {
  volume: volumeNames,
  snapshot: snapshotNames,
  'volume-or-snapshot': async (client, begun) =>
    begun.includes('@') ? await snapshotNames(client) : await volumeNames(client),
  target: targetNames,
  backup: async (client, begun) =>
    begun.includes('/') ? await backupNames(client, begun) : (await targetNames(client)).map((name) => `${name}/`),
  'target-or-backup': async (client, begun) =>
    begun.includes('/') ? await backupNames(client, begun) : await targetNames(client),
  schedule: async (client) => (await get<ScheduleView[]>(client, '/v1/schedules')).map(({ name }) => name),
  trash: async (client) => (await get<TrashView[]>(client, '/v1/trash')).flatMap(({ name, id }) => [name, id]),
  operation: async (client) => (await get<OperationView[]>(client, '/v1/operations')).map(({ id }) => id),
  driver: async (client) => (await get<InfoView>(client, '/v1/info')).drivers.map(({ name }) => name),
}
