/** A daemon for process-life.test.ts to kill in a restore: `PLACE_JSON BACKUP TARGET`. */

import { createEngine } from '../../../src/engine/engine.ts'

const [place = '', backup = '', target = ''] = process.argv.slice(2)
const note = () => undefined
const engine = createEngine({ log: { debug: note, info: note, warn: note, error: note } })
await engine.run(JSON.parse(place), 'restoreTree', { backup, target, path: '' })
