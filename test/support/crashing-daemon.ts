/**
 * The daemon, as its own program starts it, that kills itself where a test wants it to:
 * `node crashing-daemon.ts FLAGS PLACE-FILE`. FLAGS are the settings as JSON; PLACE-FILE holds `KIND:PHASE` (such as
 * `volume.create:driven`), may change at any time, and is removed in the moment that its place is reached.
 */

import { readFileSync, rmSync } from 'node:fs'
import { flushCompileCache } from 'node:module'
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
// Where compiled code is kept (NODE_COMPILE_CACHE), that happens at an end that this process does not come to.
flushCompileCache()
process.once('SIGTERM', () => void daemon.stop())
