/**
 * A Docker engine in a machine of the lab, with its data on the machine's own disk and without a bridge: containers run with
 * `--network none`. Machines of one network can join in a Swarm, whose services then publish nothing.
 */

import type { LabHost } from './lab-host.ts'
import type { LabProcess } from './lab-process.ts'

/**
 * Starts dockerd, again after a boot as well, and waits until it answers.
 * @param image a tar that becomes the image `busybox` (busyboxImage in a directory that the machine sees); none: it is there
 */
export async function startDocker(host: LabHost, image?: string): Promise<LabProcess> {
  const options = ['--iptables=false', '--bridge=none', '--exec-opt', 'native.cgroupdriver=cgroupfs']
  const engine = await host.start('dockerd', options)
  try {
    await host.sh('until docker version; do sleep 0.2; done >/dev/null 2>&1', 120_000)
  } catch (error) {
    throw new Error(`dockerd did not start in ${host.name}:\n${engine.stderr.slice(-4000)}`, { cause: error })
  }
  if (image) await host.sh(`docker import ${image} busybox`)
  return engine
}

/** Makes a Swarm of machines whose engines run: the first is its manager, the others are workers. */
export async function makeSwarm(manager: LabHost, ...workers: readonly LabHost[]): Promise<void> {
  const init = `docker swarm init --advertise-addr ${manager.address} >/dev/null; docker swarm join-token -q worker`
  const token = await manager.sh(init)
  for (const worker of workers) await worker.sh(`docker swarm join --token ${token} ${manager.address}:2377`)
}
