/**
 * The daemon's settings: one table, from which the file, the environment and the flags are read, in that order of strength
 * (a flag wins). File: a JSON object with these keys; environment: `HOLDFAST_` and the key in capitals, lists with blanks between
 * their values; flag: `--` and the key.
 */

import { readFileSync } from 'node:fs'
import path from 'node:path'
import { AppError, errno } from './errors.ts'
import { parseDuration, suggestion } from './units.ts'

export interface Config {
  readonly root: string
  readonly socket: string
  readonly pluginSocket: string
  readonly dockerSocket: string
  readonly drivers: readonly string[]
  readonly defaultDriver: string
  /** Settings of each driver, by its name. */
  readonly driverOpts: Readonly<Record<string, Readonly<Record<string, string>>>>
  readonly trashKeepMs: number
  /** Where the programs are that hooks may run on this node; null: they may run none. */
  readonly hostHooks: string | null
  readonly logLevel: (typeof logLevels)[number]
  readonly logFormat: 'json' | 'pretty'
}

const logLevels = ['debug', 'info', 'warn', 'error', 'silent'] as const

interface Setting {
  readonly key: string
  readonly description: string
  readonly placeholder: string
  /** `list`: repeated as a flag, an array in the file; `opts`: a list of DRIVER.KEY=VALUE, an object of objects in the file. */
  readonly kind: 'text' | 'list' | 'opts'
  readonly default: string | readonly string[]
  /** The only values there are. */
  readonly values?: readonly string[]
}

/** Every setting there is. */
export const settings = [
  {
    key: 'root',
    kind: 'text',
    placeholder: 'DIR',
    default: '/var/lib/holdfast',
    description: 'where volumes and the catalog are kept',
  },
  {
    key: 'socket',
    kind: 'text',
    placeholder: 'PATH',
    default: '/run/holdfast/holdfast.sock',
    description: 'the admin API, for the CLI',
  },
  {
    key: 'plugin-socket',
    kind: 'text',
    placeholder: 'PATH',
    default: '/run/docker/plugins/holdfast.sock',
    description: "Docker's door; its file name is the driver's name for Docker",
  },
  {
    key: 'docker-socket',
    kind: 'text',
    placeholder: 'PATH',
    default: '/var/run/docker.sock',
    description: "Docker's own API, for hooks in containers, --pause and doctor",
  },
  {
    key: 'driver',
    kind: 'list',
    placeholder: 'NAME',
    default: ['vfs'],
    description: 'a storage driver to start; repeat it for more',
  },
  {
    key: 'default-driver',
    kind: 'text',
    placeholder: 'NAME',
    default: '',
    description: 'the driver of volumes that name none (default: the first one)',
  },
  {
    key: 'driver-opt',
    kind: 'opts',
    placeholder: 'NAME.KEY=VALUE',
    default: [],
    description: "a driver's setting, such as vfs.path=/srv/volumes; repeat it for more",
  },
  {
    key: 'trash-keep',
    kind: 'text',
    placeholder: 'TIME',
    default: '24h',
    description: 'how long removed volumes can be restored; 0s: not at all',
  },
  {
    key: 'host-hooks',
    kind: 'text',
    placeholder: 'DIR',
    default: '',
    description: "a directory of programs, all of them root's, that hooks may run on this node (default: none may)",
  },
  {
    key: 'log-level',
    kind: 'text',
    placeholder: 'LEVEL',
    default: 'info',
    values: logLevels,
    description: 'debug, info, warn, error or silent',
  },
  {
    key: 'log-format',
    kind: 'text',
    placeholder: 'FORMAT',
    default: 'json',
    values: ['json', 'pretty'],
    description: 'json, or pretty for people',
  },
] as const satisfies readonly Setting[]

/** Where the settings file is when no flag says otherwise; it need not exist. */
const defaultConfigFile = '/etc/holdfast/daemon.json'

type Value = string | readonly string[]
type Values = ReadonlyMap<string, Value>

const byKey: ReadonlyMap<string, Setting> = new Map(settings.map((setting) => [setting.key, setting]))

function invalid(source: string, text: string): AppError {
  return new AppError('INVALID_ARGUMENT', `${source}: ${text}`)
}

function known(key: string, source: string): Setting {
  const setting = byKey.get(key)
  if (setting) return setting
  throw invalid(source, `unknown setting '${key}'${suggestion(key, [...byKey.keys()])}`)
}

function isStrings(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string')
}

/** `{ vfs: { path: '/srv' } }` as `['vfs.path=/srv']`. */
function flatten(value: unknown, source: string): string[] {
  const fail = () => invalid(source, `'driver-opt' must be an object such as {"vfs": {"path": "/srv/volumes"}}`)
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw fail()
  return Object.entries(value).flatMap(([driver, opts]) => {
    if (typeof opts !== 'object' || opts === null || Array.isArray(opts)) throw fail()
    return Object.entries(opts).map(([key, text]) => {
      if (typeof text !== 'string') throw fail()
      return `${driver}.${key}=${text}`
    })
  })
}

function fileValue(setting: Setting, value: unknown, source: string): Value {
  if (setting.kind === 'opts') return flatten(value, source)
  if (setting.kind === 'list' && isStrings(value)) return value
  if (setting.kind === 'text' && typeof value === 'string') return value
  throw invalid(source, `'${setting.key}' must be ${setting.kind === 'list' ? 'a list of strings' : 'a string'}`)
}

function readFile(file: string, required: boolean): Values {
  let content: unknown
  try {
    content = JSON.parse(readFileSync(file, 'utf8'))
  } catch (error) {
    if (errno(error) === 'ENOENT' && !required) return new Map()
    throw invalid(`settings file ${file}`, (error as Error).message)
  }
  const source = `settings file ${file}`
  if (typeof content !== 'object' || content === null || Array.isArray(content))
    throw invalid(source, 'must hold a JSON object')
  return new Map(Object.entries(content).map(([key, value]) => [key, fileValue(known(key, source), value, source)]))
}

const environmentPrefix = 'HOLDFAST_'
/** Variables of the test tiers, not settings. */
const foreignVariables = /^HOLDFAST_(TEST|LAB)/

function readEnvironment(env: NodeJS.ProcessEnv): Values {
  const values = new Map<string, Value>()
  for (const [name, text] of Object.entries(env)) {
    if (!name.startsWith(environmentPrefix) || foreignVariables.test(name) || text === undefined) continue
    const key = name.slice(environmentPrefix.length).toLowerCase().replaceAll('_', '-')
    const setting = known(key, `environment variable ${name}`)
    values.set(key, setting.kind === 'text' ? text : text.split(/\s+/).filter(Boolean))
  }
  return values
}

function readFlags(flags: Readonly<Record<string, Value>>): Values {
  return new Map(Object.entries(flags).map(([key, value]) => [known(key, 'flag').key, value]))
}

function checkValue(setting: Setting, value: Value): void {
  if (setting.values && !setting.values.includes(value as string)) {
    throw invalid(`setting '${setting.key}'`, `'${value}' is not one of ${setting.values.join(', ')}`)
  }
}

/** Docker and the kernel's mount table know absolute paths only. */
function absolute(key: string, value: Value): string {
  const text = String(value)
  if (path.isAbsolute(text) && !text.includes('\0')) return path.normalize(text)
  throw invalid(`setting '${key}'`, `'${text}' is not an absolute path`)
}

function parseDriverOpts(list: Value): Record<string, Record<string, string>> {
  const opts: Record<string, Record<string, string>> = {}
  for (const text of list) {
    const match = /^([a-z][a-z0-9]*)\.([a-z][a-z0-9-]*)=(.*)$/s.exec(text)
    if (!match) throw invalid(`setting 'driver-opt'`, `'${text}' is not NAME.KEY=VALUE, such as vfs.path=/srv/volumes`)
    const [, driver, key, value] = match as unknown as [string, string, string, string]
    opts[driver] = { ...opts[driver], [key]: value }
  }
  return opts
}

function chooseDefaultDriver(drivers: readonly string[], wanted: string): string {
  const chosen = wanted || drivers[0]
  if (chosen && drivers.includes(chosen)) return chosen
  throw invalid(`setting 'default-driver'`, `'${wanted}' is not among the drivers to start (${drivers.join(', ')})`)
}

function build(value: (key: string) => Value): Config {
  const drivers = [...new Set(value('driver'))]
  return {
    root: absolute('root', value('root')),
    socket: absolute('socket', value('socket')),
    pluginSocket: absolute('plugin-socket', value('plugin-socket')),
    dockerSocket: absolute('docker-socket', value('docker-socket')),
    drivers,
    defaultDriver: chooseDefaultDriver(drivers, String(value('default-driver'))),
    driverOpts: parseDriverOpts(value('driver-opt')),
    trashKeepMs: parseDuration(String(value('trash-keep'))),
    hostHooks: value('host-hooks') === '' ? null : absolute('host-hooks', value('host-hooks')),
    logLevel: value('log-level') as Config['logLevel'],
    logFormat: value('log-format') as Config['logFormat'],
  }
}

/**
 * The settings in force.
 * @param flags by key, as on the command line: a string, or strings for a repeated flag
 * @param file the settings file; when not given, `/etc/holdfast/daemon.json` if there is one
 * @throws INVALID_ARGUMENT for an unknown key (with the nearest one) or a value that cannot be, naming where it stands
 */
export function loadConfig(flags: Readonly<Record<string, Value>>, env: NodeJS.ProcessEnv, file?: string): Config {
  const layers = [readFlags(flags), readEnvironment(env), readFile(file ?? defaultConfigFile, file !== undefined)]
  const value = (key: string): Value => {
    const layer = layers.find((values) => values.has(key))
    return layer?.get(key) ?? (byKey.get(key) as Setting).default
  }
  for (const setting of byKey.values()) checkValue(setting, value(setting.key))
  return build(value)
}
