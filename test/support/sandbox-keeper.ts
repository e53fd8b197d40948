/**
 * Keeps one sandbox: `node sandbox-keeper.ts DIRECTORY`. It makes pid and mount namespaces with an empty /run and a first
 * process that adopts orphans, prints that process's id, and waits for the end of its input, which comes when its test says
 * so, and also when that has crashed or was interrupted. Then everything ends: the kernel kills every process of the pid
 * namespace, the mounts go with the mount namespace, and the directory and the cgroups of that name are removed.
 */

import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, rmdirSync, rmSync } from 'node:fs'
import { basename, join } from 'node:path'
import { childOf } from './processes.ts'

const directory = process.argv[2] ?? ''
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined)

const namespaces = ['--mount', '--propagation', 'slave', '--pid', '--fork', '--kill-child', '--mount-proc']
// `cat` ends with its input, and with it the first process: so does everything when this program is killed.
const holder = spawn('unshare', [...namespaces, '--', 'docker-init', '--', 'cat'], {
  stdio: ['pipe', 'ignore', 'inherit'],
})
const ended = once(holder, 'exit')
const input = once(process.stdin.resume(), 'end')

const first = await childOf(holder.pid as number)
spawnSync('nsenter', ['-t', String(first), '-m', '--', 'mount', '-t', 'tmpfs', 'tmpfs', '/run'], { stdio: 'inherit' })
process.stdout.write(`${first}\n`)

await Promise.race([input, ended])
holder.kill('SIGKILL')
await ended
await removeAll()

/** The namespaces end a moment after their last process; until then the directory may be busy. */
async function removeAll(): Promise<void> {
  for (let tries = 0; ; tries++) {
    try {
      rmSync(directory, { recursive: true, force: true })
      removeCgroups()
      return
    } catch (error) {
      if (tries === 50) throw error
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }
}

function removeCgroups(): void {
  const hierarchies = readdirSync('/sys/fs/cgroup', { withFileTypes: true }).filter((it) => it.isDirectory())
  for (const path of ['', ...hierarchies.map((it) => it.name)]) {
    removeCgroup(join('/sys/fs/cgroup', path, basename(directory)))
  }
}

function removeCgroup(path: string): void {
  let inside: string[]
  try {
    inside = readdirSync(path, { withFileTypes: true }).flatMap((it) => (it.isDirectory() ? [it.name] : []))
  } catch {
    return // This hierarchy has none of ours.
  }
  for (const name of inside) removeCgroup(join(path, name))
  rmdirSync(path)
}
