/** `holdfast daemon`: the only command that is no client. Its options are the daemon's settings. */

import { setFlagsFromString } from 'node:v8'
import { loadConfig, settings } from '../../config.ts'
import { command, type OptionSpec } from '../command.ts'

function option({ kind, placeholder, description, default: preset }: (typeof settings)[number]): OptionSpec {
  const help = preset.length > 0 ? `${description} (default: ${preset})` : description
  return { type: 'string', placeholder, help, ...(kind === 'text' ? {} : { multiple: true }) }
}

const settingOptions: Readonly<Record<string, OptionSpec>> = Object.fromEntries(
  settings.map((setting) => [setting.key, option(setting)]),
)

/** Resolves with the first signal that asks to stop; the same signal again ends the process at once. */
function stopRequested(): Promise<void> {
  return new Promise((resolve) => {
    process.once('SIGTERM', () => resolve())
    process.once('SIGINT', () => resolve())
  })
}

/** Runs until it is told to stop. @throws what keeps the daemon from starting */
export const daemon = command({
  summary: 'run the daemon in the foreground, until SIGTERM or SIGINT',
  description: [
    'Each option is also an environment variable (HOLDFAST_LOG_LEVEL) and a key of the settings file ("log-level"); an option',
    'wins over the variable, and the variable over the file. In a variable, values of a repeatable option have blanks between.',
    'Volumes stay mounted when the daemon ends.',
  ].join('\n'),
  args: [],
  options: {
    ...settingOptions,
    config: {
      type: 'string',
      placeholder: 'FILE',
      help: 'the settings file (default: /etc/holdfast/daemon.json, if it is there)',
    },
  },
  async run({ options: { config: file, ...options } }) {
    const flags = Object.entries(options).filter(([key]) => Object.hasOwn(settingOptions, key))
    const config = loadConfig(
      Object.fromEntries(flags) as Record<string, string | readonly string[]>,
      process.env,
      file,
    )
    // V8 would let garbage of short requests grow to 100 MB before it looks; a daemon that idles has better uses for that.
    setFlagsFromString('--optimize-for-size')
    const stop = stopRequested()
    const { startDaemon } = await import('../../daemon.ts')
    const running = await startDaemon(config)
    await stop
    await running.stop()
    return 0
  },
})
