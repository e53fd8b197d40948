/** `holdfast doctor`. */

import type { Finding } from '../../server/schemas.ts'
import { command } from '../command.ts'
import { formatFields } from '../output.ts'

function show({ severity, check, subject, message, remedy }: Finding): string {
  return formatFields([
    [severity, `${subject} (${check})`],
    ['  fact', message],
    ['  remedy', remedy],
  ])
}

/** Shows what is wrong. */
export const doctor = command({
  summary: 'find what is wrong or at risk on this node, with the remedy',
  description: 'The exit code is 1 when anything is found, also when it is only a warning.',
  args: [],
  options: {},
  async run({ client, output }) {
    const findings = await client.request<Finding[]>('GET', '/v1/doctor')
    output.result(findings, () => findings.map(show).join('\n\n') || 'all is well')
    return findings.length > 0 ? 1 : 0
  },
})
