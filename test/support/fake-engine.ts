/**
 * A Docker engine as far as hooks and pauses ask one, over a real socket: containers that a test sets, commands whose outcome it
 * sets, and a list of what was done. Nothing runs.
 */

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'

export interface FakeContainer {
  readonly Id: string
  readonly Name: string
  State: string
}

/** What becomes of a command. */
export interface FakeOutcome {
  readonly exitCode?: number
  readonly stdout?: string
  readonly stderr?: string
  /** It ends when this does. */
  readonly until?: Promise<void>
  /** The engine refuses to start it, with these words. */
  readonly refused?: string
}

/** Disposing of it twice is disposing of it once. */
export interface FakeEngine extends AsyncDisposable {
  containers: FakeContainer[]
  /** Of each command, by its words joined with blanks; default: exit code 0. */
  readonly outcomes: Map<string, FakeOutcome>
  /** `exec c1: sh -c x`, `pause c1`, `unpause c1`, in the order they came. */
  readonly done: string[]
  /** Environments of the commands. */
  readonly environments: (readonly string[])[]
  /** Called before each entry of `done` is made. */
  onDone: (what: string) => void
}

interface Exec {
  readonly command: string
  readonly container: string
  running: boolean
  exitCode: number | null
}

export async function openEngine(socket: string): Promise<FakeEngine> {
  const execs: Exec[] = []
  const engine: Omit<FakeEngine, typeof Symbol.asyncDispose> = {
    containers: [],
    outcomes: new Map(),
    done: [],
    environments: [],
    onDone: () => undefined,
  }
  const note = (what: string): void => {
    engine.onDone(what)
    engine.done.push(what)
  }

  const start = async (exec: Exec, response: ServerResponse): Promise<void> => {
    note(`exec ${exec.container}: ${exec.command}`)
    const { exitCode = 0, stdout = '', stderr = '', until, refused } = engine.outcomes.get(exec.command) ?? {}
    if (refused !== undefined) return void response.writeHead(400).end(JSON.stringify({ message: refused }))
    exec.running = true
    response.writeHead(200, { 'Content-Type': 'application/vnd.docker.raw-stream' })
    response.write(Buffer.concat([frame(1, stdout), frame(2, stderr)]))
    await until
    exec.running = false
    exec.exitCode = exitCode
    response.end()
  }

  const prepare = (container: FakeContainer, body: string): string => {
    const { Cmd, Env } = JSON.parse(body) as { Cmd: string[]; Env: string[] }
    engine.environments.push(Env)
    execs.push({ command: Cmd.join(' '), container: container.Name, running: false, exitCode: null })
    return String(execs.length - 1)
  }

  const answerOf = (container: FakeContainer, verb: string | undefined, body: string): [number, object?] => {
    const { Id, Name, State } = container
    const isPaused = State === 'paused'
    if (verb === 'json') return [200, { Id, Name: `/${Name}`, State: { Status: State, Paused: isPaused } }]
    if (verb === 'exec') return [201, { Id: prepare(container, body) }]
    note(`${verb} ${Name}`)
    container.State = verb === 'pause' ? 'paused' : 'running'
    return [204]
  }

  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const body = Buffer.concat(await request.toArray()).toString()
    const [path = ''] = (request.url ?? '').replace(/^\/v1\.41/, '').split('?', 1)
    const [, room, name = '', verb] = path.split('/')
    const send = (status: number, value?: object): void =>
      void response.writeHead(status).end(value && JSON.stringify(value))
    const exec = room === 'exec' ? execs[Number(name)] : undefined
    if (exec && verb === 'start') return start(exec, response)
    if (exec) return send(200, { Running: exec.running, ExitCode: exec.exitCode, Pid: process.pid })
    if (name === 'json') return send(200, listed(engine.containers, request.url ?? ''))
    const container = engine.containers.find(({ Id, Name }) => Id === name || Name === name)
    if (container) send(...answerOf(container, verb, body))
    else send(404, { message: `No such container: ${name}` })
  }

  const server = createServer((request, response) => void answer(request, response))
  await new Promise<void>((resolve) => server.listen(socket, resolve))
  return Object.assign(engine, {
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      if (server.listening) await server[Symbol.asyncDispose]()
    },
  })
}

/** As `GET /containers/json` shows them: with `all`, or only those that run. */
function listed(containers: readonly FakeContainer[], url: string): unknown[] {
  const shown = url.includes('all=1') ? containers : containers.filter(({ State }) => State === 'running')
  return shown.map(({ Id, Name, State }) => ({ Id, Names: [`/${Name}`], State }))
}

/** One of stdout (1) or stderr (2), as the engine frames it. */
function frame(stream: number, text: string): Buffer {
  const content = Buffer.from(text)
  const header = Buffer.alloc(8)
  header.writeUInt8(stream, 0)
  header.writeUInt32BE(content.length, 4)
  return Buffer.concat([header, content])
}
