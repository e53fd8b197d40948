/** What /proc tells of processes: when one was started. Facts: proc_pid_stat(5), proc_stat(5). */

import { readdirSync, readFileSync } from 'node:fs'

/** USER_HZ, which is 100 on every architecture that Node runs on. */
const ticksPerSecond = 100

/** When this boot began, in ms since the epoch; to the second. */
function bootedAt(): number {
  const match = /^btime (\d+)$/m.exec(readFileSync('/proc/stat', 'utf8'))
  return Number(match?.[1] ?? 0) * 1000
}

/** @returns ms since the epoch @throws when there is no such process */
function startedAt(pid: number | 'self'): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return bootedAt() + (Number(fields[19]) / ticksPerSecond) * 1000
}

/** When the Docker engine of this host was started (the first of several), in ms since the epoch; undefined when none runs. */
export function dockerdStartedAt(): number | undefined {
  const times = readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return []
    try {
      return readFileSync(`/proc/${name}/comm`, 'utf8') === 'dockerd\n' ? [startedAt(Number(name))] : []
    } catch {
      return [] // The process has ended.
    }
  })
  return times.length > 0 ? Math.min(...times) : undefined
}

/** Names this boot of the kernel. */
export function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
}
