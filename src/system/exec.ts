/**
 * The only place that starts programs. Arguments are arrays and no shell is involved; a program runs in the C locale with a
 * deadline and is killed with its signal's reason when that aborts. What a tool's text means is its caller's to say.
 */

import { execa } from 'execa'
import { AppError } from '../errors.ts'

/** How a program is run. */
export interface ExecOptions {
  readonly signal?: AbortSignal | undefined
  /** Kill it after this long; default 60 s. 0: no limit (work that `signal` ends). */
  readonly timeoutMs?: number
  readonly input?: string
  readonly cwd?: string
  /** An open file that the program gets as its stdin. */
  readonly stdin?: number
  /**
   * For a program that undoes its own doing: it gets a session of its own, is never killed, and learns from the end of its
   * stdin that `signal` has aborted or that this process has died. It is waited for all the same.
   */
  readonly supervised?: boolean
  /** Calls this with each chunk of stdout as it comes. */
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

/**
 * Runs a program to its end, whatever its exit code.
 * @throws FAILED_PRECONDITION when the program is not installed, TIMEOUT, or the signal's reason
 */
export async function run(program: string, args: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
  options.signal?.throwIfAborted()
  const child = execa(program, args, {
    reject: false,
    maxBuffer: maxOutput,
    env: { LC_ALL: 'C' },
    stdin: stdinOf(options),
    ...(options.input !== undefined && { input: options.input }),
    ...(options.cwd && { cwd: options.cwd }),
    ...endingOf(options),
  })
  if (options.supervised) options.signal?.addEventListener('abort', () => child.stdin?.end(), { once: true })
  if (options.onStdout) child.stdout?.on('data', (chunk: Buffer) => options.onStdout?.(chunk.toString()))
  const result = await child
  if (result.isCanceled || (options.supervised && options.signal?.aborted)) throw options.signal?.reason
  if (result.timedOut) throw new AppError('TIMEOUT', `${program} did not end within ${options.timeoutMs ?? 60_000} ms`)
  if (result.code === 'ENOENT') {
    throw new AppError('FAILED_PRECONDITION', `the program '${program}' is not installed on this node; install it`)
  }
  return { stdout: result.stdout ?? '', stderr: result.stderr ?? '', exitCode: result.exitCode ?? null }
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
