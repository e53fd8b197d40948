/** The program behind `startSwapper`. Arguments: the volume's directory, and what the symlink leads to. */

import { renameSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'

const [directory, outside] = process.argv.slice(2) as [string, string]
const [real, hidden, trap] = ['real', 'hidden', 'trap'].map((name) => join(directory, name)) as [string, string, string]
let stopped = false
process.stdin.on('end', () => {
  stopped = true
})
process.stdin.resume()

symlinkSync(outside, trap)
process.stdout.write('ready\n')
while (!stopped) {
  for (let i = 0; i < 100; i++) {
    renameSync(real, hidden)
    renameSync(trap, real)
    renameSync(real, trap)
    renameSync(hidden, real)
  }
  await setImmediate()
}
process.stdin.destroy()
