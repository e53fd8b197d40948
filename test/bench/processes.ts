/** How much memory a process and all its children have together, while something runs. Facts: proc_pid_smaps(5), proc_pid_task(5). */

import { readFileSync } from 'node:fs'

const everyMs = 40

function childrenOf(pid: number): number[] {
  const text = readOrEmpty(`/proc/${pid}/task/${pid}/children`)
  const own = text.split(' ').filter(Boolean).map(Number)
  return own.flatMap((child) => [child, ...childrenOf(child)])
}

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return '' // It has ended.
  }
}

/** Bytes; pages shared by several count once in all (PSS). */
function memoryOf(pid: number): number {
  const kib = /^Pss:\s+(\d+) kB$/m.exec(readOrEmpty(`/proc/${pid}/smaps_rollup`))?.[1] ?? 0
  return Number(kib) * 1024
}

/** Children of this process that were started as `program`. */
export function startedAs(program: string): number[] {
  return childrenOf(process.pid).filter((pid) => readOrEmpty(`/proc/${pid}/cmdline`).split('\0').includes(program))
}

/** Runs `work`. @param roots whose trees are watched @returns the most that they had at once, bytes */
export async function peakOf(roots: () => readonly number[], work: () => Promise<unknown>): Promise<number> {
  let peak = 0
  const watch = setInterval(() => {
    const all = new Set(roots().flatMap((pid) => [pid, ...childrenOf(pid)]))
    peak = Math.max(
      peak,
      [...all].reduce((total, pid) => total + memoryOf(pid), 0),
    )
  }, everyMs)
  try {
    await work()
  } finally {
    clearInterval(watch)
  }
  return peak
}
