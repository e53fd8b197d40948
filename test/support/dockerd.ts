/**
 * A dockerd of one's own in a sandbox, with the Docker CLI and an image `busybox`. No network: containers run with
 * `--network none`. Needs Debian's docker.io and busybox-static.
 */

import { mkdirSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { basename, join } from 'node:path'
import { type ExecResult, run } from '../../src/system/exec.ts'
import { busyboxImage } from './images.ts'
import { until } from './processes.ts'
import type { Sandbox, SandboxProcess } from './sandbox.ts'

export interface Dockerd {
  /** Runs the CLI. @returns its stdout, trimmed @throws with its stderr when it fails */
  docker(...args: string[]): Promise<string>
  /** Runs the CLI, whether it fails or not. */
  tryDocker(...args: string[]): Promise<ExecResult>
  /** `docker run` without a network and with a stop that does not wait. @returns stdout */
  run(...args: string[]): Promise<string>
  /** SIGTERM, and waits for the end. */
  stop(): Promise<void>
  /** Kills dockerd, and with it its containerd; containers stay. */
  kill9(): Promise<void>
  /** Starts it again, with other options if any are given. */
  start(options?: readonly string[]): Promise<void>
}

/** The longest that any CLI command of a test takes: dockerd gives a plugin that is away 15 s, several times over. */
const commandMs = 120_000

/** Started and with the image `busybox`; it ends with the sandbox. @param options more options of dockerd's */
export async function startDockerd(sandbox: Sandbox, options: readonly string[] = []): Promise<Dockerd> {
  const at = (name: string): string => join(sandbox.directory, name)
  const socket = sandbox.reach('/run/docker.sock')
  const fixed = [
    ...['--data-root', at('docker'), '--config-file', at('daemon.json'), '--iptables=false', '--bridge=none'],
    ...['--exec-opt', 'native.cgroupdriver=cgroupfs', '--cgroup-parent', `/${basename(sandbox.directory)}`],
  ]
  writeFileSync(at('daemon.json'), '{}')
  mkdirSync(at('cli'), { recursive: true })

  let current: SandboxProcess
  let extra = options
  const start = async (others?: readonly string[]): Promise<void> => {
    extra = others ?? extra
    current = await sandbox.start('dockerd', 'dockerd', [...fixed, ...extra])
    await untilReady(socket, sandbox)
  }
  const tryDocker = async (...args: string[]): Promise<ExecResult> =>
    await run('docker', ['--config', at('cli'), '-H', `unix://${socket}`, ...args], { timeoutMs: commandMs })
  const docker = async (...args: string[]): Promise<string> => {
    const { exitCode, stdout, stderr } = await tryDocker(...args)
    if (exitCode !== 0) throw new Error(`docker ${args.join(' ')}: ${exitCode}: ${stderr.trim()}`)
    return stdout.trim()
  }
  await start()
  await docker('import', await busyboxImage(sandbox.directory), 'busybox')
  return {
    docker,
    tryDocker,
    run: async (...args) => await docker('run', '--network', 'none', '--stop-signal', 'KILL', ...args),
    stop: async () => await current.end('SIGTERM', 60_000),
    kill9: async () => await current.end('SIGKILL'),
    start,
  }
}

/** A plugin that is away at dockerd's start holds it up by 15 s for every volume and container. */
async function untilReady(socket: string, sandbox: Sandbox): Promise<void> {
  try {
    await until('dockerd', 120_000, async () => await ping(socket))
  } catch (error) {
    throw new Error(`dockerd did not start:\n${sandbox.readLog('dockerd').slice(-4000)}`, { cause: error })
  }
}

async function ping(socketPath: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const sent = request({ socketPath, path: '/_ping' }, (answer) => resolve(answer.resume().statusCode === 200))
  sent.on('error', () => resolve(false)).end()
  return await promise
}
