/**
 * Runs one command in a container, through the engine, with a deadline. The engine has no way to end such a command: a late one is
 * killed here, as a process of this host. Facts: Docker's API 1.41, "Exec" and "Attach to a container" (the frames of its stream);
 * proc_pid_stat(5), cgroups(7).
 */

import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import { AppError } from '../errors.ts'
import { formatDuration } from '../units.ts'
import type { DockerApi } from './docker.ts'

export interface CommandOptions {
  readonly env: Readonly<Record<string, string>>
  readonly timeoutMs: number
  readonly signal: AbortSignal
}

export interface CommandResult {
  readonly exitCode: number
  /** The last 64 KiB of stdout and stderr together, in the order they came. */
  readonly output: string
}

const keptOutput = 64 * 2 ** 10
const frameHeader = 8
const lookEveryMs = 50

/**
 * Runs a command to its end, whatever its exit code.
 * @param container its full id
 * @throws TIMEOUT or the signal's reason, after the command was killed (the error says when it could not be);
 * FAILED_PRECONDITION when the container does not run, UNAVAILABLE
 */
export async function runInContainer(
  docker: DockerApi,
  container: string,
  command: readonly string[],
  options: CommandOptions,
): Promise<CommandResult> {
  options.signal.throwIfAborted()
  const late = AbortSignal.timeout(options.timeoutMs)
  const ending = AbortSignal.any([options.signal, late])
  const env = Object.entries(options.env).map(([key, value]) => `${key}=${value}`)
  const id = await docker.createExec(container, command, env)
  const frames = new Frames()
  try {
    await docker.startExec(id, (chunk) => frames.add(chunk), ending)
    return { exitCode: await exitCodeOf(docker, id, ending), output: frames.text }
  } catch (error) {
    if (!ending.aborted) throw error
    const killed = await killExec(docker, id, container)
    options.signal.throwIfAborted()
    const left = killed ? '' : ', and it still runs in the container: it could not be killed from here'
    throw new AppError('TIMEOUT', `it did not end within ${formatDuration(options.timeoutMs)}${left}`)
  }
}

/** The stream ends a moment before the engine has the exit code. */
async function exitCodeOf(docker: DockerApi, id: string, signal: AbortSignal): Promise<number> {
  for (;;) {
    const { running, exitCode } = await docker.inspectExec(id)
    if (!running && exitCode !== null) return exitCode
    await pause(lookEveryMs, undefined, { signal })
  }
}

/** @returns true when the command has ended */
async function killExec(docker: DockerApi, id: string, container: string): Promise<boolean> {
  try {
    const { running, pid } = await docker.inspectExec(id)
    if (!running) return true
    if (!isOfContainer(pid, container)) return false
    for (const each of [pid, ...descendants(pid)]) kill(each)
    for (let look = 0; look < 40; look++) {
      if (!(await docker.inspectExec(id)).running) return true
      await pause(lookEveryMs)
    }
    return false
  } catch {
    return false // No engine, or one that hangs: nobody knows.
  }
}

/**
 * Whether this process, as we see it, is one of the container's: the engine may live in another pid namespace, where the number is
 * someone else's.
 */
function isOfContainer(pid: number, container: string): boolean {
  try {
    return pid > 1 && readFileSync(`/proc/${pid}/cgroup`, 'utf8').includes(container)
  } catch {
    return false
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It has ended.
  }
}

/** Of a process, children before grandchildren. O(processes). */
function descendants(pid: number): number[] {
  const children = Map.groupBy(processes(), ({ parent }) => parent)
  const found: number[] = []
  for (let level = [pid]; level.length > 0; ) {
    level = level.flatMap((parent) => (children.get(parent) ?? []).map((child) => child.pid))
    found.push(...level)
  }
  return found
}

function processes(): { pid: number; parent: number }[] {
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return []
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8')
      return [{ pid: Number(name), parent: Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]) }]
    } catch {
      return [] // It has ended.
    }
  })
}

/** Takes the frames apart in which the engine sends both streams: one byte that names the stream, three of padding, four of length. */
class Frames {
  #pending: Buffer = Buffer.alloc(0)
  #kept: Buffer = Buffer.alloc(0)

  add(chunk: Buffer): void {
    this.#pending = Buffer.concat([this.#pending, chunk])
    while (this.#pending.length >= frameHeader) {
      const end = frameHeader + this.#pending.readUInt32BE(4)
      if (this.#pending.length < end) return
      this.#kept = Buffer.concat([this.#kept, this.#pending.subarray(frameHeader, end)]).subarray(-keptOutput)
      this.#pending = this.#pending.subarray(end)
    }
  }

  get text(): string {
    return this.#kept.toString()
  }
}
