/** What a hook says is to be run, and where: reads the text that a user gave (`Hooks` of model.ts). Runs nothing. */

import { AppError } from '../../errors.ts'
import type { Hooks } from '../../model.ts'
import { parseDuration } from '../../units.ts'
import type { UpdateVolumeRequest } from '../volumes/contract.ts'

/** A program with its arguments, in a container or on this node. */
export type HookCommand = { readonly where: 'container' | 'host'; readonly argv: readonly [string, ...string[]] }

const hostPrefix = 'host:'
const containerName = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}$/
/** A setTimeout cannot wait longer. */
const longestMs = 2 ** 31 - 1

/**
 * Reads one hook: in a container a shell command line or a JSON array; on the node, after `host:`, words or a JSON array.
 * @param what the option it was given as @throws INVALID_ARGUMENT
 */
export function parseHookCommand(what: string, text: string): HookCommand {
  const trimmed = text.trim()
  if (trimmed.startsWith(hostPrefix)) {
    const rest = trimmed.slice(hostPrefix.length).trim()
    const argv = rest.startsWith('[') ? parseArray(what, rest) : words(what, rest)
    if (/^[^/]+$/.test(argv[0])) return { where: 'host', argv }
    throw invalid(what, text, "names a path; after 'host:' give the name of a program in the directory of host-hooks")
  }
  if (trimmed === '') throw invalid(what, text, 'is empty')
  return { where: 'container', argv: trimmed.startsWith('[') ? parseArray(what, trimmed) : ['sh', '-c', trimmed] }
}

/**
 * The hooks of a request, checked; what was not asked for is left out.
 * @throws INVALID_ARGUMENT
 */
export function parseHooks(request: UpdateVolumeRequest): Hooks {
  const { preSnapshot: pre, postSnapshot: post, hookContainer: container, hookTimeout } = request
  if (pre !== undefined) parseHookCommand('pre-snapshot', pre)
  if (post !== undefined) parseHookCommand('post-snapshot', post)
  if (container !== undefined && !containerName.test(container)) {
    throw invalid('hook-container', container, "is not a container's name or id")
  }
  const timeoutMs = hookTimeout === undefined ? undefined : parseHookTimeout(hookTimeout)
  return {
    ...(pre !== undefined && { pre }),
    ...(post !== undefined && { post }),
    ...(container !== undefined && { container }),
    ...(timeoutMs !== undefined && { timeoutMs }),
  }
}

const fields = {
  preSnapshot: 'pre',
  postSnapshot: 'post',
  hookContainer: 'container',
  hookTimeout: 'timeoutMs',
} as const satisfies Record<keyof UpdateVolumeRequest, keyof Hooks>

/**
 * What a request makes of the hooks there are: an empty text removes one.
 * @returns all hooks, and those of them that are new
 * @throws INVALID_ARGUMENT, also for a request that changes nothing
 */
export function changeHooks(hooks: Hooks, request: UpdateVolumeRequest): { readonly all: Hooks; readonly set: Hooks } {
  const given = Object.entries(request).filter(([, text]) => text !== undefined)
  if (given.length === 0) {
    const remedy = 'give pre-snapshot, post-snapshot, hook-container or hook-timeout'
    throw new AppError('INVALID_ARGUMENT', `there is nothing to change; ${remedy}`)
  }
  const removed = given.flatMap(([key, text]) => (text?.trim() === '' ? [fields[key as keyof typeof fields]] : []))
  const set = parseHooks(Object.fromEntries(given.filter(([, text]) => text?.trim() !== '')))
  const kept = Object.entries(hooks).filter(([key]) => !removed.includes(key as keyof Hooks))
  return { all: { ...Object.fromEntries(kept), ...set }, set }
}

/** @returns ms @throws INVALID_ARGUMENT */
export function parseHookTimeout(text: string): number {
  const ms = Math.round(parseDuration(text))
  if (ms > 0 && ms <= longestMs) return ms
  throw invalid('hook-timeout', text, 'is not a time that a hook can have; give more than 0, such as 30s')
}

function words(what: string, text: string): [string, ...string[]] {
  return requireProgram(what, text, text.split(/\s+/).filter(Boolean))
}

function parseArray(what: string, text: string): [string, ...string[]] {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw invalid(what, text, `begins with [ and is no JSON array: ${(error as Error).message}`)
  }
  if (Array.isArray(value) && value.every((item) => typeof item === 'string')) return requireProgram(what, text, value)
  throw invalid(what, text, 'is not a JSON array of strings, such as ["fsync", "/data"]')
}

function requireProgram(what: string, text: string, argv: readonly string[]): [string, ...string[]] {
  const [program, ...rest] = argv
  if (argv.some((word) => word.includes('\0'))) throw invalid(what, text, 'has a NUL character')
  if (program) return [program, ...rest]
  throw invalid(what, text, 'names no program')
}

function invalid(what: string, text: string, fact: string): AppError {
  return new AppError('INVALID_ARGUMENT', `${what} ${JSON.stringify(text.slice(0, 140))} ${fact}`)
}
