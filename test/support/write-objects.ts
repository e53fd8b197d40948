/**
 * Writes objects into the directory that is its argument until it is killed: `node write-objects.ts DIRECTORY`. Object
 * N of M bytes is called `objects/N-M` and is filled with the byte N; each one's name is printed when it is stored.
 */

import { openDirStore } from '../../src/objectstore/dir.ts'

const store = await openDirStore(process.argv[2] ?? '')

async function write(first: number): Promise<void> {
  for (let number = first; ; number += 2) {
    const size = (number * 7919) % 300_000
    const key = `objects/${number % 5}/${number}-${size}`
    await store.put(key, new Uint8Array(size).fill(number), { ifAbsent: number % 3 === 0 })
    process.stdout.write(`${key}\n`)
  }
}

await Promise.all([write(0), write(1)])
