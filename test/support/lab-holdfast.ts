/** The built daemon in a machine of the lab, with the settings of the machine's /etc/holdfast/daemon.json, and its CLI. */

import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { LabHost } from './lab-host.ts'
import type { LabProcess } from './lab-process.ts'

/** The program of the daemon and of its CLI. */
export const main = join(import.meta.dirname, '../../dist/src/cli/main.js')

/** Starts the daemon, again after a boot as well; resolves when its drivers are ready and what a crash interrupted is settled. */
export async function startHoldfast(host: LabHost): Promise<LabProcess> {
  if (!existsSync(main)) throw new Error(`${main} is not there: run scripts/build first`)
  const daemon = await host.start(process.execPath, [main, 'daemon'])
  const holdfast = `'${process.execPath}' '${main}'`
  const late = 5 * 60_000
  try {
    await host.sh(`until ${holdfast} info --json; do sleep 0.1; done >/tmp/info 2>/dev/null`, late)
    await host.sh(`while grep -q '"state": *"starting"' /tmp/info; do ${holdfast} info --json >/tmp/info; done`, late)
    await host.sh(
      `until [[ $(${holdfast} operation ls --json | tr -d '[:space:]') == '[]' ]]; do sleep 0.2; done`,
      late,
    )
  } catch (error) {
    throw new Error(`the daemon did not start in ${host.name}:\n${daemon.stdout.slice(-4000)}`, { cause: error })
  }
  return daemon
}

/** Runs `holdfast ARGS` in the machine. @returns stdout, trimmed @throws with its stderr when it fails */
export async function holdfastIn(host: LabHost, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await host.run(process.execPath, [main, ...args], 180_000)
  if (code !== 0) throw new Error(`holdfast ${args.join(' ')}: ${code}: ${stderr.trim()}${stdout.trim()}`)
  return stdout.trim()
}
