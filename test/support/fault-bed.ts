/**
 * What a fault test plays on: a sandbox with a daemon that can be killed and started again on the same root, both of its
 * doors, and a check that the catalog, the disk and the kernel tell the same story.
 */

import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { dirname, join } from 'node:path'
import { AppError, type ErrorCode } from '../../src/errors.ts'
import type { Finding } from '../../src/model.ts'
import type { OperationView } from '../../src/services/journal/contract.ts'
import type { InfoView } from '../../src/services/node/contract.ts'
import type { SnapshotView } from '../../src/services/snapshots/contract.ts'
import type { TrashView, VolumeView } from '../../src/services/volumes/contract.ts'
import { type ExecResult, run } from '../../src/system/exec.ts'
import { type MountEntry, readMounts } from '../../src/system/mount.ts'
import { until } from './processes.ts'
import { dockerRequest, RawConnection } from './raw-http.ts'
import { openSandbox, type Sandbox, type SandboxProcess, untilListening } from './sandbox.ts'

const daemonProgram = join(import.meta.dirname, 'crashing-daemon.ts')
const cliProgram = join(import.meta.dirname, '../../dist/src/cli/main.js')

/** The file in each volume that tests write and read. */
const dataFile = 'data.txt'
/** Under which tests mount what they look at. */
const testId = 'fault-test'

export interface FaultBed extends AsyncDisposable {
  readonly sandbox: Sandbox
  readonly root: string
  /** The vfs driver's folder. */
  readonly vfs: string
  readonly pluginSocket: string
  readonly socket: string
  /** Settings for `holdfast daemon`, by key. */
  readonly flags: Readonly<Record<string, string | readonly string[]>>
  readonly pid: number
  /** Starts the daemon; resolves when its driver is ready and everything is recovered or, if asked to, once it listens. */
  start(until?: 'recovered' | 'listening'): Promise<void>
  stop(): Promise<void>
  kill9(): Promise<void>
  /** Lets the daemon kill itself at `KIND:PHASE` while `work` runs. @throws when it has not been there */
  crashAt(place: string, work: () => Promise<unknown>): Promise<void>
  /** The admin API. @throws AppError, as the daemon answered; UNAVAILABLE when it has gone */
  api<T>(method: 'GET' | 'POST' | 'DELETE', path: string, body?: object): Promise<T>
  /** Docker's door. @throws what `Err` says, as INTERNAL; UNAVAILABLE when the daemon has gone */
  docker(call: string, body?: object): Promise<Readonly<Record<string, unknown>>>
  /** The CLI with `--json`. */
  cli<T>(...args: string[]): Promise<T>
  /** Runs a program in the sandbox, whether it fails or not. */
  run(program: string, ...args: string[]): Promise<ExecResult>
  /** Replaces the content of a volume, as a container would. */
  write(volume: string, content: string): Promise<void>
  /** The content of a volume or, as VOLUME@SNAPSHOT, of a snapshot; empty when nothing was written yet. */
  read(name: string): Promise<string>
  /** Mounts below the sandbox's directory that the daemon sees. */
  mounts(): MountEntry[]
  /** What does not agree with what: nothing, when all is well. Nothing may be mounted but what `held` names. */
  problems(held?: readonly string[]): Promise<string[]>
}

export interface FaultBedOptions {
  /** Makes the storage below the directory that it is given before the daemon starts. */
  readonly prepare?: (run: FaultBed['run'], directory: string) => Promise<void>
  /** Where root and vfs are below the sandbox's directory; default `root` and `vfs`. */
  readonly root?: string
  readonly vfs?: string
  /** The driver of all volumes, instead of vfs. */
  readonly driver?: FaultBedDriver
  /** The machine is too slow for the doctor's deadlines: what it says of an answer that was late is no problem. */
  readonly isSlow?: boolean
}

/** A driver that is looked at in its own way. */
export interface FaultBedDriver {
  readonly name: string
  /** As `KEY=VALUE`. */
  readonly settings: readonly string[]
  /** What of its storage does not agree with the catalog. */
  problems(volumes: readonly VolumeView[], snapshots: readonly SnapshotView[]): Promise<string[]>
}

/** Started. Needs root and a build. */
export async function openFaultBed(options: FaultBedOptions = {}): Promise<FaultBed> {
  if (!existsSync(cliProgram)) throw new Error(`${cliProgram} is not there: run scripts/build first`)
  const sandbox = await openSandbox()
  try {
    const bed = makeBed(sandbox, options)
    await options.prepare?.(bed.run, sandbox.directory)
    await bed.start()
    return bed
  } catch (error) {
    await sandbox.close()
    throw error
  }
}

function makeBed(sandbox: Sandbox, options: FaultBedOptions): FaultBed {
  const root = join(sandbox.directory, options.root ?? 'root')
  const vfs = join(sandbox.directory, options.vfs ?? 'vfs')
  const [socketInside, pluginInside] = ['/run/holdfast/holdfast.sock', '/run/docker/plugins/holdfast.sock'] as const
  const [socket, pluginSocket] = [sandbox.reach(socketInside), sandbox.reach(pluginInside)]
  const placeFile = join(sandbox.directory, 'crash-at')
  const flags = {
    root,
    socket: socketInside,
    'plugin-socket': pluginInside,
    'docker-socket': '/run/docker.sock',
    'driver-opt': options.driver
      ? options.driver.settings.map((text) => `${options.driver?.name}.${text}`)
      : [`vfs.path=${vfs}`],
    driver: [options.driver?.name ?? 'vfs'],
  }
  for (const path of [socket, pluginSocket]) mkdirSync(dirname(path), { recursive: true })
  let current: SandboxProcess | undefined

  const running = (): SandboxProcess => {
    if (current) return current
    throw new Error('the daemon is not running')
  }
  const inSandbox = ['--target', String(/\d+/.exec(sandbox.reach('/'))?.[0]), '--mount', '--pid', '--']
  const bed: FaultBed = {
    sandbox,
    root,
    vfs,
    socket,
    pluginSocket,
    flags,
    get pid() {
      return running().pid
    },
    async start(wanted = 'recovered') {
      current = await sandbox.start('daemon', process.execPath, [daemonProgram, JSON.stringify(flags), placeFile])
      try {
        await untilListening(pluginSocket, 60_000)
        if (wanted === 'recovered') await until('the daemon is ready', 60_000, () => isReady(bed))
      } catch (error) {
        throw new Error(`the daemon did not start:\n${sandbox.readLog('daemon').slice(-4_000)}`, { cause: error })
      }
    },
    stop: () => running().end('SIGTERM'),
    kill9: () => running().end('SIGKILL'),
    async crashAt(place, work) {
      writeFileSync(placeFile, place)
      const outcome = await Promise.allSettled([work()])
      if (existsSync(placeFile)) {
        rmSync(placeFile)
        throw new Error(`${place} was not reached; the call ended with ${JSON.stringify(outcome[0])}`)
      }
      await running().ended
    },
    api: (method, path, body) => askApi(socket, method, path, body),
    docker: (call, body = {}) => askPlugin(pluginSocket, call, body),
    async cli<T>(...args: string[]): Promise<T> {
      const { stdout, stderr } = await run(process.execPath, [cliProgram, '--socket', socket, '--json', ...args])
      if (stdout === '') throw new Error(`holdfast ${args.join(' ')}: ${stderr}`)
      return JSON.parse(stdout) as T
    },
    run: (program, ...args) => run('nsenter', [...inSandbox, program, ...args]),
    async write(volume, content) {
      const { Mountpoint } = await bed.docker('Mount', { Name: volume, ID: testId })
      writeFileSync(sandbox.reach(`${Mountpoint}/${dataFile}`), content, { flush: true })
      await bed.docker('Unmount', { Name: volume, ID: testId })
    },
    read: (name) => (name.includes('@') ? readSnapshot(bed, name) : readVolume(bed, name)),
    mounts: () => readMounts(running().pid).filter(({ mountpoint }) => mountpoint.startsWith(`${sandbox.directory}/`)),
    problems: (held = []) => findProblems(bed, held, options),
    [Symbol.asyncDispose]: () => sandbox.close(),
  }
  return bed
}

async function isReady(bed: FaultBed): Promise<boolean> {
  const { drivers } = await bed.api<InfoView>('GET', '/v1/info')
  const running = await bed.api<OperationView[]>('GET', '/v1/operations')
  return drivers.every(({ state }) => state === 'ready') && running.length === 0
}

async function readVolume(bed: FaultBed, name: string): Promise<string> {
  const { Mountpoint } = await bed.docker('Mount', { Name: name, ID: testId })
  const content = readOrEmpty(bed.sandbox.reach(`${Mountpoint}/${dataFile}`))
  await bed.docker('Unmount', { Name: name, ID: testId })
  return content
}

async function readSnapshot(bed: FaultBed, name: string): Promise<string> {
  const [volume = '', snapshot = ''] = name.split('@')
  const path = `/v1/volumes/${volume}/snapshots/${snapshot}`
  const { mountpoint } = await bed.api<{ mountpoint: string }>('POST', `${path}/mount`, {})
  const content = readOrEmpty(bed.sandbox.reach(`${mountpoint}/${dataFile}`))
  await bed.api('POST', `${path}/umount`)
  return content
}

function readOrEmpty(path: string): string {
  return existsSync(path) ? readFileSync(path, 'utf8') : ''
}

function askApi<T>(socketPath: string, method: string, path: string, body?: object): Promise<T> {
  return new Promise((resolve, reject) => {
    const headers = body ? { 'content-type': 'application/json' } : {}
    const sent = request({ socketPath, method, path, headers, agent: false }, (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('error', fail)
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString()
        if ((response.statusCode ?? 0) < 300) return resolve((text ? JSON.parse(text) : undefined) as T)
        const { error } = JSON.parse(text) as { error: { code: ErrorCode; message: string } }
        reject(new AppError(error.code, error.message))
      })
    })
    const fail = (error: Error): void => reject(new AppError('UNAVAILABLE', error.message))
    sent.on('error', fail)
    sent.end(body && JSON.stringify(body))
  })
}

async function askPlugin(socket: string, call: string, body: object): Promise<Readonly<Record<string, unknown>>> {
  const path = call.includes('.') ? `/${call}` : `/VolumeDriver.${call}`
  const text = await exchange(socket, dockerRequest(path, body)).catch((error: Error) => {
    throw new AppError('UNAVAILABLE', error.message)
  })
  const answer = JSON.parse(text) as Readonly<Record<string, unknown>>
  if (answer['Err']) throw new AppError('INTERNAL', String(answer['Err']))
  return answer
}

async function exchange(socket: string, bytes: string): Promise<string> {
  const connection = await RawConnection.open(socket)
  try {
    connection.write(bytes)
    return (await connection.read()).body
  } finally {
    connection.close()
  }
}

/** About the machine, not about what a crash has left. */
const otherFindings = ['little-room', 'no-room', 'overcommitment', 'started-after-docker']
/** About answers that were late. */
const lateFindings = ['socket-unreachable', 'stale-socket', 'target-unreachable']

async function findProblems(bed: FaultBed, held: readonly string[], options: FaultBedOptions): Promise<string[]> {
  const { driver } = options
  const volumes = await bed.api<VolumeView[]>('GET', '/v1/volumes')
  const names = volumes.map(({ name }) => name).sort()
  const snapshots = await bed.api<SnapshotView[]>('GET', '/v1/snapshots')
  return [
    ...(await doorsDisagree(bed, names)),
    ...(driver ? await driver.problems(volumes, snapshots) : await vfsDisagrees(bed, volumes, snapshots, held)),
    ...kernelDisagrees(bed, held),
    ...(await findings(bed, options.isSlow ? [...otherFindings, ...lateFindings] : otherFindings)),
  ]
}

async function vfsDisagrees(
  bed: FaultBed,
  volumes: readonly VolumeView[],
  snapshots: readonly SnapshotView[],
  held: readonly string[],
): Promise<string[]> {
  const trash = await bed.api<TrashView[]>('GET', '/v1/trash')
  const names = volumes.map(({ name }) => name)
  return [
    ...differences('folders of volumes', readdirSync(bed.sandbox.reach(`${bed.vfs}/volumes`)), names),
    ...differences(
      'folders in the trash',
      readdirSync(bed.sandbox.reach(`${bed.vfs}/trash`)),
      trash.map(({ name, id }) => `${name}~${id}`),
    ),
    ...snapshotsDisagree(bed, volumes, snapshots),
    ...(await draftsLeft(bed)),
    ...(await loopsLeft(bed, held)),
  ]
}

function differences(what: string, found: readonly string[], expected: readonly string[]): string[] {
  const [have, want] = [[...found].sort().join(' '), [...expected].sort().join(' ')]
  return have === want ? [] : [`${what} are [${have}], the catalog says [${want}]`]
}

async function doorsDisagree(bed: FaultBed, names: readonly string[]): Promise<string[]> {
  const { Volumes } = (await bed.docker('List')) as { Volumes: { Name: string }[] }
  const listed = (await bed.cli<VolumeView[]>('volume', 'ls')).map(({ name }) => name)
  const problems = [
    ...differences(
      'volumes for Docker',
      Volumes.map(({ Name }) => Name),
      names,
    ),
    ...differences('volumes for the CLI', listed, names),
  ]
  for (const name of names) {
    const { Volume } = (await bed.docker('Get', { Name: name })) as {
      Volume: { Name: string; Status: { status: string } }
    }
    if (Volume.Name !== name || Volume.Status.status !== 'ok') problems.push(`Get ${name}: ${JSON.stringify(Volume)}`)
  }
  return problems
}

function snapshotsDisagree(
  bed: FaultBed,
  volumes: readonly VolumeView[],
  snapshots: readonly SnapshotView[],
): string[] {
  return volumes.flatMap(({ name }) => {
    const folder = bed.sandbox.reach(`${bed.vfs}/volumes/${name}/snapshots`)
    const found = existsSync(folder) ? readdirSync(folder) : []
    const parts = readdirSync(dirname(folder)).filter(
      (part) => !['id', 'data', 'image', 'snapshots', 'replaced'].includes(part),
    )
    const known = snapshots.filter(({ volume }) => volume === name).map((snapshot) => snapshot.name)
    return [...differences(`snapshots of ${name}`, found, known), ...differences(`unknown parts of ${name}`, parts, [])]
  })
}

/** What an earlier life has left is removed in the background. */
async function draftsLeft(bed: FaultBed): Promise<string[]> {
  const folder = bed.sandbox.reach(`${bed.vfs}/tmp`)
  const empty = until('an empty tmp', 5_000, () => readdirSync(folder).length === 0)
  return empty.then(
    () => [],
    () => [`tmp holds ${readdirSync(folder).join(' ')}`],
  )
}

function kernelDisagrees(bed: FaultBed, held: readonly string[]): string[] {
  const mounts = bed
    .mounts()
    .filter(({ mountpoint }) => mountpoint.startsWith(`${bed.root}/`) || mountpoint.startsWith(`${bed.vfs}/`))
  return differences(
    'mounts',
    mounts.map(({ mountpoint }) => mountpoint),
    held.map((name) => `${bed.root}/mounts/${name}`),
  )
}

async function loopsLeft(bed: FaultBed, held: readonly string[]): Promise<string[]> {
  const count = async (): Promise<number> => {
    const { stdout } = await run('losetup', ['--noheadings', '--raw', '--output', 'BACK-FILE'])
    return stdout.split('\n').filter((file) => file.startsWith(`${bed.vfs}/`)).length
  }
  // The kernel takes a device down a moment after its last user.
  const settled = until('loop devices', 3_000, async () => (await count()) === held.length)
  return settled.then(
    () => [],
    async () => [`${await count()} loop devices are there for ${held.length} mounted images`],
  )
}

async function findings(bed: FaultBed, ignored: readonly string[]): Promise<string[]> {
  const found = await bed.api<Finding[]>('GET', '/v1/doctor')
  return found
    .filter(({ check }) => !ignored.includes(check))
    .map(({ check, subject, message }) => `doctor: ${check} ${subject}: ${message}`)
}
