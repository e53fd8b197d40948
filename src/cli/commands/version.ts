/** `holdfast version`. */

import { isAppError } from '../../errors.ts'
import { version as program } from '../../version.ts'
import { command } from '../command.ts'
import { formatFields } from '../output.ts'

/** Shows the versions; a daemon that does not answer is no error. */
export const version = command({
  summary: 'print the versions of this program and of the daemon',
  args: [],
  options: {},
  async run({ client, output }) {
    const daemon = await client.request<{ version: string }>('GET', '/v1/version').catch((error: unknown) => {
      if (isAppError(error, 'UNAVAILABLE', 'PERMISSION_DENIED')) return null
      throw error
    })
    output.result({ version: program, daemon: daemon?.version ?? null }, () =>
      formatFields([
        ['program', program],
        ['daemon', daemon?.version ?? 'not reached'],
      ]),
    )
    return 0
  },
})
