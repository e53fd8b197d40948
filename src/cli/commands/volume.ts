/** `holdfast volume`. What only some verbs need is loaded by them: `volume ls` is what people wait for. */

import type { TakeoverView, VolumeView } from '../../server/schemas.ts'
import { formatSize } from '../../units.ts'
import { api } from '../client.ts'
import { command, type Noun } from '../command.ts'
import { newVolumeOptions } from '../new-volume.ts'
import { formatAge, formatFields, formatMap, formatSizeOrNone, formatSpan, formatTable } from '../output.ts'

const nameArgument = { name: 'NAME', complete: 'volume' } as const

const create = command({
  summary: 'make a volume',
  description: [
    'Made again with the same options, a volume is left as it is. Options of every volume (-o): driver, size,',
    'on-remove=trash|delete|retain, from-snapshot, from-backup, target (whose credentials open the backup), label.K, and for',
    'consistent snapshots pre-snapshot and post-snapshot (commands that run in the container that uses the volume, or with',
    'host: before them on this node), hook-container and hook-timeout.',
  ].join('\n'),
  args: [{ name: 'NAME' }],
  options: {
    ...newVolumeOptions,
    'from-snapshot': {
      type: 'string',
      placeholder: 'VOLUME@SNAPSHOT',
      complete: 'snapshot',
      help: 'begin as a clone of it',
    },
    'from-backup': {
      type: 'string',
      placeholder: 'BACKUP',
      complete: 'backup',
      help: 'begin as it was in a backup: TARGET/VOLUME@latest, TARGET/ID, URL?backup=ID; with -o target=T without TARGET/',
    },
  },
  async run({ args: [name], options, output, work }) {
    const { createRequest } = await import('../create-request.ts')
    const volume = await work<VolumeView>('POST', '/v1/volumes', createRequest(name, options))
    output.result(volume, () => volume.name)
    return 0
  },
})

const headings = ['NAME', 'DRIVER', 'SIZE', 'USED', 'STATUS', 'MOUNTS', 'CREATED']

function row({ name, driver, size, used, status, mounts, createdAt }: VolumeView): string[] {
  return [
    name,
    driver,
    formatSizeOrNone(size),
    formatSizeOrNone(used),
    status,
    String(mounts.length),
    formatAge(createdAt),
  ]
}

const ls = command({
  summary: 'list volumes',
  args: [],
  options: {
    filter: {
      type: 'string',
      multiple: true,
      placeholder: 'KEY=VALUE',
      complete: 'filter',
      help: 'driver=D, label=K[=V], name=GLOB or dangling=true; may be repeated, all must hold',
    },
  },
  async run({ options, client, output }) {
    const query = options.filter ? (await import('../volume-filter.ts')).filterQuery(options.filter) : ''
    const volumes = await client.request<VolumeView[]>('GET', `/v1/volumes${query}`)
    output.result(volumes, () => formatTable(headings, volumes.map(row)))
    return 0
  },
})

function hookFields({ pre, post, container, timeoutMs }: VolumeView['hooks']): [string, string][] {
  const fields: [string, string | undefined][] = [
    ['pre-snapshot', pre],
    ['post-snapshot', post],
    ['hook container', container],
    ['hook timeout', timeoutMs === undefined ? undefined : formatSpan(timeoutMs)],
  ]
  return fields.filter((field): field is [string, string] => field[1] !== undefined)
}

/** The other nodes that mount it. */
function nodeNames({ nodes }: VolumeView): string {
  return nodes.map(({ name, alive }) => (alive ? name : `${name} (not heard of)`)).join(', ') || '-'
}

function show(volume: VolumeView): string {
  const { name, driver, scope, createdAt, status, statusDetail, size, used, mountpoint, mounts, onRemove, origin } =
    volume
  const { lastBackup } = volume
  return formatFields([
    ['name', name],
    ['driver', `${driver} (${scope})`],
    ['created', createdAt],
    ['status', statusDetail === undefined ? status : `${status}: ${statusDetail}`],
    ['size', formatSizeOrNone(size)],
    ['used', formatSizeOrNone(used)],
    ['mountpoint', mountpoint ?? '-'],
    [
      'mounts',
      mounts.map(({ id, since, stale }) => `${id} since ${since}${stale ? ' (stale)' : ''}`).join(', ') || '-',
    ],
    ...(scope === 'global' ? [['nodes', nodeNames(volume)] as [string, string]] : []),
    ['labels', formatMap(volume.labels)],
    ['options', formatMap(volume.options)],
    ['on remove', onRemove],
    ['origin', origin ?? '-'],
    ['snapshots', volume.snapshots.map((snapshot) => `${name}@${snapshot.name}`).join(', ') || '-'],
    ['last backup', lastBackup ? `${lastBackup.url}, ${formatAge(lastBackup.createdAt)}` : '-'],
    ...hookFields(volume.hooks),
  ])
}

const inspect = command({
  summary: 'show everything about volumes',
  args: [{ ...nameArgument, variadic: true }],
  options: {},
  async run({ args: [names], client, output }) {
    const { showEach } = await import('../each.ts')
    return await showEach(names, output, (name) => client.request<VolumeView>('GET', api`/v1/volumes/${name}`), show)
  },
})

const rm = command({
  summary: 'remove volumes: into the trash, unless they were made with another on-remove',
  args: [{ ...nameArgument, variadic: true }],
  options: { purge: { type: 'boolean', help: 'at once and for good' } },
  async run({ args: [names], options: { purge }, output, work }) {
    const { removeEach } = await import('../each.ts')
    return await removeEach(names, output, async (name) => {
      await work('DELETE', `${api`/v1/volumes/${name}`}${purge ? '?purge=true' : ''}`)
      return [name]
    })
  },
})

const resize = command({
  summary: 'change the size limit of a volume',
  args: [nameArgument, { name: 'SIZE' }],
  options: {},
  async run({ args: [name, size], output, work }) {
    const volume = await work<VolumeView>('POST', api`/v1/volumes/${name}/resize`, { size })
    output.result(volume, () => volume.name)
    return 0
  },
})

const update = command({
  summary: 'change the hooks of a volume',
  description: [
    'The options (-o) are pre-snapshot, post-snapshot, hook-container and hook-timeout, as for holdfast volume create; one with an',
    'empty value, such as pre-snapshot=, is removed, and what is not given stays. Nothing else of a volume changes but its size.',
  ].join('\n'),
  args: [nameArgument],
  options: {
    option: {
      type: 'string',
      multiple: true,
      required: true,
      short: 'o',
      placeholder: 'KEY=VALUE',
      complete: 'update-option',
      help: 'a hook, or how hooks run',
    },
  },
  async run({ args: [name], options: { option }, output, work }) {
    const { updateRequest } = await import('../create-request.ts')
    const volume = await work<VolumeView>('PATCH', api`/v1/volumes/${name}`, updateRequest(name, option))
    output.result(volume, () => volume.name)
    return 0
  },
})

const mount = command({
  summary: 'mount a volume on this host and print where',
  description: "It counts as a mount with the id 'cli', until holdfast volume umount.",
  args: [nameArgument],
  options: { at: { type: 'string', placeholder: 'DIR', help: 'a directory to mount it on' } },
  async run({ args: [name], options: { at }, output, work }) {
    const body = at === undefined ? {} : { at: process.getBuiltinModule('node:path').resolve(at) }
    const mounted = await work<{ mountpoint: string }>('POST', api`/v1/volumes/${name}/mount`, body)
    output.result(mounted, () => mounted.mountpoint)
    return 0
  },
})

const umount = command({
  summary: 'take a mount of holdfast volume mount back',
  args: [nameArgument],
  options: {},
  async run({ args: [name], output, work }) {
    await work('POST', api`/v1/volumes/${name}/umount`, {})
    output.result({ name }, () => name)
    return 0
  },
})

interface Usage {
  readonly name: string
  readonly used: number | null
  readonly size: number | null
}

const namesArgument = { ...nameArgument, variadic: true, optional: true } as const

const usage = command({
  summary: 'show what volumes use exactly; may walk all their data',
  args: [namesArgument],
  options: {},
  async run({ args: [names], client, output }) {
    const used = await client.request<Usage[]>('POST', '/v1/volumes/usage', { body: { names } })
    output.result(used, () =>
      formatTable(
        ['NAME', 'USED', 'SIZE'],
        used.map((one) => [one.name, formatSizeOrNone(one.used), formatSizeOrNone(one.size)]),
      ),
    )
    return 0
  },
})

const trim = command({
  summary: 'give room that volumes do not use back to the storage',
  args: [namesArgument],
  options: {},
  async run({ args: [names], client, output }) {
    const trimmed = await client.request<{ name: string; trimmed: number }[]>('POST', '/v1/volumes/trim', {
      body: { names },
    })
    output.result(trimmed, () =>
      formatTable(
        ['NAME', 'TRIMMED'],
        trimmed.map((one) => [one.name, formatSize(one.trimmed)]),
      ),
    )
    return 0
  },
})

const takeover = command({
  summary: 'make this node the one that may mount a volume with access=single',
  description: [
    'For a volume of a node that is gone for good: its right ends by itself some 20 s after the last sign of life, without this.',
    'The answer says what is at risk. While the other node is alive it is refused, unless forced.',
  ].join('\n'),
  args: [nameArgument],
  options: { force: { type: 'boolean', help: 'even though the node that has it is alive' } },
  async run({ args: [name], options: { force = false }, output, work }) {
    const taken = await work<TakeoverView>('POST', api`/v1/volumes/${name}/takeover`, { force })
    output.result(taken, () => takenText(taken))
    return 0
  },
})

function takenText({ name, from, risk }: TakeoverView): string {
  if (from === null) return `this node may mount ${name}; no other node had it`
  return `this node may mount ${name}, which node ${from} had; at risk: ${risk}`
}

/** The verbs of volumes. */
export const volume: Noun = { verbs: { create, ls, inspect, rm, resize, update, mount, umount, usage, trim, takeover } }
