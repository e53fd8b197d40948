/**
 * The only place that starts programs. Arguments are arrays and no shell is involved; a program runs in the C locale with a
 * deadline and is killed with its signal's reason when that aborts. What a tool's text means is its caller's to say.
 * Facts: prctl(2) PR_SET_PDEATHSIG, which execve(2) keeps; setpriv(1).
 */

import { spawn } from 'node:child_process'
import { setPriority } from 'node:os'
import { setTimeout as pause } from 'node:timers/promises'
import { AppError } from '../errors.ts'
import { formatDuration } from '../units.ts'

/** How a program is run. */
export interface ExecOptions {
  readonly signal?: AbortSignal | undefined
  /** Kill it after this long; default 60 s. 0: no limit (work that `signal` ends). */
  readonly timeoutMs?: number
  readonly input?: string
  readonly cwd?: string
  /** Besides this process's environment. */
  readonly env?: Readonly<Record<string, string>>
  /** An open file that the program gets as its stdin. */
  readonly stdin?: number
  /**
   * For a program that undoes its own doing: it gets a session of its own, is never killed, and learns from the end of its
   * stdin that `signal` has aborted or that this process has died. It is waited for all the same.
   */
  readonly supervised?: boolean
  /** The kernel kills it when this process dies, however that ends. */
  readonly bound?: boolean
  /** Calls this with each chunk of stdout as it comes; it is not kept then, and may be of any length. */
  readonly onStdout?: (chunk: string) => void
}

/** What a program left, whole: at most 16 MiB of each stream. */
export interface ExecResult {
  readonly stdout: string
  readonly stderr: string
  /** Null when it was ended by a signal. */
  readonly exitCode: number | null
}

const maxOutput = 16 * 2 ** 20
/** Becomes the program that follows, which is then bound to the life of who started it. */
const boundly = ['setpriv', '--pdeathsig', 'KILL', '--'] as const
/** How setpriv ends when there is no such program. */
const notFoundExit = 127

/**
 * Runs a program to its end, whatever its exit code.
 * @throws FAILED_PRECONDITION when the program is not installed, TIMEOUT, or the signal's reason
 */
export async function run(program: string, args: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
  const { execa } = await import('execa') // Slow to load, and many processes run no program.
  options.signal?.throwIfAborted()
  const [file, ...argv] = options.bound ? [...boundly, program, ...args] : [program, ...args]
  const child = execa(file, argv, {
    reject: false,
    maxBuffer: maxOutput,
    buffer: { stdout: !options.onStdout },
    env: { LC_ALL: 'C', ...options.env },
    stdin: stdinOf(options),
    ...(options.input !== undefined && { input: options.input }),
    ...(options.cwd && { cwd: options.cwd }),
    ...endingOf(options),
  })
  if (options.supervised) options.signal?.addEventListener('abort', () => child.stdin?.end(), { once: true })
  if (options.onStdout) child.stdout?.on('data', (chunk: Buffer) => options.onStdout?.(chunk.toString()))
  const result = await child
  throwUnlessRan(program, result, options)
  return { stdout: result.stdout ?? '', stderr: result.stderr ?? '', exitCode: result.exitCode ?? null }
}

/** How execa tells of a program that did not come to its end by itself. */
interface EarlyEnd {
  readonly isCanceled: boolean
  readonly timedOut: boolean
  readonly code?: string | undefined
  readonly exitCode?: number | undefined
}

function throwUnlessRan(program: string, result: EarlyEnd, options: ExecOptions): void {
  if (result.isCanceled || (options.supervised && options.signal?.aborted)) throw options.signal?.reason
  if (result.timedOut)
    throw new AppError('TIMEOUT', `${program} did not end within ${formatDuration(options.timeoutMs ?? 60_000)}`)
  if (result.code === 'ENOENT' || (options.bound && result.exitCode === notFoundExit)) {
    throw new AppError('FAILED_PRECONDITION', `the program '${program}' is not installed on this node; install it`)
  }
}

function stdinOf(options: ExecOptions): 'pipe' | 'ignore' | 0 {
  if (options.supervised || options.input !== undefined) return 'pipe'
  return (options.stdin as 0 | undefined) ?? 'ignore' // execa takes any descriptor; its types name only 0.
}

function endingOf(options: ExecOptions) {
  if (options.supervised) return { detached: true, cleanup: false }
  return {
    timeout: options.timeoutMs ?? 60_000,
    forceKillAfterDelay: 2_000,
    ...(options.signal && { cancelSignal: options.signal }),
  }
}

/**
 * Runs a program that must succeed. @returns its stdout
 * @throws NO_SPACE, PERMISSION_DENIED or INTERNAL with the tool's own words when it fails; besides what `run` throws
 */
export async function exec(program: string, args: readonly string[], options: ExecOptions = {}): Promise<string> {
  const result = await run(program, args, options)
  if (result.exitCode === 0) return result.stdout
  throw toolError(program, result)
}

/** The error for a tool that failed, with a code by its text. */
export function toolError(program: string, result: ExecResult): AppError {
  const text = result.stderr.trim().split('\n').slice(-3).join('; ') || `ended with code ${result.exitCode}`
  const code = /No space left|Disk quota exceeded/i.test(text)
    ? 'NO_SPACE'
    : /Permission denied|Operation not permitted/i.test(text)
      ? 'PERMISSION_DENIED'
      : /busy/i.test(text)
        ? 'IN_USE'
        : 'INTERNAL'
  return new AppError(code, `${program}: ${text}`, { details: { exitCode: result.exitCode } })
}

/** How a talking child is started. */
export interface TalkOptions {
  /** Node's own flags. */
  readonly nodeArgs?: readonly string[]
  /** Besides this process's environment; anyone with its user's rights can read it. */
  readonly env?: Readonly<Record<string, string>>
  /** 0 to 19: gives way to others on a busy processor. */
  readonly nice: number
  /** Gets each message, a structured clone, in order. */
  onMessage(message: unknown): void
}

/** How a child ended. */
export interface ChildEnd {
  /** `code 1`, `SIGKILL`, or why it could not be started. */
  readonly how: string
  /** Its last words. */
  readonly stderr: string
}

/** A program of ours that runs in a session of its own. */
export interface TalkingChild {
  /** Undefined when it could not be started. */
  readonly pid: number | undefined
  /** Resolves when the child has ended; programs that it started may outlive it by moments (see `kill`). */
  readonly ended: Promise<ChildEnd>
  /** Sends a structured clone; to a child that has ended, nothing. */
  send(message: unknown): void
  /**
   * Kills the child and all programs that it started. Idempotent.
   * @returns whether they are all gone; false when one of them still waits in the kernel after `waitMs`
   */
  kill(waitMs: number): Promise<boolean>
}

const lastWords = 4096

/**
 * Starts a script with this Node as a child that talks over an IPC channel. The kernel kills it when this process dies;
 * the script must end itself, with its process group, when its channel is closed: that covers the moment before the
 * kernel knows.
 */
export function talk(script: string, args: readonly string[], options: TalkOptions): TalkingChild {
  const [setpriv, ...flags] = boundly
  const argv = [...flags, process.execPath, ...(options.nodeArgs ?? []), script, ...args]
  const child = spawn(setpriv, argv, {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    serialization: 'advanced',
    detached: true,
    env: { ...process.env, LC_ALL: 'C', ...options.env },
  })
  let stderr = ''
  child.stderr?.on('data', (chunk: Buffer) => {
    stderr = (stderr + chunk).slice(-lastWords)
  })
  child.on('message', (message) => options.onMessage(message))
  const ended = new Promise<ChildEnd>((resolve) => {
    child.once('error', (error) => resolve({ how: error.message, stderr }))
    // Closed: all that it has said was read.
    child.once('close', (code, signal) => resolve({ how: signal ?? `code ${code}`, stderr }))
  })
  const { pid } = child
  if (pid !== undefined) lowerPriority(pid, options.nice)
  return {
    pid,
    ended,
    // A failure to send means that it has ended, which `ended` tells.
    send: (message) => void (child.connected && child.send(message as object, () => undefined)),
    kill: (waitMs) => (pid === undefined ? Promise.resolve(true) : killGroup(pid, waitMs)),
  }
}

/** Before it has started its threads, which take over what it has. */
function lowerPriority(pid: number, nice: number): void {
  try {
    setPriority(pid, nice)
  } catch {
    // It has ended.
  }
}

async function killGroup(leader: number, waitMs: number): Promise<boolean> {
  const deadline = performance.now() + waitMs
  while (signalGroup(leader, 'SIGKILL')) {
    if (performance.now() > deadline) return false
    await pause(2)
  }
  return true
}

/** Whether there was anyone to be signalled. */
function signalGroup(leader: number, signal: NodeJS.Signals): boolean {
  try {
    process.kill(-leader, signal)
    return true
  } catch {
    return false
  }
}

/** How a program that may start others is run. */
export interface GroupOptions {
  readonly signal: AbortSignal
  readonly timeoutMs: number
  /** Its whole environment; of this process's it sees nothing. */
  readonly env: Readonly<Record<string, string>>
}

/** Of each stream of a group's, the end is kept. */
const keptOutput = 64 * 2 ** 10
/** For the last of its output: a program that has left the group may hold its pipes for ever. */
const outputGraceMs = 500

/**
 * Runs somebody else's program to its end, whatever its exit code, in a session of its own: it ends with all that it has started,
 * when it is late or `signal` aborts.
 * @returns the last 64 KiB of each stream @throws TIMEOUT, the signal's reason, FAILED_PRECONDITION when it cannot be started
 */
export async function runGroup(program: string, args: readonly string[], options: GroupOptions): Promise<ExecResult> {
  options.signal.throwIfAborted()
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], detached: true, env: options.env })
  const read = [lastOf(child.stdout), lastOf(child.stderr)] as const
  const closed = new Promise((resolve) => child.once('close', resolve))
  const exited = new Promise<number | null>((resolve, reject) => {
    child.once('error', (error) => reject(new AppError('FAILED_PRECONDITION', `${program}: ${error.message}`)))
    child.once('exit', (code) => resolve(code))
  })
  const late = AbortSignal.timeout(options.timeoutMs)
  const ending = AbortSignal.any([options.signal, late])
  const end = (): void => void (child.pid !== undefined && signalGroup(child.pid, 'SIGKILL'))
  ending.addEventListener('abort', end, { once: true })
  try {
    const exitCode = await exited
    await Promise.race([closed, pause(outputGraceMs, undefined, { ref: false })])
    options.signal.throwIfAborted()
    if (late.aborted)
      throw new AppError('TIMEOUT', `${program} did not end within ${formatDuration(options.timeoutMs)}`)
    return { stdout: read[0](), stderr: read[1](), exitCode }
  } finally {
    ending.removeEventListener('abort', end)
    child.stdout.destroy()
    child.stderr.destroy()
  }
}

function lastOf(stream: NodeJS.ReadableStream): () => string {
  let text = ''
  stream.on('data', (chunk: Buffer) => {
    text = (text + chunk).slice(-keptOutput)
  })
  return () => text
}
