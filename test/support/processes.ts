/** Looks at processes in /proc, by id: tests end only what they have started. */

import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

/** Asks until `probe` gives something. @throws what `probe` threw last, or that it took too long */
export async function until<T>(what: string, timeoutMs: number, probe: () => Promise<T> | T): Promise<NonNullable<T>> {
  const end = performance.now() + timeoutMs
  let last: unknown
  for (;;) {
    try {
      const value = await probe()
      if (value) return value
      last = undefined
    } catch (error) {
      last = error
    }
    if (performance.now() > end) throw new Error(`${what}: not within ${timeoutMs} ms`, { cause: last })
    await sleep(25)
  }
}

/** The one child of a process that forks once, when it has. */
export async function childOf(pid: number): Promise<number> {
  return await until(`a child of process ${pid}`, 10_000, () => {
    const names = readdirSync('/proc').filter((name) => /^\d+$/.test(name))
    return Number(names.find((name) => parentOf(name) === pid))
  })
}

function parentOf(pid: string): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])
  } catch {
    return undefined // It has ended.
  }
}
