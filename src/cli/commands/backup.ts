/**
 * `holdfast backup`: backups one by one. A REPOSITORY is a target's name or a URL; a BACKUP is TARGET/ID or URL?backup=ID, with
 * VOLUME@latest for an id if need be. What a
 * repository says of itself may have been written by anybody who can write there, and is shown with care.
 */

import type { BackupFileView, BackupView, RestoredView } from '../../server/schemas/backup.ts'
import { parseSnapshotRef } from '../../units.ts'
import { command, type Noun } from '../command.ts'
import { detachOption, workOrDetach } from '../detach.ts'
import { removeEach, showEach } from '../each.ts'
import { fileLine } from '../file-line.ts'
import { arrayItems } from '../json-array.ts'
import { newVolumeOptions } from '../new-volume.ts'
import { formatAge, formatFields, formatMap, formatSizeOrNone, formatTable, type Output, printable } from '../output.ts'
import { parseLabels } from '../pairs.ts'
import { accessOf, accessOptions } from '../store-access.ts'
import { forget, prune, repair, verify } from './repository.ts'

const backupArgument = { name: 'BACKUP', complete: 'backup' } as const

const create = command({
  summary: 'back a volume or a snapshot up, and print the URL of the backup',
  description: [
    'Only what the repository does not have yet is stored. The volume stays in use; without a snapshot to read, one is made for',
    'the time of the backup where that is cheap.',
  ].join('\n'),
  args: [{ name: 'VOLUME|VOLUME@SNAPSHOT', complete: 'volume-or-snapshot' }],
  options: {
    to: { type: 'string', required: true, placeholder: 'TARGET|URL', complete: 'target', help: 'where to' },
    label: { type: 'string', multiple: true, placeholder: 'K=V', help: 'a label' },
    pause: { type: 'boolean', help: 'pause the containers that use the volume where it is read while it is in use' },
    ...detachOption,
    ...accessOptions,
  },
  async run({ args: [source], options, ...door }) {
    const { volume, snapshot } = source.includes('@') ? parseSnapshotRef(source) : { volume: source }
    const to = { at: options.to, access: accessOf(options) }
    const body = { volume, snapshot, to, labels: parseLabels(options.label), pause: options.pause ?? false }
    return await workOrDetach<BackupView>(door, '/v1/backups', body, options.detach, (made) => {
      door.output.result(made, () => printable(made.url))
      return 0
    })
  },
})

const headings = ['BACKUP', 'VOLUME', 'SNAPSHOT', 'KIND', 'SIZE', 'ADDED', 'HOST', 'CREATED']

/** @param at the repository as it was typed: its backups are named alike */
function row(at: string, backup: BackupView): string[] {
  const { id, url, volume, snapshot, kind, size, added, host, createdAt, damaged } = backup
  return [
    at.includes('://') ? url : `${at}/${id}`,
    volume,
    snapshot ?? '-',
    damaged ? `${kind}, damaged` : kind,
    formatSizeOrNone(size),
    formatSizeOrNone(added),
    host,
    formatAge(createdAt),
  ]
}

const ls = command({
  summary: 'list the backups in a repository',
  args: [{ name: 'TARGET|URL', complete: 'target' }],
  options: {
    volume: { type: 'string', placeholder: 'VOLUME', complete: 'volume', help: 'only those of this volume' },
    ...accessOptions,
  },
  async run({ args: [at], options, client, output }) {
    const body = { at, access: accessOf(options), volume: options.volume }
    const backups = await client.request<BackupView[]>('POST', '/v1/backups/list', { body })
    output.result(backups, () =>
      formatTable(
        headings,
        backups.map((backup) => row(at, backup)),
      ),
    )
    return 0
  },
})

function show(backup: BackupView): string {
  const { id, url, volume, snapshot, createdAt, size, added, kind, host, labels, parent, files, changed, damaged } =
    backup
  return formatFields([
    ['id', id],
    ['url', url],
    ['volume', volume],
    ['snapshot', snapshot ?? '-'],
    ['created', createdAt],
    ['host', host],
    ['kind', kind],
    ['size', formatSizeOrNone(size)],
    ['added', formatSizeOrNone(added)],
    ['labels', formatMap(labels)],
    ['parent', parent ?? '-'],
    ['files', kind === 'tree' ? String(files) : '-'],
    ['changed', changed === 0 ? 'none while they were read' : `${changed} files while they were read`],
    ...(damaged ? [['damaged', `it lacks data: see holdfast backup verify '${url}'`] as [string, string]] : []),
  ])
}

const inspect = command({
  summary: 'show everything about backups',
  args: [{ ...backupArgument, variadic: true }],
  options: accessOptions,
  run: ({ args: [refs], options, client, output }) => {
    const access = accessOf(options)
    const find = (backup: string): Promise<BackupView> =>
      client.request('POST', '/v1/backups/inspect', { body: { backup, access } })
    return showEach(refs, output, find, show)
  },
})

const lsFiles = command({
  summary: 'list the files in a backup, or those below a path',
  args: [backupArgument, { name: 'PATH', optional: true }],
  options: accessOptions,
  async run({ args: [backup, path], options, client, output }) {
    const body = { backup, path, access: accessOf(options) }
    for await (const files of arrayItems<BackupFileView>(client, '/v1/backups/files', body)) print(output, files)
    if (output.json) output.raw(output.printed ? '\n]\n' : '[]\n')
    return 0
  },
})

/** There may be a million of them: what has come is printed. */
function print(output: Output, files: readonly BackupFileView[]): void {
  if (files.length === 0) return
  const lead = output.printed ? ',\n' : '[\n'
  if (output.json) output.raw(lead + files.map((file) => JSON.stringify(file)).join(',\n'))
  else output.raw(files.map((file) => `${fileLine(file)}\n`).join(''))
}

const restore = command({
  summary: 'make a volume from a backup, or replace the content of one',
  description: [
    'A new volume shows under its name when it is complete. With --in-place the volume must not be in use, and a snapshot',
    'before-restore-TIME of it is taken first and stays. BACKUP is TARGET/VOLUME@latest, TARGET/ID or URL?backup=ID; latest alone',
    'is that of the volume, where there is one. A new volume has the limit that the backed up one had, unless --size says more.',
  ].join('\n'),
  args: [backupArgument],
  options: {
    to: { type: 'string', required: true, placeholder: 'VOLUME', complete: 'volume', help: 'the volume' },
    path: { type: 'string', placeholder: 'SUBPATH', help: 'only this and what is below it' },
    'in-place': { type: 'boolean', help: 'replace the content of the volume, which is there already' },
    ...newVolumeOptions,
    size: { ...newVolumeOptions.size, help: 'the most a new volume can hold (default: as the one that was backed up)' },
    ...detachOption,
    ...accessOptions,
  },
  async run({ args: [backup], options, ...door }) {
    const { to, path, detach, 'in-place': inPlace } = options
    const { restoredRequest } = await import('../create-request.ts')
    const body = { from: { backup, access: accessOf(options) }, to, path, inPlace, ...restoredRequest(options) }
    return await workOrDetach<RestoredView>(door, '/v1/backups/restore', body, detach, (volume) => {
      door.output.result(volume, () => volume.name)
      if (!door.output.json && !door.output.quiet) noteRestored(door.output, volume, inPlace)
      return 0
    })
  },
})

function noteRestored(output: Output, { name, snapshots, restoredFrom }: RestoredView, inPlace = false): void {
  const { volume, host, createdAt } = restoredFrom
  output.note(`${printable(`holdfast: ${name} is volume ${volume} of host ${host} as of ${createdAt}`)}\n`)
  const kept = snapshots.findLast((snapshot) => snapshot.name.startsWith('before-restore-'))
  if (kept && inPlace) output.note(`holdfast: what was there before is ${name}@${kept.name}\n`)
}

const rm = command({
  summary: 'remove backups, named by their ids; holdfast backup prune gives back the room that only they needed',
  args: [{ ...backupArgument, variadic: true }],
  options: accessOptions,
  run: ({ args: [refs], options, output, work }) => {
    const access = accessOf(options)
    return removeEach(refs, output, async (backup) => {
      const { removed } = await work<{ removed: string[] }>('POST', '/v1/backups/remove', {
        backups: [{ backup, access }],
      })
      return removed.map(printable)
    })
  },
})

/** The verbs of backups. */
export const backup: Noun = {
  verbs: { create, ls, inspect, 'ls-files': lsFiles, restore, rm, verify, repair, forget, prune },
}
