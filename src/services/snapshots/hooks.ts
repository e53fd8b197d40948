/**
 * Runs a volume's hooks around a moment in which its content must be consistent: `pre`, the work, `post`. They run in a container
 * that uses the volume, or as an allowed program of this node; where no container runs, nothing writes, and theirs are left out.
 *
 * `post` runs whenever `pre` was begun, also after a failure, a cancellation and, by recovery, a crash: it must do no harm when it
 * runs once too often. When it fails, what was made is good and is kept; the log says that the application may still stand still.
 * A hook that is late or cancelled is killed; one that a crash of the daemon leaves behind goes on by itself.
 */

import { AppError, toAppError } from '../../errors.ts'
import type { Hooks, Volume } from '../../model.ts'
import { runInContainer } from '../../system/container-command.ts'
import type { DockerApi, DockerContainer } from '../../system/docker.ts'
import { requireHostProgram, runHostProgram } from '../../system/host-program.ts'
import type { Core } from '../core.ts'
import { type HookCommand, parseHookCommand } from './hook-command.ts'

/** What hooks run with. */
export interface HookRoom {
  readonly core: Pick<Core, 'config' | 'log'>
  readonly docker: DockerApi
}

/** What is to be run, decided before anything is; JSON, for the journal. */
export type HookPlan = {
  readonly volume: string
  /** Name of the snapshot, or null when the volume itself is read. */
  readonly snapshot: string | null
  /** For each of them. */
  readonly timeoutMs: number
  readonly pre: HookCommand | null
  readonly post: HookCommand | null
  /** Where they run; null when both are the node's. */
  readonly container: { readonly id: string; readonly name: string } | null
}

const usualTimeoutMs = 30_000
const shownLines = 5

/**
 * Decides what to run and where; changes nothing.
 * @param snapshot the name of what is being made, or null for a backup that reads the volume itself
 * @param timeoutMs instead of the volume's own
 * @returns null when there is nothing to run
 * @throws FAILED_PRECONDITION when the container cannot be told, is paused or not running; PERMISSION_DENIED, NOT_FOUND for a program of
 * the node; UNAVAILABLE when Docker does not answer
 */
export async function planHooks(
  room: HookRoom,
  volume: Volume,
  snapshot: string | null,
  timeoutMs?: number,
): Promise<HookPlan | null> {
  const { hooks, name } = volume
  const { pre, post } = commandsOf(hooks)
  requireHooksAllowed(room.core.config.hostHooks, hooks)
  const inContainer = pre?.where === 'container' || post?.where === 'container'
  const container = inContainer ? await chooseContainer(room.docker, volume) : null
  const runnable = (command: HookCommand | null): HookCommand | null =>
    command?.where === 'container' && !container ? null : command
  const plan = { volume: name, snapshot, timeoutMs: timeoutMs ?? hooks.timeoutMs ?? usualTimeoutMs }
  if (!runnable(pre) && !runnable(post)) return null
  return { ...plan, pre: runnable(pre), post: runnable(post), container: container && brief(container) }
}

/**
 * Runs `work` between the hooks.
 * @param plan null: just the work
 * @throws FAILED_PRECONDITION with the end of its output when `pre` fails, TIMEOUT; then there was no work. What `work` throws
 */
export async function whileHooked<T>(
  room: HookRoom,
  plan: HookPlan | null,
  signal: AbortSignal,
  work: () => Promise<T>,
): Promise<T> {
  if (!plan) return work()
  signal.throwIfAborted()
  try {
    if (plan.pre) await runHook(room, plan, 'pre-snapshot', plan.pre, signal)
    return await work()
  } finally {
    await runPost(room, plan)
  }
}

/** Plans that recovery has finished: it may be tried again for another reason. */
const finished = new WeakSet<HookPlan>()

/** Runs `post` of a plan that a crash has interrupted, once for each plan in this life. Never throws. */
export async function finishHooks(room: HookRoom, plan: HookPlan | null | undefined): Promise<void> {
  if (!plan || finished.has(plan)) return
  finished.add(plan)
  await runPost(room, plan)
}

/**
 * Passes when the admin allows all programs of this node that the hooks name.
 * @param hostHooks the setting @throws FAILED_PRECONDITION, PERMISSION_DENIED, NOT_FOUND
 */
export function requireHooksAllowed(hostHooks: string | null, hooks: Hooks): void {
  for (const command of Object.values(commandsOf(hooks))) {
    if (command) requireAllowed(hostHooks, command)
  }
}

function commandsOf({ pre, post }: Hooks): { pre: HookCommand | null; post: HookCommand | null } {
  return {
    pre: pre === undefined ? null : parseHookCommand('pre-snapshot', pre),
    post: post === undefined ? null : parseHookCommand('post-snapshot', post),
  }
}

function requireAllowed(hostHooks: string | null, { where, argv }: HookCommand): void {
  if (where === 'container') return
  if (hostHooks !== null) return void requireHostProgram(hostHooks, argv[0])
  throw new AppError(
    'FAILED_PRECONDITION',
    `hook 'host:${argv[0]}': programs of this node are not allowed; the admin can name a directory of them (setting host-hooks)`,
  )
}

async function runPost(room: HookRoom, plan: HookPlan): Promise<void> {
  if (!plan.post) return
  try {
    // Not to be aborted by what aborted the work.
    await runHook(room, plan, 'post-snapshot', plan.post, new AbortController().signal)
  } catch (error) {
    const fields = { volume: plan.volume, snapshot: plan.snapshot, error: toAppError(error).message }
    room.core.log.error(fields, 'the post-snapshot hook failed; what pre-snapshot has stopped may still stand still')
  }
}

async function runHook(
  room: HookRoom,
  plan: HookPlan,
  what: string,
  { where, argv }: HookCommand,
  signal: AbortSignal,
): Promise<void> {
  const env = { HOLDFAST_VOLUME: plan.volume, ...(plan.snapshot !== null && { HOLDFAST_SNAPSHOT: plan.snapshot }) }
  const options = { env, timeoutMs: plan.timeoutMs, signal }
  const place = where === 'host' ? 'on this node' : `in container ${plan.container?.name}`
  const subject = `the ${what} hook of volume ${plan.volume} (${place})`
  const { exitCode, output } = await (where === 'host'
    ? onHost(room, argv, options)
    : inContainer(room, plan, argv, options)
  ).catch((error: unknown) => {
    signal.throwIfAborted()
    const { code, message } = toAppError(error)
    throw new AppError(code, `${subject}: ${message}`, { cause: error })
  })
  if (exitCode === 0) return
  const fact = exitCode === null ? 'was ended by a signal' : `failed with exit code ${exitCode}`
  const remedy = `mend it, or change it: holdfast volume update ${plan.volume} -o ${what}=…`
  throw new AppError('FAILED_PRECONDITION', `${subject} ${fact}${said(output)}; ${remedy}`)
}

type Ended = { readonly exitCode: number | null; readonly output: string }
type RunOptions = Parameters<typeof runInContainer>[3]

async function onHost({ core }: HookRoom, argv: HookCommand['argv'], options: RunOptions): Promise<Ended> {
  const [program, ...args] = argv
  requireAllowed(core.config.hostHooks, { where: 'host', argv })
  const { stdout, stderr, exitCode } = await runHostProgram(core.config.hostHooks ?? '', program, args, options)
  return { exitCode, output: `${stdout}\n${stderr}` }
}

function inContainer(
  { docker }: HookRoom,
  { container }: HookPlan,
  argv: HookCommand['argv'],
  options: RunOptions,
): Promise<Ended> {
  if (!container) throw new AppError('INTERNAL', 'a hook was planned without its container')
  return runInContainer(docker, container.id, argv, options)
}

/** @returns null when no container runs: nothing writes */
async function chooseContainer(docker: DockerApi, { name, hooks }: Volume): Promise<DockerContainer | null> {
  const users = (await docker.allContainersUsing(name)).filter(({ state }) => state === 'running' || state === 'paused')
  if (hooks.container === undefined) {
    const [only, ...others] = users
    if (others.length === 0) return only ? requireRunning(name, only) : null
    throw failed(
      `volume ${name} has hooks, and ${users.length} containers use it (${users.map((user) => user.name).join(', ')}); ` +
        `say which one runs them: holdfast volume update ${name} -o hook-container=NAME`,
    )
  }
  const chosen = await docker.container(hooks.container)
  if (chosen?.state === 'running' || chosen?.state === 'paused') return requireRunning(name, chosen)
  if (users.length === 0) return null
  const state = chosen ? chosen.state : 'not there'
  throw failed(
    `the container ${hooks.container} that runs the hooks of volume ${name} is ${state}, and others use the volume; start it`,
  )
}

function requireRunning(volume: string, container: DockerContainer): DockerContainer {
  if (container.state === 'running') return container
  throw failed(
    `container ${container.name} is to run the hooks of volume ${volume}, and is paused; run: docker unpause ${container.name}`,
  )
}

function failed(message: string): AppError {
  return new AppError('FAILED_PRECONDITION', message)
}

function brief({ id, name }: DockerContainer): { id: string; name: string } {
  return { id, name }
}

/** Without control characters: a container must not write on a terminal. */
function said(output: string): string {
  const lines = output.split('\n').map((line) => line.replaceAll(/\p{Cc}/gu, ' ').trim())
  const last = lines.filter(Boolean).slice(-shownLines)
  return last.length > 0 ? `: ${last.join('; ').slice(-1_000)}` : ', and printed nothing'
}
