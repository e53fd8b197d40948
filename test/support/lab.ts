/**
 * Several machines of the kernel lab (scripts/lab/run) on one network, driven by a test on the host: commands in each, links
 * that are cut and plugged, machines that crash and boot again on their disks. Whatever happens to the test, the machines end
 * with it (they are killed with the process that booted them) and scripts/lab/keeper removes the network and the disks.
 */

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { LabHost, type LabHostOptions, labScripts } from './lab-host.ts'

/** A network with machines, one at a time or several. Needs root and the packages of the lab. */
export class LabNetwork implements AsyncDisposable {
  /** Visible in every machine under the same path; without locks between them (hostfs). */
  readonly shared: string
  private readonly directory: string
  private readonly keeper: ChildProcess
  private readonly hosts: LabHost[] = []

  private constructor(directory: string, keeper: ChildProcess) {
    this.directory = directory
    this.shared = join(directory, 'shared')
    this.keeper = keeper
    mkdirSync(this.shared)
  }

  static async open(): Promise<LabNetwork> {
    const directory = mkdtempSync(join(tmpdir(), 'holdfast-lab-'))
    const keeper = spawn('unshare', ['--net', '--', join(labScripts, 'keeper'), directory], {
      stdio: ['pipe', 'pipe', 'inherit'],
      detached: true, // Ctrl-C is for the tests: the keeper has yet to clean up after them.
    })
    const started = await Promise.race([
      once(keeper.stdout as NonNullable<typeof keeper.stdout>, 'data'),
      once(keeper, 'exit'),
    ])
    if (String(started[0]) !== 'ready\n') throw new Error('the network of the lab did not start; these tests need root')
    return new LabNetwork(directory, keeper)
  }

  /** A machine with a link and disks, which has yet to boot. @param name at most 12 letters, its host name */
  async host(name: string, options: LabHostOptions = {}): Promise<LabHost> {
    const inside = ['nsenter', `--net=/proc/${this.keeper.pid}/ns/net`, '--']
    const place = { directory: join(this.directory, name), shared: this.shared, inside }
    const host = new LabHost(name, `10.77.0.${this.hosts.length + 1}`, place, options)
    this.hosts.push(host)
    await host.addLink()
    return host
  }

  /** Kills the machines and removes everything. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.hosts.map((host) => host.kill()))
    const ended = once(this.keeper, 'exit')
    this.keeper.stdin?.end()
    await ended
  }
}
