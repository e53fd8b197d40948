/**
 * The process that speaks for this node when that of the export is gone (keeper.ts): it is started when something is
 * mounted, and ended by the next process of the export, before that speaks itself.
 */

import { readFileSync } from 'node:fs'
import { basename, extname } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { AppError } from '../../src/errors.ts'
import { run } from '../../src/system/exec.ts'
import { isObject, readJson } from './json-file.ts'
import type { LeaseTimes } from './nodes.ts'

/** What a keeper is told. */
export interface KeeperOptions {
  readonly label: string
  /** The directory of this node's own disk for what is about this share. */
  readonly local: string
  /** `.holdfast` of the share, by the driver's own view. */
  readonly holdfast: string
  readonly node: string
  readonly name: string
  /** Of the process that starts it. */
  readonly session: string
  readonly times: LeaseTimes
}

const extension = extname(import.meta.url)
const program = fileURLToPath(new URL(`./keeper${extension}`, import.meta.url))
const nodeArgs = extension === '.ts' ? ['--wasm-wrapper-tiering-budget=2000000000'] : []
/** It gives its last sign of life first, which a server that hangs may hold up; killed it waits for that no more. */
const politeMs = 5_000
const killMs = 10_000

/** Where a keeper says its pid. */
export function keeperFile(local: string): string {
  return `${local}/keeper.json`
}

/** The keeper of this process, started when it is first needed. */
export class Keeping {
  readonly #options: KeeperOptions
  #started = false

  constructor(options: KeeperOptions) {
    this.#options = options
  }

  /** From now on there is one; it outlives this process. */
  begin(): void {
    if (this.#started) return
    this.#started = true
    void run(process.execPath, [...nodeArgs, program, JSON.stringify(this.#options)], { supervised: true })
      .catch(() => undefined)
      .finally(() => {
        this.#started = false // Somebody has killed it: the next mount starts another.
      })
  }
}

/**
 * Ends the keeper of an earlier life; none is success.
 * @throws UNAVAILABLE when it cannot be ended, because its server hangs
 */
export async function endKeeper(local: string): Promise<void> {
  const content = await readJson(keeperFile(local))
  const pid = isObject(content) && Number.isSafeInteger(content.pid) ? (content.pid as number) : 0
  for (const [signal, waitMs] of [['SIGTERM', politeMs] as const, ['SIGKILL', killMs] as const]) {
    if (!isKeeper(pid, local)) return
    process.kill(pid, signal)
    const deadline = performance.now() + waitMs
    while (isKeeper(pid, local) && performance.now() < deadline) await pause(20)
  }
  if (!isKeeper(pid, local)) return
  throw new AppError(
    'UNAVAILABLE',
    `process ${pid}, which speaks for this node, cannot be ended; see to the NFS server`,
  )
}

/** Whether the process of this number is one of ours: numbers are given again. */
function isKeeper(pid: number, local: string): boolean {
  try {
    const args = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
    return args.some((arg) => basename(arg) === basename(program)) && args.some((arg) => arg.includes(`"${local}"`))
  } catch {
    return false
  }
}
