/**
 * The daemon, as its own program starts it, that kills itself where a test wants it to:
 * `node crashing-daemon.ts FLAGS PLACE-FILE`. FLAGS are the settings as JSON; PLACE-FILE holds `KIND:PHASE` (such as
 * `volume.create:driven`), may change at any time, and is removed in the moment that its place is reached.
 */

import { readFileSync, rmSync } from 'node:fs'
import { loadConfig } from '../../src/config.ts'
import { startDaemon } from '../../src/daemon.ts'

const [flags = '{}', placeFile = ''] = process.argv.slice(2)

function wantedPlace(): string {
  try {
    return readFileSync(placeFile, 'utf8')
  } catch {
    return ''
  }
}

const daemon = await startDaemon(loadConfig(JSON.parse(flags) as Record<string, string | string[]>, {}), {
  onPhase: (kind, phase) => {
    if (wantedPlace() !== `${kind}:${phase}`) return
    rmSync(placeFile)
    process.kill(process.pid, 'SIGKILL')
  },
})
process.once('SIGTERM', () => void daemon.stop())
