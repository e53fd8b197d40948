/**
 * A program that writes as a database does: appends the same number to two files, each made durable before the next write.
 * So at any instant `second` holds what `first` does, less at most the last number. Arguments: the directory. It prints `ready`
 * when it is at work, and runs until it is killed or its stdin ends.
 */

import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'

const directory = process.argv[2] as string
let stopped = false
process.stdin.on('end', () => {
  stopped = true
})
process.stdin.resume()

const [first, second] = ['first', 'second'].map((name) => openSync(join(directory, name), 'a')) as [number, number]
for (let count = 1; !stopped; count++) {
  for (const fd of [first, second]) {
    writeSync(fd, `${count}\n`)
    fsyncSync(fd)
  }
  if (count === 20) process.stdout.write('ready\n')
  await setImmediate()
}
closeSync(first)
closeSync(second)
process.stdin.destroy()
