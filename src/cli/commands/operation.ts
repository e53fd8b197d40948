/** `holdfast operation`. */

import { AppError, type ErrorCode, errorTable, isAppError } from '../../errors.ts'
import type { OperationView } from '../../server/schemas.ts'
import { api, type Client } from '../client.ts'
import { command, type Noun } from '../command.ts'
import { showEach } from '../each.ts'
import { pause } from '../long-call.ts'
import { formatAge, formatFields, formatSpan, formatTable, type Output } from '../output.ts'
import { formatProgress, formatRate, formatShare, ProgressLine } from '../progress.ts'

const pollMs = 500
/** An operation may survive the daemon: how long to wait for its next life. */
const restartMs = 60_000

const idArgument = { name: 'ID', complete: 'operation' } as const

function find(client: Client, id: string): Promise<OperationView> {
  return client.request<OperationView>('GET', api`/v1/operations/${id}`)
}

const headings = ['ID', 'KIND', 'SUBJECT', 'STATE', 'PROGRESS', 'RATE', 'TIME LEFT', 'STARTED']

function row({ id, kind, subject, state, progress, startedAt }: OperationView): string[] {
  const left = progress?.secondsLeft ?? null
  return [
    id,
    kind,
    subject,
    state,
    progress ? formatShare(progress) : '-',
    progress ? formatRate(progress) : '-',
    left === null ? '-' : formatSpan(left * 1000),
    formatAge(startedAt),
  ]
}

function rowWithError(operation: OperationView): string[] {
  const { error } = operation
  return [...row(operation), error ? `${error.code}: ${error.message}` : '-']
}

function show(operation: OperationView): string {
  const { id, kind, subject, state, progress, startedAt, finishedAt, error } = operation
  return formatFields([
    ['id', id],
    ['kind', kind],
    ['subject', subject],
    ['state', state],
    ['progress', progress ? formatProgress(operation) : '-'],
    ['started', startedAt],
    ['finished', finishedAt ?? '-'],
    ['error', error ? `${error.code}: ${error.message}` : '-'],
  ])
}

const ls = command({
  summary: 'list what is running',
  args: [],
  options: { all: { type: 'boolean', help: 'also what has ended, as far as it is remembered' } },
  async run({ options: { all }, client, output }) {
    const operations = await client.request<OperationView[]>('GET', `/v1/operations${all ? '?all=true' : ''}`)
    const [titles, cells] = all ? [[...headings, 'ERROR'], rowWithError] : [headings, row]
    output.result(operations, () => formatTable(titles, operations.map(cells)))
    return 0
  },
})

const inspect = command({
  summary: 'show everything about operations',
  args: [{ ...idArgument, variadic: true }],
  options: {},
  run: ({ args: [ids], client, output }) => showEach(ids, output, (id) => find(client, id), show),
})

/** @throws what it ended with, unless it is done */
function assertDone({ id, kind, subject, state, error }: OperationView): void {
  if (state === 'done') return
  const codes = { cancelled: 'CANCELLED', interrupted: 'ABORTED', failed: 'INTERNAL', running: 'INTERNAL' } as const
  const code = error && Object.hasOwn(errorTable, error.code) ? (error.code as ErrorCode) : codes[state]
  throw new AppError(code, error?.message ?? `operation ${id}, ${kind} of ${subject}, was ${state}`)
}

async function follow(client: Client, output: Output, id: string): Promise<OperationView> {
  const line = new ProgressLine(output)
  let seenMs: number | undefined
  try {
    for (;;) {
      const operation = await find(client, id).catch((error: unknown) => {
        const mayComeBack = seenMs !== undefined && Date.now() - seenMs < restartMs
        if (!mayComeBack || !isAppError(error, 'UNAVAILABLE')) throw error
      })
      if (operation) {
        if (operation.state !== 'running') return operation
        seenMs = Date.now()
        line.show(operation)
      }
      await pause(pollMs)
    }
  } finally {
    line.end()
  }
}

const watch = command({
  summary: 'follow an operation to its end',
  description: 'The exit code is that of its error. Ctrl-C stops watching, not the operation.',
  args: [idArgument],
  options: {},
  async run({ args: [id], client, output }) {
    const operation = await follow(client, output, id)
    assertDone(operation)
    output.result(operation, () => operation.state)
    return 0
  },
})

const cancel = command({
  summary: 'ask a running operation to stop, and wait until it has',
  args: [idArgument],
  options: {},
  async run({ args: [id], client, output }) {
    await client.request('POST', api`/v1/operations/${id}/cancel`, { body: {} })
    const operation = await follow(client, output, id)
    output.result(operation, () => operation.state)
    return 0
  },
})

/** The verbs of operations. */
export const operation: Noun = { verbs: { ls, inspect, watch, cancel } }
