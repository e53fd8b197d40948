/** `holdfast info`. */

import type { InfoView } from '../../server/schemas.ts'
import { formatSize } from '../../units.ts'
import { command } from '../command.ts'
import { formatAge, formatFields, formatSpan } from '../output.ts'

type Fields = [string, string][]

function daemonFields({
  version,
  node,
  pid,
  startedAt,
  root,
  socket,
  pluginSocket,
  trashKeepMs,
  counts,
}: InfoView): Fields {
  return [
    ['version', version],
    ['node', node],
    ['daemon', `process ${pid}, started ${formatAge(startedAt)}`],
    ['root', root],
    ['socket', socket],
    ['plugin socket', pluginSocket],
    ['volumes', `${counts.volumes}, ${counts.mounted} mounted`],
    ['snapshots', String(counts.snapshots)],
    ['trash', `${counts.trash}, kept for ${formatSpan(trashKeepMs)}`],
    ['schedules', String(counts.schedules)],
  ]
}

function driverFields({
  name,
  scope,
  state,
  error,
  volumes,
  capabilities,
  facts,
  storage,
}: InfoView['drivers'][number]): Fields {
  return [
    ['driver', name],
    ['  state', error === undefined ? state : `${state}: ${error}`],
    ['  scope', scope],
    ['  volumes', String(volumes)],
    ['  capabilities', capabilities.join(', ') || '-'],
    ...(storage
      ? [['  storage', `${formatSize(storage.free)} free of ${formatSize(storage.size)}`] as [string, string]]
      : []),
    ...Object.entries(facts).map(([key, value]): [string, string] => [`  ${key}`, value]),
  ]
}

function targetField({ name, url, encrypted }: InfoView['targets'][number]): [string, string] {
  return [`target ${name}`, encrypted ? url : `${url}, not encrypted`]
}

/** Shows the node. */
export const info = command({
  summary: 'show the daemon, its drivers with their capabilities and storage, targets and counts',
  args: [],
  options: {},
  async run({ client, output }) {
    const view = await client.request<InfoView>('GET', '/v1/info')
    output.result(view, () =>
      formatFields([
        ...daemonFields(view),
        ['default driver', view.defaultDriver],
        ...view.drivers.flatMap(driverFields),
        ...view.targets.map(targetField),
      ]),
    )
    return 0
  },
})
