/** `holdfast schedule`. */

import type { CreateScheduleRequest, ScheduleView } from '../../server/schemas/schedule.ts'
import { api, type Client } from '../client.ts'
import { command, type Noun } from '../command.ts'
import { removeEach, showEach } from '../each.ts'
import { formatAge, formatFields, formatSpan, formatTable } from '../output.ts'

const nameArgument = { name: 'NAME', complete: 'schedule' } as const

const create = command({
  summary: 'take snapshots of a volume, back it up, or trim it, at certain times',
  description: [
    'Say --snapshot, --backup, --trim or several: with the first two, the snapshot is what is backed up. A run that was missed while',
    'the daemon was down is caught up once. A retention is as for holdfast backup forget, and never removes the last good one. The same again,',
    "under any name, makes nothing. A schedule follows its volume's name, and is asleep while that is in the trash.",
  ].join('\n'),
  args: [{ name: 'VOLUME', complete: 'volume' }],
  options: {
    cron: {
      type: 'string',
      required: true,
      placeholder: 'CRON',
      help: 'when: minute, hour, day of month, month, day of week, such as "0 3 * * *"',
    },
    snapshot: { type: 'boolean', help: 'take a snapshot that stays' },
    backup: { type: 'string', placeholder: 'TARGET', complete: 'target', help: 'back up to this target' },
    trim: { type: 'boolean', help: 'give back to the storage what the file system has freed' },
    keep: {
      type: 'string',
      placeholder: 'RULES',
      help: 'which of its backups to keep, such as last=3,daily=7 (default: all)',
    },
    'keep-snapshots': { type: 'string', placeholder: 'RULES', help: 'which of its snapshots to keep (default: all)' },
    name: { type: 'string', placeholder: 'NAME', help: "the schedule's name (default: the volume's)" },
    timezone: { type: 'string', placeholder: 'TZ', help: "such as Europe/Berlin (default: the daemon's)" },
    jitter: { type: 'string', placeholder: 'TIME', help: 'begin up to this much later, such as 5m (default: 0)' },
  },
  async run({ args: [volume], options, output, work }) {
    const { cron, snapshot, backup: target, trim, keep, name, timezone: timeZone, jitter } = options
    const body: CreateScheduleRequest = {
      volume,
      cron,
      snapshot,
      target,
      trim,
      keep,
      keepSnapshots: options['keep-snapshots'],
      name,
      timeZone,
      jitter,
    }
    const made = await work<ScheduleView>('POST', '/v1/schedules', body)
    output.result(made, () => made.name)
    return 0
  },
})

function formatDeed({ snapshot, target, trim }: ScheduleView): string {
  const backup = target === null ? '' : `backup to ${target}`
  return [snapshot ? 'snapshot' : '', backup, trim ? 'trim' : ''].filter(Boolean).join(', ')
}

function row(schedule: ScheduleView): string[] {
  const { name, volume, cron, timeZone, nextRunAt, lastRunAt, status, failures } = schedule
  return [
    name,
    volume,
    `${cron} (${timeZone})`,
    formatDeed(schedule),
    nextRunAt === null ? '-' : `in ${formatSpan(Date.parse(nextRunAt) - Date.now(), Math.ceil)}`,
    lastRunAt === null ? '-' : formatAge(lastRunAt),
    status,
    String(failures),
  ]
}

const headings = ['NAME', 'VOLUME', 'CRON', 'DOES', 'NEXT RUN', 'LAST RUN', 'STATUS', 'FAILURES']

const ls = command({
  summary: 'list schedules, of all volumes or of one',
  args: [{ name: 'VOLUME', optional: true, complete: 'volume' }],
  options: {},
  async run({ args: [volume], client, output }) {
    const path = volume === undefined ? '/v1/schedules' : api`/v1/schedules?volume=${volume}`
    const schedules = await client.request<ScheduleView[]>('GET', path)
    output.result(schedules, () => formatTable(headings, schedules.map(row)))
    return 0
  },
})

function show(schedule: ScheduleView): string {
  const { name, volume, cron, timeZone, keep, keepSnapshots, jitterMs, createdAt, status, lastError } = schedule
  return formatFields([
    ['name', name],
    ['volume', volume],
    ['cron', `${cron} (${timeZone})`],
    ['does', formatDeed(schedule)],
    ['keep', keep ?? 'all'],
    ['keep snapshots', keepSnapshots ?? 'all'],
    ['jitter', formatSpan(jitterMs)],
    ['created', createdAt],
    ['status', status],
    ['next run', schedule.nextRunAt ?? '-'],
    ['last run', schedule.lastRunAt ?? '-'],
    ['last success', schedule.lastSuccessAt ?? '-'],
    ['failures', String(schedule.failures)],
    ['last error', lastError ? `${lastError.code}: ${lastError.message}` : '-'],
  ])
}

function find(client: Client, name: string): Promise<ScheduleView> {
  return client.request<ScheduleView>('GET', api`/v1/schedules/${name}`)
}

const inspect = command({
  summary: 'show everything about schedules',
  args: [{ ...nameArgument, variadic: true }],
  options: {},
  run: ({ args: [names], client, output }) => showEach(names, output, (name) => find(client, name), show),
})

const rm = command({
  summary: 'remove schedules; what they have made stays',
  args: [{ ...nameArgument, variadic: true }],
  options: {},
  run: ({ args: [names], output, work }) =>
    removeEach(names, output, async (name) => {
      await work('DELETE', api`/v1/schedules/${name}`)
      return [name]
    }),
})

/** A verb that the API has by the same name. */
function verb(name: 'run' | 'pause' | 'resume', summary: string, description?: string) {
  return command({
    summary,
    ...(description === undefined ? {} : { description }),
    args: [nameArgument],
    options: {},
    async run({ args: [schedule], output, work }) {
      const changed = await work<ScheduleView>('POST', `${api`/v1/schedules/${schedule}`}/${name}`, {})
      output.result(changed, () => changed.name)
      return 0
    },
  })
}

const run = verb(
  'run',
  'run a schedule now and wait for it',
  'A run under way is joined. The exit code is that of the error it ends with.',
)
const pause = verb('pause', 'let a schedule rest until it is resumed')
const resume = verb('resume', 'let a paused schedule run again')

/** The verbs of schedules. */
export const schedule: Noun = { verbs: { create, ls, inspect, rm, run, pause, resume } }
