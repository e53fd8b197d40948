/** The verbs of `holdfast backup` that work on a repository as a whole. */

import { errorTable } from '../../errors.ts'
import type { ForgetDecision, ForgetView, PruneView, RepairView, VerifyView } from '../../server/schemas/backup.ts'
import { formatSize } from '../../units.ts'
import { command } from '../command.ts'
import { detachOption, workOrDetach } from '../detach.ts'
import { formatFields, formatTable, printable } from '../output.ts'
import { parseLabels } from '../pairs.ts'
import { accessOf, accessOptions } from '../store-access.ts'

const repositoryArgument = { name: 'TARGET|URL', complete: 'target' } as const
const dryRun = { 'dry-run': { type: 'boolean', help: 'only say what would be done' } } as const
const readData = { 'read-data': { type: 'boolean', help: 'read and check every byte' } } as const

/** Whether it names a backup (`TARGET/ID`, `URL?backup=ID`) and not a repository. */
function namesBackup(text: string): boolean {
  return text.includes('://') ? text.includes('?backup=') : text.includes('/')
}

function showDamage({ problems, damaged }: VerifyView): string[] {
  return [
    ...problems.map(({ object, fact }) => printable(`${object}: ${fact}`)),
    ...damaged.flatMap(({ url, volume, paths }) => [
      printable(`damaged: ${url} of volume ${volume}`),
      ...paths.map((path) => `  ${printable(path)}`),
    ]),
  ]
}

function showVerified(found: VerifyView, sound: boolean): string {
  const { backups, packs, chunks, bytesRead } = found
  const fields = formatFields([
    ['backups', String(backups)],
    ['packs', String(packs)],
    ['chunks', String(chunks)],
    ['read', formatSize(bytesRead)],
  ])
  return [fields, ...(sound ? ['all is well'] : showDamage(found))].join('\n')
}

/** Says what is damaged. */
export const verify = command({
  summary: 'check a repository, or one backup of it',
  description: 'The exit code is 11 when anything is damaged.',
  args: [{ name: 'TARGET|URL|BACKUP', complete: 'target-or-backup' }],
  options: { ...readData, ...detachOption, ...accessOptions },
  async run({ args: [of], options, ...door }) {
    const access = accessOf(options)
    const where = namesBackup(of) ? { backup: of, access } : { at: of, access }
    const body = { of: where, readData: options['read-data'] }
    return await workOrDetach<VerifyView>(door, '/v1/backups/verify', body, options.detach, (found) => {
      const sound = found.problems.length === 0 && found.damaged.length === 0
      door.output.result(found, () => showVerified(found, sound))
      return sound ? 0 : errorTable.CORRUPT.exit
    })
  },
})

function showRepaired({ packs, leftOut, lostChunks }: RepairView): string {
  const fields = formatFields([
    ['packs', String(packs)],
    ['lost chunks', String(lostChunks)],
  ])
  return [fields, ...leftOut.map(({ object, fact }) => printable(`left out: ${object}: ${fact}`))].join('\n')
}

/** Mends what can be mended. */
export const repair = command({
  summary: 'write the indexes of a repository anew from its packs',
  description: [
    'With --read-data what is sound in damaged packs is saved. What is lost stays lost until the same data is backed up again;',
    'holdfast backup verify tells which files that touches. The exit code is 11 when anything is lost.',
  ].join('\n'),
  args: [repositoryArgument],
  options: { ...readData, ...detachOption, ...accessOptions },
  async run({ args: [at], options, ...door }) {
    const body = { at, access: accessOf(options), readData: options['read-data'] }
    return await workOrDetach<RepairView>(door, '/v1/backups/repair', body, options.detach, (done) => {
      door.output.result(done, () => showRepaired(done))
      return done.leftOut.length === 0 && done.lostChunks === 0 ? 0 : errorTable.CORRUPT.exit
    })
  },
})

function showPruned({ deleted, condemned, copied, remaining }: PruneView): string {
  const amount = ({ packs, bytes }: PruneView['deleted']): string => `${formatSize(bytes)} in ${packs} packs`
  return formatFields([
    ['deleted', amount(deleted)],
    ['to be deleted', `${amount(condemned)}, by a prune after the grace period`],
    ['copied', formatSize(copied)],
    ['remaining', formatSize(remaining)],
  ])
}

function showForgotten({ decisions, prune }: ForgetView, fate: string): string {
  const row = ({ backup: { id, host, createdAt }, keep, reasons }: ForgetDecision): string[] => {
    return [id, host, createdAt, keep ? 'keep' : fate, reasons.join(', ') || '-']
  }
  const none = 'No backup matches; see which volumes and labels there are with holdfast backup ls.'
  const header = ['BACKUP', 'HOST', 'CREATED', 'DECISION', 'REASONS']
  const table = decisions.length === 0 ? none : formatTable(header, decisions.map(row))
  return prune ? `${table}\n\n${showPruned(prune)}` : table
}

/** Thins out. */
export const forget = command({
  summary: 'remove the backups of a volume that a retention does not keep',
  description: [
    'A retention is one or more of last=N, hourly=N, daily=N, weekly=N, monthly=N, yearly=N (the newest one of each of so many',
    'hours, days, ... that have any) and within=30d; what any of them keeps is kept, and the newest always.',
  ].join('\n'),
  args: [repositoryArgument],
  options: {
    volume: { type: 'string', required: true, placeholder: 'VOLUME', complete: 'volume', help: 'whose backups' },
    keep: { type: 'string', required: true, placeholder: 'RULES', help: 'the retention, such as last=3,daily=7' },
    label: {
      type: 'string',
      multiple: true,
      placeholder: 'K=V',
      help: 'only those with this label, as if there were no others',
    },
    timezone: {
      type: 'string',
      placeholder: 'TZ',
      help: "in which days begin, such as Europe/Berlin (default: the daemon's)",
    },
    ...dryRun,
    prune: { type: 'boolean', help: 'then give the room back, as holdfast backup prune does' },
    ...detachOption,
    ...accessOptions,
  },
  async run({ args: [at], options, ...door }) {
    const { volume, keep, timezone: timeZone, prune, detach } = options
    const labels = options.label && parseLabels(options.label)
    const body = { at, access: accessOf(options), volume, keep, labels, timeZone, prune, dryRun: options['dry-run'] }
    return await workOrDetach<ForgetView>(door, '/v1/backups/forget', body, detach, (decided) => {
      door.output.result(decided, () => showForgotten(decided, options['dry-run'] ? 'would remove' : 'removed'))
      return 0
    })
  },
})

/** Gives room back. */
export const prune = command({
  summary: 'give back the room in a repository that no backup needs any more',
  description: [
    'It runs beside backups, so it goes in two steps: what it finds unneeded is deleted by a later prune, after a grace period of a day.',
    'What was stored less than a day ago is left alone: it may be of a backup that is still being made.',
  ].join('\n'),
  args: [repositoryArgument],
  options: { ...dryRun, ...detachOption, ...accessOptions },
  async run({ args: [at], options, ...door }) {
    const body = { at, access: accessOf(options), dryRun: options['dry-run'] }
    return await workOrDetach<PruneView>(door, '/v1/backups/prune', body, options.detach, (done) => {
      door.output.result(done, () => showPruned(done))
      return 0
    })
  },
})
