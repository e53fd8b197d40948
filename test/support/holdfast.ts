/** The built daemon and its CLI, run as a user runs them: a process, two sockets, a root directory. */

import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { type ExecResult, run } from '../../src/system/exec.ts'
import { type MountEntry, readMounts } from '../../src/system/mount.ts'
import { type Sandbox, type SandboxProcess, untilListening } from './sandbox.ts'

export interface Holdfast {
  readonly root: string
  /** Of the running daemon, as this test sees it. */
  readonly pid: number
  /** The socket that Docker talks to, as this test reaches it. */
  readonly pluginSocket: string
  /** Runs `holdfast ARGS`. @returns stdout, trimmed @throws with its stderr when it fails */
  cli(...args: string[]): Promise<string>
  tryCli(...args: string[]): Promise<ExecResult>
  /** What is mounted below its root, as the daemon's namespace has it. */
  mounts(): MountEntry[]
  /** The connections of dockerd that the daemon has open, each by a name that no other one ever has. */
  connections(): string[]
  /** The daemon does nothing any more, until `kill9`. */
  freeze(): void
  stop(): Promise<void>
  kill9(): Promise<void>
  start(): Promise<void>
}

const main = join(import.meta.dirname, '../../dist/src/cli/main.js')
const pluginSocketInside = '/run/docker/plugins/holdfast.sock'
const socketInside = '/run/holdfast/holdfast.sock'

/** Started, with the vfs driver below the sandbox's directory; it ends with the sandbox. */
export async function startHoldfast(sandbox: Sandbox, options: readonly string[] = []): Promise<Holdfast> {
  if (!existsSync(main)) throw new Error(`${main} is not there: run scripts/build first`)
  const root = join(sandbox.directory, 'root')
  const socket = sandbox.reach(socketInside)
  const pluginSocket = sandbox.reach(pluginSocketInside)
  for (const path of [socket, pluginSocket]) mkdirSync(dirname(path), { recursive: true })
  const args = [
    ...[main, 'daemon', '--root', root, '--socket', socketInside, '--plugin-socket', pluginSocketInside],
    ...['--driver', 'vfs', '--driver-opt', `vfs.path=${join(sandbox.directory, 'volumes')}`, ...options],
  ]
  let current: SandboxProcess
  const start = async (): Promise<void> => {
    current = await sandbox.start('holdfast', process.execPath, args)
    try {
      await untilListening(pluginSocket, 20_000)
      await untilListening(socket, 20_000)
    } catch (error) {
      throw new Error(`the daemon did not start:\n${sandbox.readLog('holdfast').slice(-4000)}`, { cause: error })
    }
  }
  const tryCli = async (...words: string[]): Promise<ExecResult> =>
    await run(process.execPath, [main, '--socket', socket, ...words])
  await start()
  return {
    root,
    pluginSocket,
    get pid() {
      return current.pid
    },
    tryCli,
    async cli(...words) {
      const { exitCode, stdout, stderr } = await tryCli(...words)
      if (exitCode !== 0) throw new Error(`holdfast ${words.join(' ')}: ${exitCode}: ${stderr.trim()}${stdout.trim()}`)
      return stdout.trim()
    },
    mounts: () => readMounts(current.pid).filter((it) => it.mountpoint.startsWith(`${sandbox.directory}/`)),
    connections: () => connectionsOf(current.pid, pluginSocketInside),
    freeze: () => void process.kill(current.pid, 'SIGSTOP'),
    stop: async () => await current.end('SIGTERM'),
    kill9: async () => await current.end('SIGKILL'),
    start,
  }
}

/** Inodes of the sockets that a process has accepted at `path`. Format of /proc/net/unix: unix(7). */
function connectionsOf(pid: number, path: string): string[] {
  const connected = '03'
  const table = readFileSync(`/proc/${pid}/net/unix`, 'utf8').split('\n')
  const rows = table.map((line) => line.trim().split(/\s+/)).filter((row) => row[5] === connected && row[7] === path)
  const own = new Set(readdirSync(`/proc/${pid}/fd`).map((fd) => linkOf(`/proc/${pid}/fd/${fd}`)))
  return rows.map((row) => row[6] as string).filter((inode) => own.has(`socket:[${inode}]`))
}

function linkOf(path: string): string | undefined {
  try {
    return readlinkSync(path)
  } catch {
    return undefined // Closed meanwhile.
  }
}
