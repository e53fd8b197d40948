/** `holdfast trash`. */

import type { TrashView, VolumeView } from '../../server/schemas.ts'
import { api } from '../client.ts'
import { command, type Noun } from '../command.ts'
import { removeEach } from '../each.ts'
import { formatAge, formatSizeOrNone, formatSpan, formatTable } from '../output.ts'

const headings = ['NAME', 'ID', 'DRIVER', 'SIZE', 'SNAPSHOTS', 'REMOVED', 'PURGED IN']

function row({ name, id, driver, size, snapshots, deletedAt, purgeAt }: TrashView): string[] {
  const left = purgeAt === null ? 'never' : formatSpan(Date.parse(purgeAt) - Date.now(), Math.ceil)
  return [name, id, driver, formatSizeOrNone(size), String(snapshots), formatAge(deletedAt), left]
}

const ls = command({
  summary: 'list what can be restored',
  args: [],
  options: {},
  async run({ client, output }) {
    const items = await client.request<TrashView[]>('GET', '/v1/trash')
    output.result(items, () => formatTable(headings, items.map(row)))
    return 0
  },
})

const restore = command({
  summary: 'make a removed volume a volume again, with its data and snapshots',
  description: 'Of several of one name it is the one removed last; an ID from `holdfast trash ls` names any of them.',
  args: [{ name: 'NAME', complete: 'trash' }],
  options: { as: { type: 'string', placeholder: 'NEW', help: 'restore it under another name' } },
  async run({ args: [ref], options, output, work }) {
    const body = options.as === undefined ? {} : { as: options.as }
    const volume = await work<VolumeView>('POST', api`/v1/trash/${ref}/restore`, body)
    output.result(volume, () => volume.name)
    return 0
  },
})

const empty = command({
  summary: 'purge for good: all that has a purge time, or what is named',
  args: [{ name: 'NAME', variadic: true, optional: true, complete: 'trash' }],
  options: {},
  async run({ args: [names], output, work }) {
    const purge = async (path: string): Promise<string[]> => (await work<{ removed: string[] }>('DELETE', path)).removed
    if (names.length > 0) return await removeEach(names, output, (name) => purge(api`/v1/trash/${name}`))
    const removed = await purge('/v1/trash')
    output.result({ removed }, () => removed.join('\n'))
    return 0
  },
})

/** The verbs of the trash. */
export const trash: Noun = { verbs: { ls, restore, empty } }
