/** `holdfast snapshot`. A snapshot is named VOLUME@NAME in every place. */

import type { SnapshotView } from '../../server/schemas.ts'
import { parseSnapshotRef } from '../../units.ts'
import { api } from '../client.ts'
import { command, type Noun } from '../command.ts'
import { removeEach, showEach } from '../each.ts'
import { formatAge, formatFields, formatMap, formatSizeOrNone, formatTable, printable } from '../output.ts'
import { parseLabels } from '../pairs.ts'

const refArgument = { name: 'VOLUME@SNAPSHOT', complete: 'snapshot' } as const

/** @throws INVALID_ARGUMENT when it is no VOLUME@NAME */
function url(ref: string): string {
  const { volume, snapshot } = parseSnapshotRef(ref)
  return api`/v1/volumes/${volume}/snapshots/${snapshot}`
}

function row({ volume, name, size, used, atomic, mountpoint, createdAt }: SnapshotView): string[] {
  return [
    `${volume}@${name}`,
    formatSizeOrNone(size),
    formatSizeOrNone(used),
    atomic ? 'yes' : 'no',
    mountpoint ?? '-',
    formatAge(createdAt),
  ]
}

function show({ volume, name, createdAt, size, used, labels, atomic, mountpoint }: SnapshotView): string {
  return formatFields([
    ['name', `${volume}@${name}`],
    ['created', createdAt],
    ['size', formatSizeOrNone(size)],
    ['used', formatSizeOrNone(used)],
    ['atomic', atomic ? 'yes' : 'no: copied while the volume could be written to'],
    ['labels', formatMap(labels)],
    ['mountpoint', mountpoint ?? '-'],
  ])
}

const create = command({
  summary: 'take a snapshot of a volume',
  args: [{ name: 'VOLUME', complete: 'volume' }],
  options: {
    name: { type: 'string', placeholder: 'NAME', help: 'its name (default: auto- and the time, auto-20261123-100000)' },
    label: { type: 'string', multiple: true, placeholder: 'K=V', help: 'a label' },
    pause: { type: 'boolean', help: 'pause the containers that use the volume while it is taken' },
    'hook-timeout': { type: 'string', placeholder: 'TIME', help: "for each hook, such as 1m (default: the volume's)" },
  },
  async run({ args: [volume], options: { name, label, pause = false, 'hook-timeout': hookTimeout }, output, work }) {
    const body = { name, labels: parseLabels(label), pause, hookTimeout }
    const made = await work<SnapshotView>('POST', api`/v1/volumes/${volume}/snapshots`, body)
    output.result(made, () => `${made.volume}@${made.name}`)
    return 0
  },
})

const ls = command({
  summary: 'list snapshots, of all volumes or of one',
  args: [{ name: 'VOLUME', optional: true, complete: 'volume' }],
  options: {},
  async run({ args: [volume], client, output }) {
    const snapshots = await client.request<SnapshotView[]>(
      'GET',
      volume === undefined ? '/v1/snapshots' : api`/v1/snapshots?volume=${volume}`,
    )
    output.result(snapshots, () =>
      formatTable(['SNAPSHOT', 'SIZE', 'USED', 'ATOMIC', 'MOUNTPOINT', 'CREATED'], snapshots.map(row)),
    )
    return 0
  },
})

const inspect = command({
  summary: 'show everything about snapshots',
  args: [{ ...refArgument, variadic: true }],
  options: {},
  run: ({ args: [refs], client, output }) =>
    showEach(refs, output, async (ref) => await client.request<SnapshotView>('GET', url(ref)), show),
})

const rm = command({
  summary: 'remove snapshots for good',
  args: [{ ...refArgument, variadic: true }],
  options: {},
  run: ({ args: [refs], output, work }) =>
    removeEach(refs, output, async (ref) => {
      await work('DELETE', url(ref))
      return [ref]
    }),
})

const revert = command({
  summary: 'make the volume what it was at the snapshot',
  description: 'What was written since is lost; the snapshots stay. The volume must not be in use.',
  args: [refArgument],
  options: {},
  async run({ args: [ref], output, work }) {
    await work('POST', `${url(ref)}/revert`, {})
    output.result(parseSnapshotRef(ref), () => ref)
    return 0
  },
})

const mount = command({
  summary: 'mount a snapshot read-only and print where',
  args: [refArgument],
  options: { at: { type: 'string', placeholder: 'DIR', help: 'a directory to mount it on' } },
  async run({ args: [ref], options: { at }, output, work }) {
    const body = at === undefined ? {} : { at: process.getBuiltinModule('node:path').resolve(at) }
    const mounted = await work<{ mountpoint: string }>('POST', `${url(ref)}/mount`, body)
    output.result(mounted, () => mounted.mountpoint)
    return 0
  },
})

const umount = command({
  summary: 'unmount a snapshot',
  args: [refArgument],
  options: {},
  async run({ args: [ref], output, work }) {
    await work('POST', `${url(ref)}/umount`, {})
    output.result(parseSnapshotRef(ref), () => ref)
    return 0
  },
})

interface Change {
  readonly path: string
  readonly change: 'added' | 'removed' | 'modified'
}

const marks = { added: 'A', removed: 'D', modified: 'M' } as const

const diff = command({
  summary: 'list the files that differ from one snapshot to another',
  description: 'A is added, D is removed, M is modified.',
  args: [
    { name: 'FROM', complete: 'snapshot' },
    { name: 'TO', complete: 'snapshot' },
  ],
  options: {},
  async run({ args: [from, to], output, work }) {
    const changes = await work<Change[]>('POST', '/v1/snapshots/diff', { from, to })
    output.result(changes, () =>
      changes.map(({ path: file, change }) => `${marks[change]} ${printable(file)}`).join('\n'),
    )
    return 0
  },
})

/** The verbs of snapshots. */
export const snapshot: Noun = { verbs: { create, ls, inspect, rm, revert, mount, umount, diff } }
