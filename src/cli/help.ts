/** The texts of --help, made from the commands' own data. */

import { type ArgumentSpec, type Command, globalOptions, type Noun, type OptionSpecs } from './command.ts'
import { nouns } from './nouns.ts'

/** The lines of two columns, indented. */
function columns(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(0, ...rows.map(([left]) => left.length))
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`).join('\n')
}

/** `NAME`, `[NAME]`, `NAME...` or `[NAME...]`. */
export function argumentUsage({ name, optional, variadic }: ArgumentSpec): string {
  const text = variadic ? `${name}...` : name
  return optional ? `[${text}]` : text
}

function optionRows(options: OptionSpecs): [string, string][] {
  return Object.entries(options).map(([name, { short, placeholder, help, multiple, required }]) => {
    const names = `${short ? `-${short}, ` : '    '}--${name}${placeholder ? ` ${placeholder}` : ''}`
    const more = multiple && !help.includes('repeat') ? '; may be repeated' : ''
    return [names, `${help}${more}${required ? ' (required)' : ''}`]
  })
}

/** Help for one command. @param path its words, such as `volume create` */
export function commandHelp(path: string, { summary, description, args, options }: Command): string {
  const own = Object.keys(options).length > 0
  const common = Object.fromEntries(Object.entries(globalOptions).filter(([name]) => !Object.hasOwn(options, name)))
  return [
    `Usage: holdfast ${[path, own ? '[OPTIONS]' : '', ...args.map(argumentUsage)].filter(Boolean).join(' ')}`,
    `${summary.charAt(0).toUpperCase()}${summary.slice(1)}.`,
    ...(description ? [description] : []),
    ...(own ? [`Options:\n${columns(optionRows(options))}`] : []),
    `Options of every command:\n${columns(optionRows(common))}`,
  ].join('\n\n')
}

/** Help for a noun: its verbs. @param name its words, such as `target passphrase` */
export function nounHelp(name: string, summary: string, { verbs }: Noun): string {
  const rows = Object.entries(verbs).map(([verb, found]): [string, string] => [
    [verb, ...('run' in found ? found.args.map(argumentUsage) : ['VERB'])].join(' '),
    found.summary,
  ])
  return [
    `Usage: holdfast ${name} VERB [OPTIONS] [ARGUMENTS]`,
    `${summary.charAt(0).toUpperCase()}${summary.slice(1)}.`,
    `Verbs:\n${columns(rows)}`,
    `'holdfast help ${name} VERB' tells more.`,
  ].join('\n\n')
}

/** Help for the program: its nouns. */
export function programHelp(): string {
  return [
    'Usage: holdfast [OPTIONS] COMMAND',
    'Persistent, shared volumes for Docker, with snapshots, clones, a trash, backups and schedules.',
    `Commands:\n${columns(Object.entries(nouns).map(([name, { summary }]) => [name, summary]))}`,
    `Options:\n${columns(optionRows(globalOptions))}`,
    "'holdfast help COMMAND' tells more.",
  ].join('\n\n')
}
