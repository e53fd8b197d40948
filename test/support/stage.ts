/** What an end-to-end test plays on: a sandbox with the daemon and then, as at boot, a dockerd. */

import { expect } from 'vitest'
import type { MountEntry } from '../../src/system/mount.ts'
import { type Dockerd, startDockerd } from './dockerd.ts'
import { type Holdfast, startHoldfast } from './holdfast.ts'
import { openSandbox, type Sandbox } from './sandbox.ts'

export interface Stage extends AsyncDisposable {
  readonly sandbox: Sandbox
  readonly holdfast: Holdfast
  readonly engine: Dockerd
  /** One volume as `docker volume inspect` shows it. */
  inspect(volume: string): Promise<DockerVolumeInfo>
  /** Mounts of a volume as the daemon sees them; a volume that is its own directory has none. */
  mountsOf(volume: string): MountEntry[]
}

export interface DockerVolumeInfo {
  readonly Name: string
  readonly Driver: string
  readonly Mountpoint: string
  readonly CreatedAt: string
  readonly Scope: string
  readonly Labels: Readonly<Record<string, string>> | null
  readonly Options: Readonly<Record<string, string>> | null
  readonly Status: Readonly<Record<string, unknown>>
}

/** The two ways in which vfs keeps a volume where the file system has no quota, with the options that lead to each. */
export const volumeKinds = [
  { kind: 'a directory', options: [], ownMounts: 0 },
  { kind: 'an image', options: ['-o', 'size=64M'], ownMounts: 1 },
] as const

/** @param dockerdOptions more options of dockerd's */
export async function openStage(dockerdOptions: readonly string[] = []): Promise<Stage> {
  const sandbox = await openSandbox()
  try {
    const holdfast = await startHoldfast(sandbox)
    const engine = await startDockerd(sandbox, dockerdOptions)
    return {
      sandbox,
      holdfast,
      engine,
      async inspect(volume) {
        const [info] = JSON.parse(await engine.docker('volume', 'inspect', volume)) as DockerVolumeInfo[]
        return info as DockerVolumeInfo
      },
      mountsOf: (volume) => holdfast.mounts().filter(({ mountpoint }) => mountpoint.endsWith(`/${volume}`)),
      [Symbol.asyncDispose]: () => sandbox.close(),
    }
  } catch (error) {
    await sandbox.close()
    throw error
  }
}

/** A container `c1` that has written `data` to `/d/f` of the volume `v1`, made with `options`. */
export async function play({ engine }: Stage, options: readonly string[], ...runOptions: string[]): Promise<void> {
  await engine.docker('volume', 'create', '-d', 'holdfast', '--label', 'keep=1', ...options, 'v1')
  await engine.run('-d', '--name', 'c1', '-v', 'v1:/d', ...runOptions, 'busybox', 'sleep', '3600')
  await engine.docker('exec', 'c1', 'sh', '-c', 'echo data > /d/f; sync')
}

/** Ends what `play` began: nothing may hold the volume once its container is gone. */
export async function expectFreeAfterRemoval({ engine, mountsOf }: Stage): Promise<void> {
  await engine.docker('rm', '-f', 'c1')
  await engine.docker('volume', 'rm', 'v1')
  expect(mountsOf('v1')).toEqual([])
}
