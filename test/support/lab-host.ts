/**
 * One machine of a network of the kernel lab (lab.ts): boots, runs commands, crashes. It is a process of scripts/lab/run, and
 * dies with the test; scripts/lab/agent runs the commands in it.
 */

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { exec } from '../../src/system/exec.ts'
import { LabProcess, type LabResult } from './lab-process.ts'
import { until } from './processes.ts'

/** Where the programs of the lab are. */
export const labScripts = join(import.meta.dirname, '../../scripts/lab')

/** Sparse: behind /tmp, /etc and /var/lib. */
const scratchBytes = 8 * 2 ** 30

/** What the machines of a network are for: NFS among them, loop devices. */
const hostModules = ['loop', 'nfsd', 'nfsv3', 'nfsv4']

export interface LabHostOptions {
  /** Default `1G`. */
  readonly memory?: string
  /** Sizes in bytes: /dev/ubda, /dev/ubdb, ... What is on them outlives the machine. */
  readonly disks?: readonly number[]
  /** Kernel modules besides those for NFS, loop devices and overlays. */
  readonly modules?: readonly string[]
  /** How far its clock is ahead of the host's (or behind). */
  readonly clockSeconds?: number
}

/** What the network gives its machines. */
export interface LabPlace {
  /** Of this machine alone. */
  readonly directory: string
  /** Visible in each under the same path. */
  readonly shared: string
  /** What runs a program in the network's namespace. */
  readonly inside: readonly string[]
}

/** One machine of a network. */
export class LabHost {
  readonly name: string
  /** For the other machines, and kept over boots. */
  readonly address: string
  private readonly place: LabPlace
  private readonly options: LabHostOptions
  private machine: { readonly child: ChildProcess; readonly closed: Promise<unknown> } | undefined
  private boots = 0
  private requests = 0

  constructor(name: string, address: string, place: LabPlace, options: LabHostOptions) {
    this.name = name
    this.address = address
    this.place = place
    this.options = options
    mkdirSync(place.directory)
    for (const [number, size] of [scratchBytes, ...(options.disks ?? [])].entries()) {
      writeFileSync(this.disk(number), '')
      truncateSync(this.disk(number), size)
    }
  }

  /** Adds its network card's other end. */
  async addLink(): Promise<void> {
    await this.ip('tuntap', 'add', 'dev', this.name, 'mode', 'tap')
    await this.ip('link', 'set', 'dev', this.name, 'master', 'lab', 'up')
  }

  /** Boots it, again on the same disks. /tmp, /etc and /var/lib are on one of them, too. Waits until it takes commands. */
  async boot(): Promise<void> {
    if (this.machine) throw new Error(`${this.name} is running`)
    this.boots++
    this.requests = 0
    mkdirSync(this.agent())
    const log = openSync(this.log(), 'a')
    const child = spawn(
      'setpriv',
      ['--pdeathsig', 'KILL', ...this.place.inside, join(labScripts, 'run'), ...this.settings()],
      {
        stdio: ['ignore', 'pipe', log],
        env: { ...process.env, TMPDIR: this.place.directory },
      },
    )
    closeSync(log)
    // The pipe closes with the last process of the machine, not before.
    child.stdout?.resume()
    const machine = { child, closed: once(child, 'close') }
    this.machine = machine
    void machine.closed.then(() => {
      if (this.machine === machine) this.machine = undefined
    })
    await until(`${this.name} boots`, 60_000, () => existsSync(join(this.agent(), 'ready')) || !this.machine)
    if (!this.machine) throw new Error(`${this.name} did not boot:\n${readFileSync(this.log(), 'utf8')}`)
  }

  /** Runs a program to its end, whatever its exit code. @throws when it takes longer, or the machine dies */
  async run(program: string, args: readonly string[] = [], timeoutMs = 60_000): Promise<LabResult> {
    return await (await this.start(program, args)).wait(timeoutMs)
  }

  /** Runs a bash script. @returns its stdout, trimmed @throws with its stderr when it fails */
  async sh(script: string, timeoutMs = 60_000): Promise<string> {
    const { code, stdout, stderr } = await this.run('bash', ['-euc', script], timeoutMs)
    if (code !== 0) throw new Error(`${this.name}: exit code ${code} of: ${script}\n${stderr}`)
    return stdout.trim()
  }

  /** Starts a program beside whatever runs. */
  async start(program: string, args: readonly string[] = []): Promise<LabProcess> {
    const ofBoot = this.machine
    if (!ofBoot) throw new Error(`${this.name} is not running`)
    const base = join(this.agent(), String(++this.requests))
    writeFileSync(`${base}.new`, [program, ...args, ''].join('\0'))
    renameSync(`${base}.new`, `${base}.request`)
    const started = new LabProcess(`${this.name}: ${program} ${args.join(' ')}`, base, () => this.machine === ofBoot)
    await started.untilStarted()
    return started
  }

  /** Takes its link off the network; both ends believe it to be up. Idempotent. */
  async cut(): Promise<void> {
    await this.ip('link', 'set', 'dev', this.name, 'nomaster')
  }

  /** Puts its link back. Idempotent. */
  async plug(): Promise<void> {
    await this.ip('link', 'set', 'dev', this.name, 'master', 'lab')
  }

  /** Ends the whole machine at once, as a power cut does: what was not synced is lost. Idempotent. */
  async kill(): Promise<void> {
    const machine = this.machine
    machine?.child.kill('SIGKILL')
    await machine?.closed
    this.machine = undefined
  }

  /** Ends its programs with SIGTERM, syncs, and powers off. @throws when that takes long, as with a hung mount */
  async shutDown(): Promise<void> {
    writeFileSync(join(this.agent(), 'end'), '')
    await until(`${this.name} powers off`, 60_000, () => !this.machine)
  }

  private settings(): string[] {
    const { memory = '1G', disks = [], modules = [], clockSeconds = 0 } = this.options
    return [
      ...['--name', this.name, '--nic', `${this.name},${this.address}/24`, '--memory', memory, '--timeout', '3600'],
      ...['--scratch', this.disk(0), ...disks.flatMap((_, index) => ['--disk', this.disk(index + 1)])],
      ...['--share', this.agent(), '--share', this.place.shared, '--clock', String(clockSeconds)],
      ...[...hostModules, ...modules].flatMap((module) => ['--module', module]),
      ...['--env', 'DOCKER_CONFIG=/tmp/docker-cli'], // The CLI's own settings are those of whoever runs the tests.
      ...['--console', join(this.place.directory, 'console'), '--', join(labScripts, 'agent'), this.agent()],
    ]
  }

  private log(): string {
    return join(this.place.directory, 'log')
  }

  private disk(number: number): string {
    return join(this.place.directory, `disk${number}`)
  }

  /** Each boot has an agent with a directory of its own. */
  private agent(): string {
    return join(this.place.directory, `agent${this.boots}`)
  }

  private async ip(...args: string[]): Promise<void> {
    const [program = '', ...rest] = [...this.place.inside, 'ip', ...args]
    await exec(program, rest)
  }
}
